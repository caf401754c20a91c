// Package zfs keeps the store's volumes as ZFS file systems: below a dataset that Init is given
// or finds, or in a pool of its own on a file.
//
// Words: the store's dataset holds everything; directly in it lie the volumes, each a file system
// named by its number; the seal of a volume is its snapshot of the same number, and is the layer.
// Whether a volume is a layer or a container only the catalog knows.
//
// Layout, with the store's dataset D = PARENT/blockstore-STOREID, or the root of the pool
// blockstore-STOREID of a loopback file:
//
//	D             no volume, never mounted; has the properties that volumes inherit
//	D/69          volume 69
//	D/69@69       its seal
//	D/69@70       what volume 70 was made of, if 69 was not sealed: marked to go with 70
//	D/gone-69-X   what is left of volume 69, X its GUID, until the volumes made of it are gone, too
//
// and below Root/driver the loopback file zfs.img, and the file dataset with D's name.
//
// Invariants:
//
//   - A sealed volume is shown by mounts of its seal, which nobody can write to, and new volumes
//     are made of the seal. The file system that it was taken of is not used again.
//   - Snapshots' names are unique within the store. Nothing is promoted. Nothing is destroyed
//     recursively.
//   - D is known by its GUID and by the user property blockstore:store, which holds the store's
//     identity; everything below D inherits it. com.sun:auto-snapshot=false keeps out tools that
//     make snapshots by themselves, which would be in the way of removals.
//   - A volume that is mounted is not removed.
//   - A size limit is the volume's refquota.
//   - Every mountpoint is legacy: only mount(2) mounts, and zfs(8) leaves volumes alone.
//   - Nothing is forked by creating, showing, sealing and removing volumes where package zfsds can
//     use /dev/zfs. zpool(8) imports and exports a loopback file's pool.
//
// Removal: a volume with volumes made of it that still exist cannot be destroyed. Its snapshots are
// marked to go with the last of those, and it is renamed out of the way; whoever removes the last
// one removes it too, and Open does what a crash left undone. To find that it asks for each volume
// and its snapshots, which it spares itself after a clean stop: the file driver/tidy in the store's
// root says that there was one, and is taken away, durably, before the next change.
package zfs
