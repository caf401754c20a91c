package zfs

import (
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
	return snapshot.Explain(err, fmt.Sprintf(format, args...), []snapshot.Meaning{
		{Of: zfsds.ErrNotFound, Is: snapshot.ErrNotFound},
		{Of: zfsds.ErrExists, Is: snapshot.ErrExists},
		{Of: zfsds.ErrBusy, Is: snapshot.ErrBusy},
		{Of: zfsds.ErrDependents, Is: snapshot.ErrBusy},
		{Of: zfsds.ErrNoSpace, Is: snapshot.ErrNoSpace},
		{Of: zfsds.ErrReadOnly, Is: snapshot.ErrReadOnly},
		{Of: zfsds.ErrNotSupported, Is: snapshot.ErrNotSupported},
		{Of: zfsds.ErrNoKey, Is: snapshot.ErrNotSupported},
		{Of: zfsds.ErrInvalid, Is: snapshot.ErrInvalid},
		{Of: zfsds.ErrCorrupt, Is: snapshot.ErrCorrupt},
		{Of: unix.ENOSPC, Is: snapshot.ErrNoSpace},
		{Of: unix.EDQUOT, Is: snapshot.ErrNoSpace},
		{Of: unix.EBUSY, Is: snapshot.ErrBusy},
	})
}
