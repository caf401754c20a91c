// Package zfsds works with OpenZFS datasets from Go: file systems, snapshots, clones,
// properties, holds, streams. It speaks to /dev/zfs itself, needs no cgo and no libzfs, and
// stands by itself.
//
// # Words
//
// As zfsconcepts(7) has them: a pool holds datasets, named by paths (pool/a/b); a dataset is
// a file system, a volume or a snapshot (pool/a@name); a clone is a file system that began as
// a snapshot's content, its origin, and keeps the snapshot from being destroyed; a hold keeps
// it too; a user property is one with a colon in its name, without meaning to ZFS.
//
// # Two ways
//
// What is done often goes by requests to /dev/zfs ([Ioctl]): no process is started. The same
// calls can go by zfs(8) and zpool(8) ([CLI]), since the interface of /dev/zfs is no promise:
// [Open] compares what the module answers with what this package knows, and takes the commands
// where they differ. [Options] forces either. Pools are made, imported, exported, grown and
// destroyed by zpool(8) always. The commands' texts are read in English, in their script form.
//
// # What lasts
//
// Every call that changes something returns after the transaction group that holds it was
// written. So each waits for the disk; calls at the same time, and the names of one call of
// [Handle.Snapshot], share a group. What processes have written to a file system's files and not
// synced is in a snapshot of it, except through mmap(2): syncfs(2) first.
//
// Counts of bytes trail by up to one transaction group (seconds): [Handle.Sync] first where that
// matters.
//
// # Invariants
//
//   - Errors wrap one of this package's sentinels where one fits, and the kernel's errno where
//     there is one.
//   - Nothing is destroyed that was not named: no call is recursive, none promotes.
//   - Nothing is mounted but by [Mount], and nothing unmounted but by exporting and destroying pools.
//     Datasets should have mountpoint=legacy, or zfs(8) mounts them when it is used on them.
//   - Names are checked before anything is done with them.
//
// All calls take root rights. A Handle may be used concurrently, except for Close.
//
// Sources: zfs(8), zfsprops(7), zfsconcepts(7); OpenZFS include/sys/fs/zfs.h, include/sys/zfs_ioctl.h,
// lib/libzfs_core/libzfs_core.c and module/zfs/zfs_ioctl.c.
package zfsds
