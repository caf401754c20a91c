package zfsds

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/ioctl"
)

// What an error of this package may wrap; compare with errors.Is. The errno of the kernel is
// wrapped too, where there was one: the commands give none.
var (
	// ErrNotFound: there is no such pool, dataset, snapshot, hold or property.
	ErrNotFound = errors.New("not found")
	// ErrExists: the name is taken.
	ErrExists = errors.New("exists already")
	// ErrBusy: it is mounted, in whatever mount namespace, held, or being sent.
	ErrBusy = errors.New("busy")
	// ErrDependents: a dataset has children or snapshots, or a snapshot has clones.
	ErrDependents = errors.New("has dependents")
	// ErrNoSpace: the pool is full, or a quota is reached.
	ErrNoSpace = errors.New("no space left")
	// ErrReadOnly: the pool was imported read-only, or the property cannot be changed.
	ErrReadOnly = errors.New("read-only")
	// ErrNoKey: the dataset is encrypted and its key is not loaded (zfs-load-key(8)).
	ErrNoKey = errors.New("encryption key not loaded")
	// ErrNotSupported: there is no ZFS here, or this release or this way (Access) cannot do it.
	ErrNotSupported = errors.New("not supported")
	// ErrInvalid: a name, a property or a combination of arguments is wrong.
	ErrInvalid = errors.New("invalid")
	// ErrCorrupt: the module's or a command's answer could not be understood.
	ErrCorrupt = errors.New("unreadable answer")
)

// An operation is what was asked for: what an errno means depends on it.
type operation string

const (
	opCreate   operation = "create"
	opClone    operation = "clone"
	opSnapshot operation = "snapshot"
	opDestroy  operation = "destroy"
	opDestroyS operation = "destroy snapshot"
	opRename   operation = "rename"
	opPromote  operation = "promote"
	opRollback operation = "roll back"
	opSet      operation = "set properties of"
	opInherit  operation = "clear a property of"
	opRead     operation = "read"
	opList     operation = "list"
	opHold     operation = "hold"
	opRelease  operation = "release"
	opSend     operation = "send"
	opReceive  operation = "receive"
	opCompare  operation = "compare"
	opSync     operation = "sync"
)

// failure wraps what went wrong with a dataset, with the sentinel that fits.
func failure(op operation, name string, err error) error {
	if err == nil {
		return nil
	}
	if sentinel := sentinelOf(op, err); sentinel != nil && !errors.Is(err, sentinel) {
		return fmt.Errorf("zfs: %s %s: %w: %w", op, name, sentinel, err)
	}
	return fmt.Errorf("zfs: %s %s: %w", op, name, err)
}

// meanings are the errnos that depend on the operation: dsl_destroy.c, dsl_dataset.c.
var meanings = map[operation]map[unix.Errno]error{
	opDestroy:  {unix.EEXIST: ErrDependents},
	opDestroyS: {unix.EEXIST: ErrDependents},
	opHold:     {unix.EEXIST: ErrExists},
	opRelease:  {unix.ESRCH: ErrNotFound},
	opReceive:  {unix.ETXTBSY: ErrInvalid, unix.ENODEV: ErrNotFound, unix.ESTALE: ErrInvalid},
	opRollback: {unix.EEXIST: ErrDependents, unix.ESRCH: ErrNotFound},
	opSend:     {unix.EXDEV: ErrInvalid},
	opCompare:  {unix.EXDEV: ErrInvalid},
}

func sentinelOf(op operation, err error) error {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return nil
	}
	if sentinel := meanings[op][errno]; sentinel != nil {
		return sentinel
	}
	switch errno {
	case unix.ENOENT:
		return ErrNotFound
	case unix.EEXIST:
		return ErrExists
	case unix.EBUSY:
		return ErrBusy
	case unix.ENOSPC, unix.EDQUOT:
		return ErrNoSpace
	case unix.EROFS:
		return ErrReadOnly
	case unix.EACCES:
		return ErrNoKey
	case unix.EINVAL, unix.ENAMETOOLONG, unix.EXDEV, unix.EDOM, unix.ERANGE, unix.E2BIG:
		return ErrInvalid
	case unix.EOPNOTSUPP, unix.ENOTTY, ioctl.ZFS_ERR_IOC_CMD_UNAVAIL, ioctl.ZFS_ERR_IOC_ARG_UNAVAIL,
		ioctl.ZFS_ERR_IOC_ARG_REQUIRED, ioctl.ZFS_ERR_IOC_ARG_BADTYPE:
		return ErrNotSupported
	}
	return nil
}
