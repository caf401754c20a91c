package zfsds

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Mount mounts a file system, or a snapshot, which is read-only by nature, at a directory by
// mount(2). The same file system cannot be mounted both for reading only and for writing:
// ErrBusy. unix.Unmount is its opposite.
func Mount(name, dir string, readOnly bool) error {
	if err := checkAny(name); err != nil {
		return err
	}
	var flags uintptr
	if readOnly {
		flags = unix.MS_RDONLY
	}
	err := unix.Mount(name, dir, "zfs", flags, "")
	if errors.Is(err, unix.ENODEV) {
		err = errors.Join(ErrNotSupported, err)
	}
	return failure("mount", name, err)
}
