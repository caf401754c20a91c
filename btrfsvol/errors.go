package btrfsvol

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// What an error of this package may wrap; compare with errors.Is. The errno of
// the kernel is wrapped too.
var (
	// ErrNotFound: there is no such subvolume, directory or quota group.
	ErrNotFound = errors.New("not found")
	// ErrExists: the name or quota group is taken.
	ErrExists = errors.New("exists already")
	// ErrBusy: a swap file, a running send or a quota group's member is in the way.
	ErrBusy = errors.New("busy")
	// ErrNoSpace: the file system or the quota group is full.
	ErrNoSpace = errors.New("no space left")
	// ErrReadOnly: the subvolume or the file system is read-only.
	ErrReadOnly = errors.New("read-only")
	// ErrNotSupported: the kernel or this file system does not have the feature.
	ErrNotSupported = errors.New("not supported")
	// ErrNotBtrfs: the directory lies on another file system.
	ErrNotBtrfs = errors.New("not a btrfs file system")
	// ErrCorrupt: the kernel's answer could not be understood.
	ErrCorrupt = errors.New("unreadable btrfs structure")
)

// wrap says what was being done to what, and adds the sentinel that fits.
func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	what := fmt.Sprintf(format, args...)
	if sentinel := sentinelOf(err); sentinel != nil {
		return fmt.Errorf("btrfs: %s: %w: %w", what, sentinel, err)
	}
	return fmt.Errorf("btrfs: %s: %w", what, err)
}

func sentinelOf(err error) error {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return nil
	}
	switch errno {
	case unix.ENOENT:
		return ErrNotFound
	case unix.EEXIST:
		return ErrExists
	case unix.EBUSY, unix.ETXTBSY, unix.ENOTEMPTY:
		return ErrBusy
	case unix.ENOSPC, unix.EDQUOT:
		return ErrNoSpace
	case unix.EROFS:
		return ErrReadOnly
	case unix.ENOTTY, unix.EOPNOTSUPP, unix.ENOSYS:
		return ErrNotSupported
	}
	return nil
}
