package thinpool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/internal/durable"
	"blockstore.dev/blockstore/ioctl"
)

// A disk is a pool's data or metadata device. For a loopback pool it holds the loop device open, which detaches when
// the last holder (this, then the pool) has gone.
type disk struct {
	path   string // of the block device
	number dm.Number
	loop   *ioctl.Loop
}

// disks are both.
type disks struct{ data, metadata disk }

func (d *disks) close() {
	for _, l := range []*ioctl.Loop{d.data.loop, d.metadata.loop} {
		if l != nil {
			l.Close()
		}
	}
}

// open finds or attaches the pool's devices. They stay as long as the pool or the returned value holds them.
func (c Config) open(ctx context.Context, client *dm.Client) (_ *disks, err error) {
	var d disks
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	if c.Joined {
		d.data, err = c.join(ctx, client)
	} else {
		d.data, err = c.openDisk(ctx, c.Data)
	}
	if err != nil {
		return nil, fmt.Errorf("opening data of pool %s: %w", c.Name, err)
	}
	if d.metadata, err = c.openDisk(ctx, c.Metadata); err != nil {
		return nil, fmt.Errorf("opening metadata of pool %s: %w", c.Name, err)
	}
	if d.data.number == d.metadata.number {
		return nil, fmt.Errorf("%s and %s are the same device: %w", c.Data, c.Metadata, ErrInvalid)
	}
	return &d, nil
}

func (c Config) openDisk(ctx context.Context, path string) (disk, error) {
	if !c.Loopback {
		n, err := dm.BlockDeviceNumber(path)
		return disk{path: path, number: n}, err
	}
	l, err := attachFile(ctx, path)
	if err != nil {
		return disk{}, err
	}
	n, err := dm.BlockDeviceNumber(l.Path())
	if err != nil {
		return disk{}, errors.Join(err, l.Close())
	}
	return disk{path: l.Path(), number: n, loop: l}, nil
}

// attachFile takes the loop device that backs the file already, after a process that died, or attaches one.
func attachFile(ctx context.Context, path string) (*ioctl.Loop, error) {
	l, err := ioctl.FindLoop(path)
	if err == nil {
		// It may have detached between being found and being opened; now that it is open it cannot any more.
		var now unix.Stat_t
		if err := unix.Stat(path, &now); err != nil {
			return nil, errors.Join(fmt.Errorf("looking at %s: %w", path, err), l.Close())
		}
		if info, err := l.Info(); err == nil && info.INode == now.Ino && info.Device == uint64(now.Dev) {
			return l, nil
		}
		l.Close()
	} else if !errors.Is(err, ioctl.ErrLoopNotFound) {
		return nil, err
	}
	return ioctl.AttachLoop(ctx, path, ioctl.LoopOptions{AutoClear: true})
}

// size is the device's size in bytes.
func (d disk) size() (uint64, error) {
	if d.loop != nil {
		return ioctl.BlockSize(d.loop.File())
	}
	f, err := os.OpenFile(d.path, os.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("looking at size: %w", err)
	}
	defer f.Close()
	return ioctl.BlockSize(f)
}

// makeFiles makes the files of a loopback pool: data sparse, metadata fully allocated, since metadata that cannot be
// written breaks the pool while data that cannot be written only fails a write.
func (o CreateOptions) makeFiles() error {
	if err := makeFile(o.Data, o.DataSize, false); err != nil {
		return err
	}
	if err := makeFile(o.Metadata, o.MetadataSize, true); err != nil {
		return errors.Join(err, os.Remove(o.Data))
	}
	return nil
}

// makeFile makes a new file of a size; an existing one is somebody's data and stays.
func makeFile(path string, size uint64, allocated bool) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("making pool file: %w", err)
	}
	defer f.Close()
	if err = resizeFile(f, 0, size, allocated); err == nil {
		err = durable.Dir(filepath.Dir(path))
	}
	if err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// resizeFile grows a file and makes its new size durable.
func resizeFile(f *os.File, from, to uint64, allocated bool) error {
	if !allocated {
		if err := f.Truncate(int64(to)); err != nil {
			return fmt.Errorf("growing pool file: %w", err)
		}
	} else if err := allocate(f, from, to); err != nil {
		return fmt.Errorf("allocating %d bytes for %s: %w", to-from, f.Name(), err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("growing pool file: %w", err)
	}
	return nil
}

// allocate reserves blocks from the file system below, by writing zeroes where it cannot reserve.
func allocate(f *os.File, from, to uint64) error {
	err := unix.Fallocate(int(f.Fd()), 0, int64(from), int64(to-from))
	if errors.Is(err, unix.EOPNOTSUPP) {
		zeroes := make([]byte, 1<<20)
		for err = nil; from < to && err == nil; {
			n := min(to-from, uint64(len(zeroes)))
			_, err = f.WriteAt(zeroes[:n], int64(from))
			from += n
		}
	}
	if errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return err
}

func (c Config) removeFiles() error {
	var errs []error
	for _, path := range []string{c.Data, c.Metadata} {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("removing pool file: %w", err))
		}
	}
	if err := durable.Dir(filepath.Dir(c.Data)); !errors.Is(err, os.ErrNotExist) { // gone with its files: an earlier destruction
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
