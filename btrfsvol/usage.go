package btrfsvol

import (
	"math"

	"blockstore.dev/blockstore/ioctl"
)

// Usage is what files of a subvolume occupy on the device, compressed as they are
// and each extent counted once however many files share it. It does not hold the
// file system's metadata, except for the content of small files that lies in it.
type Usage struct {
	Data    Bytes // extents
	Inline  Bytes // content of small files, kept in metadata
	Extents int
}

// Total is Data and Inline together.
func (u Usage) Total() Bytes { return u.Data + u.Inline }

// UsageSince counts what transactions after since have added to a subvolume. For a
// snapshot, since = its Created counts what it does not share with what it was made
// of; 0 counts everything. What was added and deleted again does not count, and what
// was cloned in from elsewhere (FICLONE) belongs to where it was first written.
//
// Data that still lies dirty in memory has no extent and does not count: Sync first
// for a subvolume that is being written to. The cost follows the changed leaves of
// the subvolume's tree, not its files.
func (fs *FS) UsageSince(id SubvolumeID, since TransactionID) (Usage, error) {
	var usage Usage
	counted := map[uint64]struct{}{}
	span := span{
		tree: uint64(id),
		from: key{ioctl.BTRFS_FIRST_FREE_OBJECTID, ioctl.BTRFS_EXTENT_DATA_KEY, 0},
		to:   key{ioctl.BTRFS_LAST_FREE_OBJECTID, ioctl.BTRFS_EXTENT_DATA_KEY, math.MaxUint64},
	}
	if since > 0 {
		span.since = since + 1
	}
	err := fs.search(span, func(item ioctl.BtrfsSearchItem) error {
		if item.Type != ioctl.BTRFS_EXTENT_DATA_KEY {
			return nil
		}
		extent, err := ioctl.DecodeBtrfsFileExtent(item.Data)
		if err != nil {
			return corrupt(err)
		}
		if TransactionID(extent.Generation) < span.since {
			return nil
		}
		usage.add(extent, counted)
		return nil
	})
	return usage, err
}

func (u *Usage) add(extent ioctl.BtrfsFileExtent, counted map[uint64]struct{}) {
	if extent.Type == ioctl.BTRFS_FILE_EXTENT_INLINE {
		u.Inline += Bytes(extent.Inline)
		return
	}
	if extent.DiskBytenr == 0 { // a hole
		return
	}
	if _, again := counted[extent.DiskBytenr]; again {
		return
	}
	counted[extent.DiskBytenr] = struct{}{}
	u.Data += Bytes(extent.DiskNumBytes)
	u.Extents++
}
