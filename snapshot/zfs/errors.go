package zfs

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/zfsds"
)

// translate adds the store's sentinel to an error of zfsds or the kernel and says what was
// being done.
func translate(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	what := fmt.Sprintf(format, args...)
	for _, pair := range [...]struct{ from, to error }{
		{zfsds.ErrNotFound, snapshot.ErrNotFound},
		{zfsds.ErrExists, snapshot.ErrExists},
		{zfsds.ErrBusy, snapshot.ErrBusy},
		{zfsds.ErrDependents, snapshot.ErrBusy},
		{zfsds.ErrNoSpace, snapshot.ErrNoSpace},
		{zfsds.ErrReadOnly, snapshot.ErrReadOnly},
		{zfsds.ErrNotSupported, snapshot.ErrNotSupported},
		{zfsds.ErrNoKey, snapshot.ErrNotSupported},
		{zfsds.ErrInvalid, snapshot.ErrInvalid},
		{zfsds.ErrCorrupt, snapshot.ErrCorrupt},
		{unix.ENOSPC, snapshot.ErrNoSpace},
		{unix.EDQUOT, snapshot.ErrNoSpace},
		{unix.EBUSY, snapshot.ErrBusy},
	} {
		if errors.Is(err, pair.from) && !errors.Is(err, pair.to) {
			return fmt.Errorf("%s: %w: %w", what, pair.to, err)
		}
	}
	return fmt.Errorf("%s: %w", what, err)
}
