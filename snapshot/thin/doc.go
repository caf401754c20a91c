// Package thin is the snapshot driver "devicemapper": each volume is a thin device with a file system in a
// device-mapper thin pool (package thinpool), each snapshot a snapshot of the device.
//
// A volume's id is its thin device's number, and the pool's identity is the store's: nothing has to be remembered to
// find a volume. The golden base is thin device 0; its file system is made once, by mkfs, which is the only program
// that the driver ever runs.
//
// Invariants:
//
//   - A device is active only while somebody uses it. Sealed volumes are activated read-only, so that nothing can
//     write to them, and mounted so.
//   - A snapshot of a volume that is mounted for writing is taken while its device is suspended, which freezes the
//     file system: its contents are whole, and durable when the message has returned.
//   - What only a deleted volume has is discarded first, so that a loopback pool's file shrinks: in slices between which
//     the pool is left to others for as long, by what its metadata say. What it shares goes with the last one's removal.
//   - After a clean stop of a pool of its own the file driver/tidy in the store's root spares the next Open to search the
//     pool's metadata for what a power cut has torn.
//
// Usage is counted in the pool's blocks, from its metadata (package thinpool/metadata), without activating a volume.
//
// Weaker than on btrfs: what changed in sealed volumes with ext4 is found by their inodes and the names in all directories,
// in others by walking both trees (see Track). Blocks of deleted files inside a living volume return to the pool by Trim only.
package thin
