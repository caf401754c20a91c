// Package thinpool makes and keeps device-mapper thin pools: on loopback files or on raw devices, with thin devices
// and snapshots in them. It stands alone and knows nothing of what the devices are for.
//
// Words, as in Linux's Documentation/admin-guide/device-mapper/thin-provisioning.rst: a pool has a data device, cut
// into blocks, and a metadata device that maps the blocks of thin devices to them. A thin device has a number
// (DeviceID) in the pool; it is active while the kernel has a block device for it. A snapshot is a thin device that
// began with another's mappings, its origin. The transaction id is a number in the pool's metadata that belongs to
// the pool's user.
//
// Invariants:
//
//   - A pool has an identity, a UUID in the metadata superblock's uuid field, which the kernel leaves alone. Names and
//     uuids of all its devices carry it, and devices without it are never touched.
//   - A pool that ought to exist is never formatted: the kernel formats when the first metadata block is zero, so
//     Open reads it first and refuses unless magic, checksum and identity fit.
//   - A message that the kernel answered with success is believed only after the pool's state was read: the kernel
//     drops the result of the commit behind a message. What cannot be believed is ErrUnknownOutcome.
//   - Zeroing of new blocks is on: nobody reads what a deleted device left.
//   - Snapshots are taken of origins only that are inactive, suspended, or retired: active, and nobody has them open, so
//     that nothing is on its way to them.
//   - The number of snapshots in a pool's life is bounded by a field of 24 bits; CreateSnapshot refuses before it
//     overflows (ErrWornOut), since the kernel does not and would mix blocks up.
//
// While the writers of a full pool wait for space, the pool may keep a block back, which is freed when the kernel gets stuck in
// its growth (Config.Ballast).
//
// A pool that is somebody else's (LVM's, or whoever made it) can be shared: FindShare picks a range of its numbers, Create
// marks it as ours by a thin device, and a Pool in it has the same methods, but touches neither the pool's table nor its
// transaction id nor devices outside of the range (Share).
//
// The package never destroys what it does not know: a device that holds a known signature, or anything but zeroes at
// its ends, is refused (ErrNotBlank); a foreign device of the same name is an error.
//
// Process death leaves a pool active. Open adopts it: it resumes what is suspended, removes devices that got no table,
// releases the metadata snapshot if it was this package that held it, and leaves active thin devices active.
package thinpool
