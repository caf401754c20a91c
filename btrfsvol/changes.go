package btrfsvol

import (
	"math"

	"blockstore.dev/blockstore/ioctl"
)

// ChangeKind says what of an inode changed; several may have.
type ChangeKind uint8

// The kinds.
const (
	// ChangedNew: the inode did not exist before.
	ChangedNew ChangeKind = 1 << iota
	// ChangedInode: its own record, which every change of an inode or of its data
	// touches, and unlinking, truncating or removing an xattr touches alone.
	ChangedInode
	// ChangedEntries: names were added to a directory.
	ChangedEntries
	// ChangedXattrs: extended attributes were set.
	ChangedXattrs
	// ChangedData: data was written.
	ChangedData
	// ChangedNested: the name of a subvolume was added to a directory.
	ChangedNested
)

// Change is an inode that a transaction has touched. An inode number is used again
// after a deletion; together with Generation it is the file's identity.
type Change struct {
	Inode      uint64
	Generation TransactionID // that made the inode, 0 if its record was not seen
	Mode       uint32        // type and permissions as in stat(2)
	Kinds      ChangeKind
}

// ChangesSince calls visit with each inode of a subvolume that transactions after
// since have changed, in the order of inode numbers. It takes the time of reading the
// changed leaves of the subvolume's tree: a few milliseconds for a few changes among
// many thousand files, and no commit.
//
// It finds candidates. What is gone does not show itself: a deleted name, a removed
// xattr or a punched hole is seen only by the change of the directory's or file's
// inode, and what lies beneath a renamed directory not at all. Compare the old and the
// new tree at these places. Changes not yet committed may be missing: Sync first.
func (fs *FS) ChangesSince(id SubvolumeID, since TransactionID, visit func(Change) error) error {
	span := span{
		tree:  uint64(id),
		from:  key{object: ioctl.BTRFS_FIRST_FREE_OBJECTID},
		to:    key{ioctl.BTRFS_LAST_FREE_OBJECTID, math.MaxUint8, math.MaxUint64},
		since: since + 1,
	}
	var now Change
	flush := func() error {
		if now.Kinds == 0 {
			return nil
		}
		return visit(now)
	}
	err := fs.search(span, func(item ioctl.BtrfsSearchItem) error {
		if item.Objectid != now.Inode {
			if err := flush(); err != nil {
				return err
			}
			now = Change{Inode: item.Objectid}
		}
		return corrupt(now.add(item, since))
	})
	if err != nil {
		return err
	}
	return flush()
}

// add looks at the item's own transaction: the search's is only that of the leaf.
func (c *Change) add(item ioctl.BtrfsSearchItem, since TransactionID) error {
	switch item.Type {
	case ioctl.BTRFS_INODE_ITEM_KEY:
		inode, err := ioctl.DecodeBtrfsInodeItem(item.Data)
		if err != nil {
			return err
		}
		c.Generation, c.Mode = TransactionID(inode.Generation), inode.Mode
		c.mark(ChangedNew, inode.Generation, since)
		c.mark(ChangedInode, inode.Transid, since)
	case ioctl.BTRFS_DIR_INDEX_KEY:
		return c.addEntries(ChangedEntries, item.Data, since)
	case ioctl.BTRFS_XATTR_ITEM_KEY:
		return c.addEntries(ChangedXattrs, item.Data, since)
	case ioctl.BTRFS_EXTENT_DATA_KEY:
		extent, err := ioctl.DecodeBtrfsFileExtent(item.Data)
		if err != nil {
			return err
		}
		c.mark(ChangedData, extent.Generation, since)
	}
	return nil
}

func (c *Change) addEntries(kind ChangeKind, data []byte, since TransactionID) error {
	entries, err := ioctl.DecodeBtrfsDirItems(data)
	for _, e := range entries {
		c.mark(kind, e.Transid, since)
		if e.KeyType == ioctl.BTRFS_ROOT_ITEM_KEY {
			c.mark(ChangedNested, e.Transid, since)
		}
	}
	return err
}

func (c *Change) mark(kind ChangeKind, transaction uint64, since TransactionID) {
	if TransactionID(transaction) > since {
		c.Kinds |= kind
	}
}

// PathsOf lists all names of an inode, hard links too, as paths from the root of the
// subvolume. ErrNotFound when it has none. It reads the inode's references rather than
// ask INO_PATHS, whose answer the kernel cuts at 4 KiB.
func (fs *FS) PathsOf(id SubvolumeID, inode uint64) ([]string, error) {
	refs, err := fs.namesOf(id, inode)
	if err != nil {
		return nil, err
	}
	if len(refs) == 0 {
		return nil, wrap(ErrNotFound, "inode %d of subvolume %d", inode, id)
	}
	paths := make([]string, len(refs))
	above := map[uint64]string{}
	for i, ref := range refs {
		dir, known := above[ref.Parent]
		if !known {
			_, dir, err = ioctl.BtrfsInoLookup(fs.fd, uint64(id), ref.Parent)
			if err != nil {
				return nil, wrap(err, "find the path of inode %d of subvolume %d", ref.Parent, id)
			}
			above[ref.Parent] = dir
		}
		paths[i] = dir + ref.Name
	}
	return paths, nil
}

// ParentsOf lists the directories that an inode has names in, by their inode numbers: a
// directory of two names twice. A subvolume's root, and an inode without names, has none.
func (fs *FS) ParentsOf(id SubvolumeID, inode uint64) ([]uint64, error) {
	if inode == ioctl.BTRFS_FIRST_FREE_OBJECTID {
		return nil, nil
	}
	refs, err := fs.namesOf(id, inode)
	parents := make([]uint64, len(refs))
	for i, ref := range refs {
		parents[i] = ref.Parent
	}
	return parents, err
}

func (fs *FS) namesOf(id SubvolumeID, inode uint64) ([]ioctl.BtrfsInodeName, error) {
	var names []ioctl.BtrfsInodeName
	span := itemsOf(uint64(id), inode, ioctl.BTRFS_INODE_REF_KEY)
	span.to.kind = ioctl.BTRFS_INODE_EXTREF_KEY
	err := fs.search(span, func(item ioctl.BtrfsSearchItem) error {
		var more []ioctl.BtrfsInodeName
		var err error
		switch item.Type {
		case ioctl.BTRFS_INODE_REF_KEY:
			more, err = ioctl.DecodeBtrfsInodeRefs(item.Offset, item.Data)
		case ioctl.BTRFS_INODE_EXTREF_KEY:
			more, err = ioctl.DecodeBtrfsInodeExtrefs(item.Data)
		}
		names = append(names, more...)
		return corrupt(err)
	})
	return names, err
}
