package zfs

import (
	"context"
	"errors"
	"sort"
	"time"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/failpoint"
	"blockstore.dev/blockstore/snapshot/layertar"
	"blockstore.dev/blockstore/zfsds"
)

var _ snapshot.Tracker = (*driver)(nil)

// mostRanges bounds what an account keeps in mind, 16 bytes each. Where more was written a walk takes no longer.
const mostRanges = 1 << 18

// Track asks the module which objects lie in blocks that were written since lower's seal was made. A volume that may be written
// to is given a snapshot for that, which waits for a transaction group.
func (d *driver) Track(ctx context.Context, lower snapshot.Volume, above []snapshot.Volume, _ time.Time) (_ layertar.Account, err error) {
	if way, _ := d.zfs.Access(); way != zfsds.Ioctl {
		return nil, snapshot.CannotTell("zfs: the commands do not tell")
	}
	if len(above) == 0 {
		return nil, snapshot.CannotTell("zfs: there is nothing above volume %d", lower.ID)
	}
	if !lower.Sealed && lower.ID != snapshot.Base {
		return nil, snapshot.CannotTell("zfs: volume %d may be written to", lower.ID)
	}
	upper := above[len(above)-1]
	to := d.root.seal(upper.ID)
	if !upper.Sealed {
		to = d.root.instant(upper.ID, d.instants.Add(1))
		err := d.writeOut(upper.ID)
		if err == nil {
			err = d.snapshot(ctx, to)
		}
		if err != nil { // as in a full pool
			return nil, snapshot.CannotTell("zfs: volume %d gets no snapshot: %w", upper.ID, err)
		}
		failpoint.Hit("zfs: snapshot to look at made")
		defer func() {
			drop := d.zfs.DestroySnapshots(context.WithoutCancel(ctx), true, to)
			d.tidy.leftIf(&drop)
			err = errors.Join(err, translate(drop, "zfs: track the changes of volume %d", upper.ID))
		}()
	}
	found := &account{}
	for objects, err := range d.zfs.Rewritten(ctx, d.root.seal(lower.ID), to) {
		switch {
		case errors.Is(err, zfsds.ErrInvalid):
			return nil, snapshot.CannotTell("zfs: volumes %d and %d are not related: %w", lower.ID, upper.ID, err)
		case err != nil:
			return nil, translate(err, "zfs: track the changes of volume %d", upper.ID)
		case len(found.rewritten) == mostRanges:
			return nil, snapshot.CannotTell("zfs: more than %d ranges of files were written", mostRanges)
		}
		found.rewritten = append(found.rewritten, objects)
	}
	return found, nil
}

// account is the objects of a volume whose blocks were written, which have the inode numbers of files.
type account struct {
	rewritten []zfsds.Objects // in order
	revealed  map[uint64]bool
}

func (a *account) Untouched(inode uint64) bool {
	i := sort.Search(len(a.rewritten), func(i int) bool { return a.rewritten[i].Last >= inode })
	return (i == len(a.rewritten) || inode < a.rewritten[i].First) && !a.revealed[inode]
}

func (a *account) Reveal(inode uint64) error {
	if a.revealed == nil {
		a.revealed = map[uint64]bool{}
	}
	a.revealed[inode] = true
	return nil
}

// Exact: a block has 32 of them.
func (*account) Exact() bool { return false }
