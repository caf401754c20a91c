package thin

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/ioctl"
	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/mount"
)

// A fileSystem is what a volume's device holds: ext4 or xfs.
type fileSystem string

const (
	ext4 fileSystem = "ext4"
	xfs  fileSystem = "xfs"
)

// smallXFS is below what mkfs.xfs lays out with a log of 64 MiB by itself.
const smallXFS = 1 << 30

// fsBlock is the block size that both file systems are made with.
const fsBlock = 4096

func parseFileSystem(name string) (fileSystem, error) {
	switch fs := fileSystem(name); fs {
	case "":
		return ext4, nil
	case ext4, xfs:
		return fs, nil
	}
	return "", fmt.Errorf("file system %q: choose ext4 or xfs: %w", name, snapshot.ErrInvalid)
}

// mkfs is the command line that makes the file system on a blank thin device, for pool blocks of a size in bytes.
// Both are laid out so that files begin at pool blocks, whose whole writes skip copying and zeroing, and write as
// little as they can: what mkfs writes every volume maps, and what the kernel initialises later in the background
// every volume would have to copy.
func (fs fileSystem) mkfs(device string, size int64, poolBlock uint64) []string {
	if fs == xfs {
		layout := fmt.Sprintf("su=%d,sw=1", poolBlock)
		if size < smallXFS {
			layout += ",agcount=2" // in one of four groups the least log, 64 MiB, has no room
		}
		return []string{"mkfs.xfs", "-q", "-f", "-K", "-d", layout, "-l", "size=64m,su=4096", device}
	}
	stride := poolBlock / fsBlock
	return []string{
		"mkfs.ext4", "-q", "-F", "-b", fmt.Sprint(fsBlock), "-m", "0", "-J", "size=4",
		"-E", fmt.Sprintf("nodiscard,assume_storage_prezeroed=1,stride=%d,stripe_width=%d", stride, stride), device,
	}
}

// findMkfs looks for the program before anything is made.
func (fs fileSystem) findMkfs() error {
	name := fs.mkfs("", 0, fsBlock)[0]
	if _, err := exec.LookPath(name); err != nil {
		pkg := map[fileSystem]string{ext4: "e2fsprogs", xfs: "xfsprogs"}[fs]
		return fmt.Errorf("%s is missing; install the package %s: %w", name, pkg, snapshot.ErrNotSupported)
	}
	return nil
}

// makeFileSystem makes an empty file system with the root directory that images expect: 0755, root's, nothing in it.
func (c config) makeFileSystem(ctx context.Context, device string) error {
	fs := c.FileSystem
	line := fs.mkfs(device, c.BaseSize, c.Pool.BlockSize.Bytes())
	out, err := exec.CommandContext(ctx, line[0], line[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("running %s: %w: %s", line[0], err, strings.TrimSpace(string(out)))
	}
	return fs.with(device, func(root *os.File) error {
		err := unix.Unlinkat(int(root.Fd()), "lost+found", unix.AT_REMOVEDIR)
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("removing lost+found: %w", err)
		}
		if err := root.Chmod(0o755); err != nil {
			return err
		}
		return unix.Syncfs(int(root.Fd()))
	})
}

// with mounts the device for writing nowhere in particular and hands its root directory to use. The mount is held by
// file descriptors alone, so that no crash can leave it behind (fsopen and fsmount, Linux 5.2).
func (fs fileSystem) with(device string, use func(root *os.File) error) error {
	root, err := fs.open(device)
	if err != nil {
		return fmt.Errorf("mounting %s on %s: %w", fs, device, err)
	}
	return errors.Join(use(root), root.Close())
}

// open gives the root directory of a mount that ends when the directory is closed.
func (fs fileSystem) open(device string) (*os.File, error) {
	config, err := unix.Fsopen(string(fs), unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, err
	}
	defer unix.Close(config)
	if err := unix.FsconfigSetString(config, "source", device); err != nil {
		return nil, err
	}
	if fs == xfs {
		if err := unix.FsconfigSetFlag(config, "nouuid"); err != nil {
			return nil, err
		}
	}
	if err := unix.FsconfigCreate(config); err != nil {
		return nil, err
	}
	m, err := unix.Fsmount(config, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(m)
	fd, err := unix.Openat(m, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), device), nil
}

// grow makes the file system on the device as large as the device.
func (fs fileSystem) grow(device string, size int64) error {
	return fs.with(device, func(root *os.File) error {
		var err error
		if fs == xfs {
			err = ioctl.GrowXFS(root, uint64(size)/fsBlock)
		} else {
			err = ioctl.GrowExt4(root, uint64(size)/fsBlock)
		}
		if err == nil {
			err = unix.Syncfs(int(root.Fd()))
		}
		if err != nil {
			return fmt.Errorf("growing %s to %d bytes: %w", fs, size, err)
		}
		return nil
	})
}

// whole says that the device is known to have no journal to replay. Whether an xfs has one only mounting it tells.
func (fs fileSystem) whole(device string) (bool, error) {
	if fs != ext4 {
		return false, nil
	}
	dirty, err := ext4NeedsRecovery(device)
	return !dirty, err
}

// recover replays a journal that a crash left, since a read-only device cannot: mounting for writing does.
func (fs fileSystem) recover(device string) error {
	return errors.Join(fs.with(device, func(*os.File) error { return nil }), fs.written(device))
}

// written makes sure that unmounting has reached the disk, which unmounting itself does not tell: a sealed ext4 with a
// journal to replay cannot be mounted, and a sealed xfs is mounted without what is in its log.
func (fs fileSystem) written(device string) error {
	clean, err := fs.clean(device)
	if err == nil && !clean {
		err = fmt.Errorf("unmounting did not reach %s: %w", device, unix.EIO)
	}
	return err
}

// clean says whether there is nothing to replay.
func (fs fileSystem) clean(device string) (bool, error) {
	if fs == xfs {
		return xfsClean(device)
	}
	dirty, err := ext4NeedsRecovery(device)
	return !dirty, err
}

// ext4NeedsRecovery says whether it has a journal to replay.
func ext4NeedsRecovery(device string) (bool, error) {
	f, err := os.Open(device)
	if err != nil {
		return false, err
	}
	defer f.Close()
	fs, err := openExt4(f)
	if err != nil {
		return false, err
	}
	return fs.dirty(), nil
}

// mount is the line that shows the file system. A snapshot that was taken of a mounted xfs has a log that it would
// replay, which it cannot on a read-only device; freezing has made the rest of it whole. Access times are not kept: with
// them a mere look at a container's files would copy every block of their inodes.
func (fs fileSystem) mount(device string, readOnly bool) mount.Mount {
	m := mount.Mount{Type: string(fs), Source: device}
	switch {
	case fs == xfs && readOnly:
		m.Options = []string{"ro", "norecovery", "nouuid"}
	case readOnly:
		m.Options = []string{"ro"}
	case fs == xfs:
		m.Options = []string{"noatime", "nouuid"}
	default:
		m.Options = []string{"noatime"}
	}
	return m
}
