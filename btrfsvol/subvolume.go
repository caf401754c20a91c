package btrfsvol

import (
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/ioctl"
)

// Subvolume describes a subvolume.
type Subvolume struct {
	ID       SubvolumeID
	Parent   SubvolumeID // the subvolume that it lies in, 0 for TopLevel and deleted ones
	DirInode uint64      // the directory that it lies in, an inode number within Parent
	Name     string      // its last path element
	ReadOnly bool

	UUID       uuid.UUID
	ParentUUID uuid.UUID // what it was a snapshot of, zero if it was not one

	Generation TransactionID // the last change
	// Created is the transaction of its creation: for a snapshot, what carries a
	// higher one was added since.
	Created TransactionID
	// Changed is the transaction of the last change to its files. Snapshots made of
	// it do not count, nor does SetReadOnly.
	Changed TransactionID
	// ChangedTime is when that was. Of changes that Sync has waited for no two have both in
	// common; what lies dirty in memory may have those of the change before it.
	ChangedTime time.Time
	CreatedTime time.Time
}

// CreateOptions are the options of Create and Snapshot.
type CreateOptions struct {
	// ReadOnly makes a snapshot read-only from the start. Create ignores it, as the
	// kernel does.
	ReadOnly bool
	// Qgroups are quota groups of level 1 or above, existing ones, that the new
	// subvolume joins.
	Qgroups []QgroupID
}

// Create makes an empty subvolume at path, whose parent directory exists. Its root
// directory has the mode 0755. It is not durable until the next commit.
func (fs *FS) Create(path string, o CreateOptions) error {
	err := fs.inDir(path, func(dir int, name string) error {
		return ioctl.BtrfsSubvolCreate(dir, name, o.groups())
	})
	return wrap(err, "create subvolume %s", path)
}

// Snapshot makes a snapshot at path of the subvolume at source. When it returns
// both the snapshot and what source held are on disk. Subvolumes inside source are
// not part of it: they appear as empty directories. Of files that are being written to
// it holds each as it was at some instant meanwhile, not all as at the same one: the
// kernel writes dirty data out file by file before.
func (fs *FS) Snapshot(source, path string, o CreateOptions) error {
	err := fs.withDir(source, func(root int) error {
		return fs.inDir(path, func(dir int, name string) error {
			snap := ioctl.BtrfsSnap{Source: root, Groups: o.groups()}
			if o.ReadOnly {
				snap.Flags = ioctl.BTRFS_SUBVOL_RDONLY
			}
			return ioctl.BtrfsSnapCreate(dir, name, snap)
		})
	})
	return wrap(err, "snapshot %s as %s", source, path)
}

func (o CreateOptions) groups() []uint64 {
	groups := make([]uint64, len(o.Qgroups))
	for i, g := range o.Qgroups {
		groups[i] = uint64(g)
	}
	return groups
}

// SetReadOnly makes the subvolume at path read-only or writable, by a commit of its
// own. It does not write out the subvolume's dirty data: Sync does. Making a
// subvolume writable that was received breaks its link to the sender's.
func (fs *FS) SetReadOnly(path string, readOnly bool) error {
	err := fs.withDir(path, func(root int) error {
		flags, err := ioctl.BtrfsSubvolGetflags(root)
		if err != nil {
			return err
		}
		wanted := flags &^ ioctl.BTRFS_SUBVOL_RDONLY
		if readOnly {
			wanted |= ioctl.BTRFS_SUBVOL_RDONLY
		}
		if wanted == flags {
			return nil
		}
		return ioctl.BtrfsSubvolSetflags(root, wanted)
	})
	return wrap(err, "set %s read-only=%t", path, readOnly)
}

// Lookup gives the id of the subvolume that path lies in; isRoot tells whether
// path is that subvolume's root.
func (fs *FS) Lookup(path string) (id SubvolumeID, isRoot bool, err error) {
	err = fs.withDir(path, func(fd int) error {
		tree, _, err := ioctl.BtrfsInoLookup(fd, 0, ioctl.BTRFS_FIRST_FREE_OBJECTID)
		if err != nil {
			return err
		}
		var stat unix.Stat_t
		err = unix.Fstat(fd, &stat)
		id, isRoot = SubvolumeID(tree), stat.Ino == ioctl.BTRFS_FIRST_FREE_OBJECTID
		return err
	})
	return id, isRoot, wrap(err, "look up the subvolume of %s", path)
}

// Stat describes the subvolume whose root is at path. ErrNotFound when path is no
// subvolume's root.
func (fs *FS) Stat(path string) (Subvolume, error) {
	var subvolume Subvolume
	err := fs.withDir(path, func(fd int) error {
		var stat unix.Stat_t
		if err := unix.Fstat(fd, &stat); err != nil {
			return err
		}
		if stat.Ino != ioctl.BTRFS_FIRST_FREE_OBJECTID {
			return unix.ENOENT
		}
		info, err := ioctl.BtrfsGetSubvolInfo(fd)
		if err == nil {
			subvolume = fromInfo(info)
		}
		return err
	})
	return subvolume, wrap(err, "describe subvolume %s", path)
}

func fromInfo(info *ioctl.BtrfsSubvolInfo) Subvolume {
	return Subvolume{
		ID:          SubvolumeID(info.Treeid),
		Parent:      SubvolumeID(info.ParentID),
		DirInode:    info.Dirid,
		Name:        info.SubvolName(),
		ReadOnly:    info.Flags&ioctl.BTRFS_ROOT_SUBVOL_RDONLY != 0,
		UUID:        info.UUID,
		ParentUUID:  info.ParentUUID,
		Generation:  TransactionID(info.Generation),
		Created:     TransactionID(info.Otransid),
		Changed:     TransactionID(info.Ctransid),
		ChangedTime: time.Unix(int64(info.Ctime.Sec), int64(info.Ctime.Nsec)),
		CreatedTime: time.Unix(int64(info.Otime.Sec), int64(info.Otime.Nsec)),
	}
}
