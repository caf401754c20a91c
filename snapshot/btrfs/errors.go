package btrfs

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/btrfsvol"
	"blockstore.dev/blockstore/snapshot"
)

// translate adds the store's sentinel to an error of btrfsvol or the kernel and
// says what was being done.
func translate(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	what := fmt.Sprintf(format, args...)
	for _, pair := range [...]struct{ from, to error }{
		{btrfsvol.ErrNotFound, snapshot.ErrNotFound},
		{btrfsvol.ErrExists, snapshot.ErrExists},
		{btrfsvol.ErrBusy, snapshot.ErrBusy},
		{btrfsvol.ErrNoSpace, snapshot.ErrNoSpace},
		{btrfsvol.ErrReadOnly, snapshot.ErrReadOnly},
		{btrfsvol.ErrNotSupported, snapshot.ErrNotSupported},
		{btrfsvol.ErrCorrupt, snapshot.ErrCorrupt},
		{btrfsvol.ErrNotBtrfs, snapshot.ErrCorrupt},
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
