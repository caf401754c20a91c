package thinpool

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/ioctl"
)

// Wipe makes a device blank to CheckBlank and to everybody who looks for signatures: it zeroes both ends. The first block
// goes last, so that a device whose wiping was cut short is still known for what it was. ErrBusy when it is in use.
func Wipe(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_EXCL|unix.O_CLOEXEC, 0)
	if err != nil {
		if errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("wiping %s: it is mounted or part of another device: %w", path, ErrBusy)
		}
		return fmt.Errorf("wiping device: %w", err)
	}
	defer f.Close()
	size, err := ioctl.BlockSize(f)
	if err != nil {
		return err
	}
	n := min(int64(size), blankProbe)
	zeroes := make([]byte, n)
	for _, part := range []struct{ at, length int64 }{
		{int64(size) - n, n}, {superblockSize, n - superblockSize}, {0, superblockSize},
	} {
		if _, err := f.WriteAt(zeroes[:max(part.length, 0)], part.at); err != nil {
			return fmt.Errorf("wiping %s: %w", path, err)
		}
		if err := f.Sync(); err != nil {
			return fmt.Errorf("wiping %s: %w", path, err)
		}
	}
	// The kernel forgets the partitions that the table named. A device that cannot have any says EINVAL.
	if err := unix.IoctlSetInt(int(f.Fd()), unix.BLKRRPART, 0); errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("a partition of %s is in use: %w", path, ErrBusy)
	}
	return nil
}
