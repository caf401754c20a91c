package btrfsvol

import (
	"context"
	"errors"
	"math"
	"time"

	"blockstore.dev/blockstore/ioctl"
)

// Subvolumes lists every subvolume of the file system but TopLevel, in the order of
// their ids, deleted ones left out. It walks the tree of roots once: some
// microseconds each.
func (fs *FS) Subvolumes() ([]Subvolume, error) {
	var all []Subvolume
	err := fs.search(allRoots(), func(item ioctl.BtrfsSearchItem) error {
		switch item.Type {
		case ioctl.BTRFS_ROOT_ITEM_KEY:
			root, err := ioctl.DecodeBtrfsRootItem(item.Data)
			if err != nil {
				return corrupt(err)
			}
			if root.Refs > 0 {
				all = append(all, fromRootItem(SubvolumeID(item.Objectid), root))
			}
		case ioctl.BTRFS_ROOT_BACKREF_KEY:
			if len(all) == 0 || all[len(all)-1].ID != SubvolumeID(item.Objectid) {
				return nil
			}
			ref, err := ioctl.DecodeBtrfsRootRef(item.Data)
			if err != nil {
				return corrupt(err)
			}
			last := &all[len(all)-1]
			last.Parent, last.DirInode, last.Name = SubvolumeID(item.Offset), ref.Dirid, ref.Name
		}
		return nil
	})
	return all, err
}

// allRoots is the span of the subvolumes' items and the references to where they lie.
func allRoots() span {
	return span{
		tree: ioctl.BTRFS_ROOT_TREE_OBJECTID,
		from: key{ioctl.BTRFS_FIRST_FREE_OBJECTID, ioctl.BTRFS_ROOT_ITEM_KEY, 0},
		to:   key{ioctl.BTRFS_LAST_FREE_OBJECTID, ioctl.BTRFS_ROOT_BACKREF_KEY, math.MaxUint64},
	}
}

func fromRootItem(id SubvolumeID, root ioctl.BtrfsRootItem) Subvolume {
	return Subvolume{
		ID:          id,
		ReadOnly:    root.Flags&ioctl.BTRFS_ROOT_SUBVOL_RDONLY != 0,
		UUID:        root.UUID,
		ParentUUID:  root.ParentUUID,
		Generation:  TransactionID(root.Generation),
		Created:     TransactionID(root.Otransid),
		Changed:     TransactionID(root.Ctransid),
		ChangedTime: time.Unix(int64(root.CtimeSec), int64(root.CtimeNsec)),
		CreatedTime: time.Unix(int64(root.OtimeSec), int64(root.OtimeNsec)),
	}
}

// Path is where the subvolume lies, from the file system's TopLevel root on, with
// no slash in front. It may be read in a mount of the top level only.
func (fs *FS) Path(s Subvolume) (string, error) {
	path := s.Name
	for parent, dir := s.Parent, s.DirInode; ; {
		_, above, err := ioctl.BtrfsInoLookup(fs.fd, uint64(parent), dir)
		if err != nil {
			return "", wrap(err, "find the path of subvolume %d", s.ID)
		}
		path = above + path
		if parent == TopLevel {
			return path, nil
		}
		next, err := fs.byID(parent)
		if err != nil {
			return "", err
		}
		path = next.Name + "/" + path
		parent, dir = next.Parent, next.DirInode
	}
}

// byID finds a subvolume by its id: its parent, directory and name only.
func (fs *FS) byID(id SubvolumeID) (Subvolume, error) {
	found := Subvolume{ID: id}
	err := fs.search(itemsOf(ioctl.BTRFS_ROOT_TREE_OBJECTID, uint64(id), ioctl.BTRFS_ROOT_BACKREF_KEY), func(item ioctl.BtrfsSearchItem) error {
		ref, err := ioctl.DecodeBtrfsRootRef(item.Data)
		found.Parent, found.DirInode, found.Name = SubvolumeID(item.Offset), ref.Dirid, ref.Name
		return corrupt(err)
	})
	if err == nil && found.Parent == 0 {
		err = wrap(ErrNotFound, "subvolume %d", id)
	}
	return found, err
}

// Children lists the subvolumes that lie directly inside id, at any depth of its
// directories.
func (fs *FS) Children(id SubvolumeID) ([]SubvolumeID, error) {
	var children []SubvolumeID
	err := fs.search(itemsOf(ioctl.BTRFS_ROOT_TREE_OBJECTID, uint64(id), ioctl.BTRFS_ROOT_REF_KEY), func(item ioctl.BtrfsSearchItem) error {
		children = append(children, SubvolumeID(item.Offset))
		return nil
	})
	return children, err
}

// Gone tells whether the kernel has nothing left of a subvolume: neither the live
// one nor, after its deletion, anything that the cleaner has yet to free.
func (fs *FS) Gone(id SubvolumeID) (bool, error) {
	gone := true
	err := fs.search(itemsOf(ioctl.BTRFS_ROOT_TREE_OBJECTID, uint64(id), ioctl.BTRFS_ROOT_ITEM_KEY), func(ioctl.BtrfsSearchItem) error {
		gone = false
		return nil
	})
	return gone, err
}

// WaitGone waits until the cleaner has freed the deleted subvolumes. Sync before it,
// which wakes the cleaner, or it takes up to half a minute. It looks at the tree of
// roots rather than call SUBVOL_SYNC_WAIT, which every kernel before 6.13 lacks, looks
// only once a second, and does not return when ctx ends.
func (fs *FS) WaitGone(ctx context.Context, ids ...SubvolumeID) error {
	for i, id := range ids {
		err := poll(ctx, func() (bool, error) { return fs.Gone(id) })
		if err != nil {
			return wrap(err, "wait for the cleaner, %d subvolumes left", len(ids)-i)
		}
	}
	return nil
}

// Backlog is how many deleted subvolumes wait for the cleaner. Linux 6.13 knows the
// number; before, they are counted in the tree of roots.
func (fs *FS) Backlog() (int, error) {
	args := ioctl.BtrfsSubvolWait{Mode: ioctl.BTRFS_SUBVOL_SYNC_COUNT}
	err := wrap(ioctl.BtrfsSubvolSyncWait(fs.fd, &args), "count deleted subvolumes")
	if errors.Is(err, ErrNotSupported) {
		return fs.countDeleted()
	}
	return int(args.Count), err
}

func (fs *FS) countDeleted() (int, error) {
	deleted := 0
	err := fs.search(allRoots(), func(item ioctl.BtrfsSearchItem) error {
		if item.Type != ioctl.BTRFS_ROOT_ITEM_KEY {
			return nil
		}
		root, err := ioctl.DecodeBtrfsRootItem(item.Data)
		if err == nil && root.Refs == 0 {
			deleted++
		}
		return corrupt(err)
	})
	return deleted, err
}

// WaitCleaned commits and waits until the cleaner has nothing left to do, and then
// makes what it freed available by another commit. It ends with ctx at the latest.
func (fs *FS) WaitCleaned(ctx context.Context) error {
	if err := fs.Commit(); err != nil {
		return err
	}
	err := poll(ctx, func() (bool, error) {
		left, err := fs.Backlog()
		return left == 0, err
	})
	if err != nil {
		return wrap(err, "wait for the cleaner")
	}
	return fs.Commit()
}

// poll asks in growing intervals until the answer is yes.
func poll(ctx context.Context, done func() (bool, error)) error {
	const longest = 100 * time.Millisecond
	for pause := time.Millisecond; ; pause = min(2*pause, longest) {
		if is, err := done(); is || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}
