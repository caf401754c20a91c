package btrfs

import (
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
	return snapshot.Explain(err, fmt.Sprintf(format, args...), []snapshot.Meaning{
		{Of: btrfsvol.ErrNotFound, Is: snapshot.ErrNotFound},
		{Of: btrfsvol.ErrExists, Is: snapshot.ErrExists},
		{Of: btrfsvol.ErrBusy, Is: snapshot.ErrBusy},
		{Of: btrfsvol.ErrNoSpace, Is: snapshot.ErrNoSpace},
		{Of: btrfsvol.ErrReadOnly, Is: snapshot.ErrReadOnly},
		{Of: btrfsvol.ErrNotSupported, Is: snapshot.ErrNotSupported},
		{Of: btrfsvol.ErrCorrupt, Is: snapshot.ErrCorrupt},
		{Of: btrfsvol.ErrNotBtrfs, Is: snapshot.ErrCorrupt},
		{Of: unix.ENOSPC, Is: snapshot.ErrNoSpace},
		{Of: unix.EDQUOT, Is: snapshot.ErrNoSpace},
		{Of: unix.EBUSY, Is: snapshot.ErrBusy},
	})
}
