// Package metadata reads the on-disk metadata of device-mapper thin pools: which thin devices there are, which data
// blocks each maps, what they share, what differs between two, and whether all of it fits together. It is pure Go and
// only ever reads, from anything that is an io.ReaderAt: a file, the metadata device of a pool that is down, or the
// metadata snapshot that a live pool holds.
//
// Words, as in Linux's Documentation/admin-guide/device-mapper/thin-provisioning.rst and in thin-provisioning-tools:
// the metadata are blocks of 4096 bytes. Block 0, the superblock, names the roots of B-trees: the details tree (device
// to its numbers), the mapping tree (device to the root of a tree of its own, which takes virtual blocks to data
// blocks), and two space maps, which count the references to each data block and to each metadata block. The trees are
// persistent: a snapshot shares its origin's nodes, and a change copies the path from the root to it. So nodes at the
// same address are equal with all that is below them, and that is what makes [View.Delta] take time in what changed,
// and [View.Usage] time in the nodes that there are, however many devices share them.
//
// A held metadata snapshot is a copy of the superblock that the kernel keeps apart on request (the pool message
// reserve_metadata_snap), with all that hangs from it. thinpool's Pool.Metadata takes and releases one.
//
// # Invariants
//
//   - Every block is believed only with the right checksum for its kind, the right number of its own, and contents
//     within the bounds that its parent set. What is not believed is a [CorruptError], which is [ErrCorrupt] and names
//     the block. Whatever the bytes are, nothing panics, hangs or takes unbounded memory.
//   - Memory: walks and deltas hold one path of nodes. Usage, Check and, twice, Group hold two bits for each data
//     block and two for each metadata block, which is 4 MiB for a TiB of data in blocks of 64 KiB and 1 MiB for the
//     largest metadata, and a few words for each device; Check a byte for each metadata block more, 4 MiB for the
//     largest. Where few of the data blocks are mapped, it is at most eight bytes for each that is, and 32 bytes for
//     each 16,320 that there are. Nothing else grows with the pool.
//   - A View changes nothing and keeps nothing but its superblock; it is safe for concurrent use if its reader is.
//
// Somebody must see to it that the metadata stand still meanwhile: that the pool is down, or the metadata snapshot held
// to the end. A moving pool reads as corrupt, or as a state that never was.
package metadata
