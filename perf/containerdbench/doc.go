// Command containerdbench runs the same operations on containerd's own
// snapshotters and on blockstore's, in one process on the same disk, and prints
// what they take and what they call side by side.
//
//	containerdbench [--snapshotters overlayfs,native,blockstore/btrfs] [--rounds 10] [--json] [--out FILE]
//
// # Words
//
// A peer is a snapshotter; containerd's are those of its Go module. A site is a
// snapshotter with storage of its own: each peer has one for most rows, and one for
// each number of snapshots that are present while others are prepared. In a round
// every peer does everything once, one peer at a time; who begins changes from round
// to round. The first rounds warm up and are not recorded.
//
// # What is equal
//
// Each site's root lies on a new file system in a new sparse file of one size on the
// machine's file system, on a loop device with direct I/O: ext4, or btrfs for
// snapshotters of btrfs. A thin pool lies in two such files beside it, and what
// volumes hold at most is one size for all. What was written is flushed before the
// next peer's turn.
//
// # Counts
//
// Times are this machine's; what an operation calls is the same on every one. For
// each peer this program runs itself once under strace, as "containerdbench count",
// and counts programs started, ioctls, and calls that wait for a disk.
//
// # Invariants
//
// Nothing that it made outlives it, after an error and after an interruption too:
// stores, mounts, loop devices, device-mapper devices, files. Names begin with
// bstest or lie in a directory that does. The exit status says whether everything
// ran, never how fast.
//
// # Building
//
// containerd's btrfs snapshotter is C in parts. It is a peer in a build with cgo, the
// tag libbtrfs and Debian's libbtrfs-dev, and unknown in any other.
package main
