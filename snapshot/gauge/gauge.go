package gauge

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/ioctl"
	"blockstore.dev/blockstore/snapshot/mount"
)

const (
	// block is the file system's block size.
	block = 4096
	// bytesPerInode leaves a tenth of a percent to inodes, of which there are enough for nobody to miss them.
	bytesPerInode = 256 << 10
	// passes are made to reach what is to be shown: the ballast's own extents take blocks too.
	passes = 3
)

// Gauge is the file system at a directory. It is safe for concurrent use.
type Gauge struct {
	dir string

	mu      sync.Mutex
	total   int64
	image   *os.File // without a name
	ballast *os.File
}

// At is a gauge that shows nothing yet.
func At(dir string) *Gauge { return &Gauge{dir: dir} }

// Clear takes away what a process that died has left at dir. The directory stays.
func Clear(dir string) error {
	below, err := mount.Below(dir)
	for range below { // one on top of the other
		err = errors.Join(err, mount.Detach(dir))
	}
	return err
}

// Remove takes away the directory, too, with whatever a process that died has left. One that is not there is no error.
func Remove(dir string) error {
	if err := Clear(dir); err != nil {
		return err
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// Show has statfs say that used of total bytes are taken. It is off by 0.2 % at most, and
// more only where less than that is used: the file system's own blocks are not free. A new
// total makes the file system anew, by mkfs.ext4; otherwise no program runs.
func (g *Gauge) Show(ctx context.Context, total, used int64) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if total -= total % block; total != g.total {
		if err := g.renew(ctx, total); err != nil {
			return fmt.Errorf("showing how full the store is at %s: %w", g.dir, err)
		}
	}
	if err := g.fill(max(total-used, 0)); err != nil {
		return fmt.Errorf("showing how full the store is at %s: %w", g.dir, err)
	}
	return nil
}

// Total is what is shown as the total, 0 while nothing is.
func (g *Gauge) Total() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.total
}

// Close takes the file system away, whoever looks at it. The directory stays.
func (g *Gauge) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.close()
}

func (g *Gauge) close() error {
	var err error
	if g.ballast != nil {
		err = errors.Join(g.ballast.Close(), mount.Detach(g.dir))
	}
	if g.image != nil {
		err = errors.Join(err, g.image.Close())
	}
	g.image, g.ballast, g.total = nil, nil, 0
	return err
}

// renew makes the file system, of that size.
func (g *Gauge) renew(ctx context.Context, total int64) (err error) {
	if err := errors.Join(g.close(), os.MkdirAll(g.dir, 0o755)); err != nil {
		return err
	}
	if g.image, err = sparse(filepath.Dir(g.dir), total); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.close())
		}
	}()
	back := "/proc/self/fd/" + strconv.Itoa(int(g.image.Fd()))
	loop, err := ioctl.AttachLoop(ctx, back, ioctl.LoopOptions{AutoClear: true, Buffered: true})
	if err != nil {
		return err
	}
	defer loop.Close() // the mount keeps it
	if err := format(ctx, loop.Path()); err != nil {
		return err
	}
	// minixdf: the file system's own blocks are part of the total.
	m := mount.Mount{Type: "ext4", Source: loop.Path(), Options: []string{"minixdf", "noatime", "nosuid", "nodev", "noexec"}}
	if err := mount.At(m, g.dir); err != nil {
		return err
	}
	// Blocks that ext4 keeps back for itself count as taken: none. An older kernel without the file shows 16 MiB less.
	_ = os.WriteFile(filepath.Join("/sys/fs/ext4", filepath.Base(loop.Path()), "reserved_clusters"), []byte("0"), 0)
	g.ballast, err = os.OpenFile(filepath.Join(g.dir, "used"), os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return errors.Join(err, mount.Detach(g.dir))
	}
	g.total = total
	return nil
}

// sparse is a file without a name.
func sparse(dir string, size int64) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("making a file in %s: %w", dir, err)
	}
	f := os.NewFile(uintptr(fd), dir)
	if err := f.Truncate(size); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func format(ctx context.Context, device string) error {
	line := []string{
		"-q", "-F", "-b", strconv.Itoa(block), "-m", "0", "-i", strconv.Itoa(bytesPerInode), "-O", "^has_journal,^resize_inode",
		"-E", "nodiscard,assume_storage_prezeroed=1", device,
	}
	out, err := exec.CommandContext(ctx, "mkfs.ext4", line...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("running mkfs.ext4: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// fill gives the ballast the size at which so many bytes are free.
func (g *Gauge) fill(free int64) error {
	for range passes {
		var fs unix.Statfs_t
		if err := unix.Fstatfs(int(g.ballast.Fd()), &fs); err != nil {
			return err
		}
		more := int64(fs.Bavail) - free/block
		st, err := g.ballast.Stat()
		if err != nil {
			return err
		}
		switch size := st.Size() + more*block; {
		case more == 0:
			return nil
		case more < 0:
			err = g.ballast.Truncate(max(size, 0))
		default:
			err = unix.Fallocate(int(g.ballast.Fd()), 0, st.Size(), size-st.Size())
		}
		if err != nil && !errors.Is(err, unix.ENOSPC) { // full is full
			return err
		}
	}
	return nil
}
