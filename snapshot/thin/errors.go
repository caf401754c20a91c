package thin

import (
	"errors"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/thinpool"
	"blockstore.dev/blockstore/thinpool/lvm"
)

// kindError says what an error of the pool means to the store, without changing its text.
type kindError struct {
	kind error
	err  error
}

func (e *kindError) Error() string   { return e.err.Error() }
func (e *kindError) Unwrap() []error { return []error{e.kind, e.err} }

// kinds are in the order of asking: a pool that needs a check is read-only too.
func kinds() []kindError {
	return []kindError{
		{snapshot.ErrNotSupported, thinpool.ErrNoTools},
		{snapshot.ErrUnconfirmed, snapshot.ErrUnconfirmed},
		{snapshot.ErrCorrupt, thinpool.ErrNeedsCheck},
		{snapshot.ErrCorrupt, thinpool.ErrFailed},
		{snapshot.ErrCorrupt, thinpool.ErrCorrupt},
		{snapshot.ErrCorrupt, thinpool.ErrNotFormatted},
		{snapshot.ErrCorrupt, thinpool.ErrNotRepaired},
		{snapshot.ErrCorrupt, thinpool.ErrForeign},
		{snapshot.ErrCorrupt, thinpool.ErrTransaction},
		{snapshot.ErrReadOnly, thinpool.ErrReadOnly},
		{snapshot.ErrCorrupt, thinpool.ErrUnknownOutcome},
		{snapshot.ErrNoSpace, thinpool.ErrNoSpace},
		{snapshot.ErrNoSpace, thinpool.ErrWornOut},
		{snapshot.ErrBusy, thinpool.ErrBusy},
		{snapshot.ErrNotFound, thinpool.ErrNotFound},
		{snapshot.ErrExists, thinpool.ErrExists},
		{snapshot.ErrInvalid, thinpool.ErrNotBlank},
		{snapshot.ErrInvalid, thinpool.ErrInvalid},
		{snapshot.ErrNotSupported, dm.ErrNotSupported},
		{snapshot.ErrNotSupported, lvm.ErrMissing},
		{snapshot.ErrBusy, lvm.ErrForeign},
		{snapshot.ErrNotFound, lvm.ErrNotFound},
		{snapshot.ErrNotFound, thinpool.ErrInactive},
		{snapshot.ErrBusy, dm.ErrBusy},
		{snapshot.ErrNoSpace, unix.ENOSPC},
		{snapshot.ErrBusy, unix.EBUSY},
	}
}

// translate wraps an error around the store's sentinel.
func translate(err error) error {
	if err == nil {
		return nil
	}
	for _, k := range kinds() {
		if errors.Is(err, k.err) {
			return &kindError{kind: k.kind, err: err}
		}
	}
	return err
}
