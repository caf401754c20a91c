// Package btrfsvol works with btrfs subvolumes from Go, by the kernel's ioctls
// alone: it starts no program (but for [Format], once per file system), needs no
// cgo, and stands by itself.
//
// # Words
//
// As btrfs(5) and btrfs-subvolume(8) have them: a file system holds subvolumes,
// each a tree of files with an id of its own ([SubvolumeID]); a snapshot is a
// subvolume that began as another's content and shares its extents; a transaction
// ([TransactionID], also called generation) is what the file system commits; the
// cleaner is the kernel's thread that frees what destroyed subvolumes held; a
// quota group ([QgroupID]) counts and limits bytes.
//
// # What lasts
//
// Not every call is durable when it returns. [FS.Snapshot] is: it returns after a
// commit that holds the snapshot and its source's data. [FS.Create], [FS.Delete] and
// the quota calls are not, and [FS.SetReadOnly] commits the flag but not the data
// that still lies dirty in memory. [FS.Sync] makes everything before it durable. So
// the order for a subvolume that must never change again is SetReadOnly (which
// stops writers), Sync, and then tell others.
//
// # What it costs
//
// A snapshot takes one commit, which snapshots that are made at the same time in
// other directories share; in one directory they wait for each other. Spread
// snapshots over some directories. Creating and deleting take none.
//
// # Invariants
//
//   - Errors wrap one of this package's sentinels where one fits, and always the
//     kernel's errno.
//   - Paths are relative to the directory given to [Open] and can not leave it, not
//     by "..", nor by a symbolic link, nor by a mount point's symbolic link.
//   - Usage is counted from the extents themselves, not from quota groups.
//
// # Never
//
// It never switches quotas on or off on its own, never balances, and never deletes
// by walking a tree of files. It knows nothing of layers, images or containers.
//
// Everything but reading a subvolume's own description takes CAP_SYS_ADMIN.
//
// Sources: btrfs-ioctl(2), <linux/btrfs.h>, <linux/btrfs_tree.h>, and the kernel's
// Documentation/filesystems/btrfs.rst.
package btrfsvol
