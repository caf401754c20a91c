// Package btrfs keeps the store's volumes as btrfs subvolumes: on the btrfs that
// the store's directory lies on, or on one of its own in a loopback file.
//
// Words: the volumes' subvolume holds everything; in it are shards, plain
// directories, and in a shard the volumes, each a subvolume named by its number.
// Whether a volume is a layer or a container only the catalog knows.
//
// Layout, below Root/driver:
//
//	btrfs.img          the loopback file, if there is one
//	mnt                where it is mounted, privately
//	volumes            the volumes' subvolume (in mnt, with a loopback file)
//	volumes/05/69      volume 69, in shard 69 mod 64
//
// Shards exist because the kernel makes snapshots in one directory one after the
// other, with a commit each, while those in different directories share commits.
//
// Invariants:
//
//   - A sealed volume is a read-only subvolume (BTRFS_SUBVOL_RDONLY), and its data
//     was written out after that flag was set, or, where it was unpacked, before.
//   - The file system and the volumes' subvolume are known by their UUIDs, not by
//     their paths.
//   - A volume that is mounted is not removed. The kernel would let us.
//   - Quotas are touched on a file system that Init made, and only there. There, each
//     volume has the quota group 1/ID and its limit; groups without a volume are
//     swept when the driver opens.
//   - Nothing is forked but mkfs.btrfs, in Init.
//
// Removal returns as soon as the subvolumes' names are gone. A commit for all that
// were removed within a tenth of a second wakes the kernel's cleaner, and their space
// comes back as that thread gets to it, in milliseconds to seconds. Close, and a
// creation that finds too little room, wait for it, but not for long.
package btrfs
