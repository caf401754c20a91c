package btrfs

import (
	"context"
	"errors"
	"time"

	"blockstore.dev/blockstore/btrfsvol"
	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/layertar"
)

var _ snapshot.Tracker = (*driver)(nil)

// mostTracked bounds the files that a lineage keeps in mind, at some 40 bytes each.
// Where more were changed a walk takes no longer.
const mostTracked = 1 << 18

// Track searches the upper subvolume for what transactions since the first snapshot of
// lower have written. The tree tells of its past by itself: no record is kept for it.
func (d *driver) Track(ctx context.Context, lower snapshot.Volume, above []snapshot.Volume, _ time.Time) (layertar.Account, error) {
	if len(above) == 0 {
		return nil, snapshot.CannotTell("btrfs: there is nothing above volume %d", lower.ID)
	}
	top := above[len(above)-1]
	if !lower.Sealed || !top.Sealed {
		if err := d.fs.Sync(); err != nil { // what has no extent yet is not in the tree
			return nil, translate(err, "btrfs: track the changes of volume %d", top.ID)
		}
	}
	upper, since, err := d.follow(lower, above)
	if err != nil {
		return nil, err
	}
	l := &lineage{ctx: ctx, fs: d.fs, id: upper, known: map[uint64]bool{}}
	err = d.fs.ChangesSince(upper, since, l.note)
	if err == nil {
		err = l.climbAll()
	}
	if err != nil && !errors.Is(err, snapshot.ErrNotSupported) {
		err = translate(err, "btrfs: track the changes of volume %d", top.ID)
	}
	if err != nil {
		return nil, err
	}
	return l, nil
}

// follow makes sure that the volumes are snapshots of each other, and that lower has
// not changed since; it gives the transaction that made the first of them.
func (d *driver) follow(lower snapshot.Volume, above []snapshot.Volume) (upper btrfsvol.SubvolumeID, since btrfsvol.TransactionID, err error) {
	bottom, err := d.stat(lower.ID)
	if err != nil {
		return 0, 0, err
	}
	nested, err := d.fs.Children(bottom.ID)
	if err != nil {
		return 0, 0, translate(err, "btrfs: look for subvolumes within volume %d", lower.ID)
	}
	if len(nested) > 0 {
		return 0, 0, snapshot.CannotTell("btrfs: volume %d has %d subvolumes in it, which its snapshots do not show", lower.ID, len(nested))
	}
	for below, i := bottom, 0; i < len(above); i++ {
		s, err := d.stat(above[i].ID)
		if err != nil {
			return 0, 0, err
		}
		if s.ParentUUID != below.UUID {
			return 0, 0, snapshot.CannotTell("btrfs: volume %d is not a snapshot of the one below it", above[i].ID)
		}
		if i == 0 {
			since = s.Created
		}
		below, upper = s, s.ID
	}
	if bottom.Changed > since {
		return 0, 0, snapshot.CannotTell("btrfs: volume %d was written to later than its snapshot was taken", lower.ID)
	}
	return upper, since, nil
}

func (d *driver) stat(id snapshot.VolumeID) (btrfsvol.Subvolume, error) {
	s, err := d.fs.Stat(pathOf(id))
	if errors.Is(err, btrfsvol.ErrNotFound) {
		return s, snapshot.CannotTell("btrfs: volume %d is gone", id)
	}
	return s, translate(err, "btrfs: look at volume %d", id)
}

// lineage is the inodes of a subvolume that were touched, and the directories above
// them. Inode numbers are not used twice in a subvolume's life, nor in that of its
// snapshots, without the new file being touched.
type lineage struct {
	ctx context.Context
	fs  *btrfsvol.FS
	id  btrfsvol.SubvolumeID
	// known has the inodes, true for those whose directories are in it, too.
	known map[uint64]bool
	old   []uint64 // touched, and older than the first snapshot
}

// Same says of all others that they are what they were.
func (l *lineage) Same(inode uint64) bool {
	_, touched := l.known[inode]
	return !touched
}

// Untouched says no more: of a directory above what was touched it says no.
func (l *lineage) Untouched(inode uint64) bool { return l.Same(inode) }

// Exact: the tree has each item's own transaction.
func (*lineage) Exact() bool { return true }

// Reveal adds a file with the directories above its names.
func (l *lineage) Reveal(inode uint64) error {
	return translate(l.climb(inode), "btrfs: find the names of inode %d", inode)
}

// note takes an inode that was touched.
func (l *lineage) note(c btrfsvol.Change) error {
	if err := l.ctx.Err(); err != nil {
		return context.Cause(l.ctx)
	}
	if c.Kinds&btrfsvol.ChangedNested != 0 {
		return snapshot.CannotTell("btrfs: a subvolume was made in the directory with inode %d", c.Inode)
	}
	if len(l.known) >= mostTracked {
		return snapshot.CannotTell("btrfs: more than %d files were changed", mostTracked)
	}
	l.known[c.Inode] = false
	if c.Kinds&btrfsvol.ChangedNew == 0 {
		l.old = append(l.old, c.Inode)
	}
	return nil
}

// climbAll adds the directories above all that was touched. Those above a new file
// need not be looked for: each was touched itself when it got the file's name.
func (l *lineage) climbAll() error {
	for _, inode := range l.old {
		if err := l.ctx.Err(); err != nil {
			return context.Cause(l.ctx)
		}
		if err := l.climb(inode); err != nil {
			return err
		}
	}
	l.old = nil
	return nil
}

func (l *lineage) climb(inode uint64) error {
	if l.known[inode] {
		return nil
	}
	l.known[inode] = true
	parents, err := l.fs.ParentsOf(l.id, inode)
	if err != nil {
		return err
	}
	for _, p := range parents {
		if err := l.climb(p); err != nil {
			return err
		}
	}
	return nil
}
