package snapshot

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"blockstore.dev/blockstore/snapshot/layertar"
	"blockstore.dev/blockstore/snapshot/mount"
)

// VolumeID names a volume for the whole life of a store. Ids are handed out by
// the store, in ascending order, and never used twice. They fit a thin pool's
// device id (24 bits), the narrowest of the kernel's name spaces.
type VolumeID uint32

const (
	// Base is the golden base: an empty file system whose root directory has
	// mode 0755 and belongs to 0:0. Every driver makes it once, in Init, and
	// keeps it sealed. It is never removed while the store exists.
	Base VolumeID = 0
	// FirstVolumeID is the first id that the store hands out. The ids below it
	// belong to the driver (the base, and what it needs to make the base).
	FirstVolumeID VolumeID = 16
	// MaxVolumeID is the highest id a store can ever hand out.
	MaxVolumeID VolumeID = 1<<24 - 1
)

// Volume is what the catalog knows of a volume and a driver needs to know to
// work on it: the kernel's own records (a thin pool's metadata, a btrfs root
// item) do not hold all of it.
type Volume struct {
	ID     VolumeID `json:"id"`
	Origin VolumeID `json:"origin"`
	// Size is the limit in bytes of the tree that the volume may hold, its
	// origins' files included. On a block driver it is the device's size.
	Size int64 `json:"size"`
	// Sealed volumes are immutable: nothing can write to them again.
	Sealed bool `json:"sealed,omitempty"`
}

// LimitFor is the limit of a volume that begins as v when asked bytes were asked for, 0
// for v's. Less than v's is ErrInvalid.
func (v Volume) LimitFor(asked int64) (int64, error) {
	if asked == 0 {
		return v.Size, nil
	}
	if asked < v.Size {
		return 0, fmt.Errorf("%w: a size of %d bytes on an origin of %d: it cannot be less", ErrInvalid, asked, v.Size)
	}
	return asked, nil
}

// CreateOptions says what a new volume begins as.
type CreateOptions struct {
	// Origin is a sealed volume (or the base), or an unsealed one whose
	// contents at this instant are taken: see Driver.Create.
	Origin Volume
	// Size is the new volume's limit, at least Origin.Size. 0 means Origin.Size.
	Size int64
	// OriginBytes is what the layers below hold, as Usage.Added counts it. A
	// driver whose kernel limits only what a volume adds subtracts it from Size.
	OriginBytes int64
}

// UnpackOptions describes a chain of layers that is written in one go.
type UnpackOptions struct {
	// Origin is the sealed volume below the first new layer, or the base.
	Origin Volume
	// Volumes are the new layers' ids, lowest first; at least one.
	Volumes []VolumeID
	// Size is the limit of each new volume; 0 means Origin.Size.
	Size int64
	// OriginBytes is as in CreateOptions.
	OriginBytes int64
	// Target is an empty directory where the driver may mount the volume that
	// is being written. The driver unmounts it in Close.
	Target string
}

// Unpacker writes a chain of layers on one volume that stays active and
// mounted, and keeps the state at each boundary as a sealed volume.
// It is used by one goroutine.
type Unpacker interface {
	// Dir is the root directory of the layer being written. It may change with
	// Seal and is invalid after Close.
	Dir() string
	// Seal makes what Dir holds now the volume Volumes[i], immutable and durable,
	// for i = 0, 1, …, and goes on to the next. After the last one Dir is "".
	Seal(ctx context.Context) error
	// Close releases mounts and devices. Volumes that were not sealed may or may
	// not exist afterwards; the caller removes them. Close is idempotent.
	Close() error
}

// Usage is what a volume occupies, in bytes on the backing store. It is never
// negative.
type Usage struct {
	// Referenced is everything that the volume refers to, shared or not; 0 where that was not asked for, see
	// Store.Referenced.
	Referenced int64 `json:"referenced"`
	// Added is what the volume holds beyond its origin.
	Added int64 `json:"added"`
	// Exact says whether Added was counted. Where it was not (the size of a tree less
	// its origin's, or what an older version recorded of a thin device) what was
	// overwritten in place of what is shared is missing from it.
	Exact bool `json:"exact"`
}

// Space is a filled container of bytes; Total is 0 where it has no fixed size.
type Space struct {
	Total int64 `json:"total"`
	Used  int64 `json:"used"`
}

// Row is one line of Status for people, in the manner of `docker info`.
type Row struct {
	Label string `json:"label"`
	Value string `json:"value"`
}

// Status describes the driver's backing store.
type Status struct {
	// Healthy is false when the backing store needs a person; Problem says why
	// and how to mend it.
	Healthy bool   `json:"healthy"`
	Problem string `json:"problem,omitempty"`
	// Mode says in the kernel's words what the backing store still does: "rw", "out_of_data_space", "ro", "Fail" or
	// "Error" of a thin pool, "rw" or "ro" of btrfs, the health of a ZFS pool such as "ONLINE".
	Mode string `json:"mode,omitempty"`
	// Snapshots is how many were taken in the backing store's life, SnapshotLimit how many it survives. Both are zero where
	// there is no such limit.
	Snapshots     uint64 `json:"snapshots,omitempty"`
	SnapshotLimit uint64 `json:"snapshotLimit,omitempty"`
	// Data and Metadata are the backing store's space. A driver without a
	// metadata space of its own leaves Metadata zero.
	Data     Space `json:"data"`
	Metadata Space `json:"metadata"`
	// Rows are for people, in the driver's own words.
	Rows []Row `json:"rows"`
}

// Finding is one thing that Check found wrong.
type Finding struct {
	// Volume is the volume concerned, or Base for the store as a whole.
	Volume VolumeID `json:"volume"`
	Text   string   `json:"text"`
	// Mend says what a person, or `check --repair`, can do.
	Mend string `json:"mend,omitempty"`
}

// Driver keeps volumes on one kernel technology. The store calls it with ids
// that it has reserved durably before, so that a crash at any instant leaves
// only volumes that the store can explain.
//
// All methods may be called at once from many goroutines; the store sees to it
// that no two of them write to, remove, seal or (de)activate the same volume at
// the same time, while one volume may be the origin of many creations at once.
// A driver holds no lock of its own over a system call that concerns one volume
// only. Errors are wrapped around the sentinels of this package (ErrNotFound,
// ErrExists, ErrBusy, ErrNoSpace, ErrReadOnly, ErrCorrupt, ErrNotSupported). An
// operation that fails undoes what it did; the store still removes the id.
type Driver interface {
	// Name is "devicemapper", "btrfs" or "zfs".
	Name() string

	// Create makes the volume id a writable snapshot of o.Origin. The volume and
	// the origin's contents that it shares survive a power cut once Create has
	// returned. An origin that is not sealed is frozen meanwhile if it is active,
	// so that the snapshot's file system is consistent. An id that exists already
	// (left from a crash; the store owns the id) is removed first.
	Create(ctx context.Context, id VolumeID, o CreateOptions) error

	// Unpack begins a chain of layers. See Unpacker.
	Unpack(ctx context.Context, o UnpackOptions) (Unpacker, error)

	// Seal makes a volume immutable and its contents durable. A volume that is active
	// and that nobody uses is deactivated first; one in use is ErrBusy and stays as it is.
	Seal(ctx context.Context, v Volume) error

	// Remove deletes volumes and gives their space back. A volume that does not
	// exist is removed already: no error. One that is in use stays, and the joined
	// error holds ErrBusy with the holder's name; the others go.
	Remove(ctx context.Context, ids ...VolumeID) error

	// Activate makes the volume usable and returns the mounts that show its root
	// directory: the last one on top. Sealed volumes, and those asked for read
	// only, cannot be written to through them. Activating twice is not an error
	// and counts once.
	Activate(ctx context.Context, v Volume, readOnly bool) ([]mount.Mount, error)

	// Deactivate releases what Activate took. An inactive volume is no error; one
	// that is still mounted is ErrBusy.
	Deactivate(ctx context.Context, id VolumeID) error

	// Usage counts what the volume holds beyond its origin; the volume may be active. It costs
	// what was changed since the origin, not all that is in the volume, and tells nothing of
	// what that refers to.
	Usage(ctx context.Context, v Volume) (Usage, error)

	// Referenced counts everything that each of the volumes refers to, shared or not, in bytes on
	// the backing store. It may take the time of all their files.
	Referenced(ctx context.Context, volumes ...Volume) ([]int64, error)

	// Volumes lists the ids of all volumes in the kernel that are the store's, at
	// or above FirstVolumeID. A driver that cannot tell returns ErrNotSupported.
	Volumes(ctx context.Context) ([]VolumeID, error)

	// Check compares the kernel with what the catalog says ought to exist.
	Check(ctx context.Context, known []Volume) ([]Finding, error)

	// Status reads the state of the backing store, cheaply: it writes nothing and
	// does not wait for the disk.
	Status(ctx context.Context) (Status, error)

	// Close releases everything that no active volume needs: pool device, loop
	// devices, mounts of the driver's own. Volumes in use stay usable, and Open
	// finds them again.
	Close(ctx context.Context) error
}

// Epoched is a Driver whose kernel side keeps a counter beside the volumes: a
// thin pool's transaction id. The store raises it with each block of ids that
// it reserves and compares it when it opens, so that a catalog and a pool of
// different ages are never taken for a pair.
type Epoched interface {
	Epoch(ctx context.Context) (uint64, error)
	// SetEpoch raises the counter; it fails when the counter is not at from.
	SetEpoch(ctx context.Context, from, to uint64) error
}

// Settler is a Driver whose removals are certain only after Settle: until then a volume
// that was removed may be back, after a power cut or an error of the disk. The store keeps
// such volumes in its list of what is to be removed, and looks for them when it opens.
type Settler interface {
	// Settle fails if a removal before it may not last.
	Settle(ctx context.Context) error
}

// Prober is a Driver that asks the kernel for each volume to list them, and can ask for a few alone.
type Prober interface {
	// Exist says which of the volumes exist, as far as Volumes would list them.
	Exist(ctx context.Context, ids ...VolumeID) ([]VolumeID, error)
}

// Locator is a Driver that knows its mounts again when others hand them back.
type Locator interface {
	// Locate says which volume a mount shows, if it is one that Activate returned, in
	// this process or in one before it; whether others made it read-only meanwhile does
	// not matter. It goes by the identity of what the source leads to now, not by its
	// text. What shows no volume of the store is ErrNotFound.
	Locate(ctx context.Context, m mount.Mount) (VolumeID, error)
}

// Publisher is a Driver whose mounts from Activate hold names that may come to mean
// another volume, such as device numbers, once the volume is inactive.
type Publisher interface {
	// Publish gives the mounts of an active volume for somebody who may perform them
	// much later: what they name is this volume, or nothing.
	Publish(ctx context.Context, id VolumeID, ms []mount.Mount) ([]mount.Mount, error)
}

// Readier is a Driver that can do ahead what Activate does.
type Readier interface {
	// Ready does for a volume that nobody uses yet what Activate for writing does. Removing the volume, or closing the
	// driver, takes it back, and so does an Activate for reading alone.
	Ready(ctx context.Context, v Volume) error
}

// Unsealer is a Driver whose kernel keeps sealed volumes from being written to by a
// mark on the volume.
type Unsealer interface {
	// Unseal takes back what Seal did to volumes that the catalog does not call sealed:
	// the process died, or failed, between the two. Others are left alone.
	Unseal(ctx context.Context, ids ...VolumeID) error
}

// Stacker is a Driver to which sealing a volume and making another on top of it is a
// wait for the disk less than one after the other.
type Stacker interface {
	// SealBelow is Seal, and makes the volume next a writable snapshot of v, as Create does
	// of the sealed volume; layers is what the layers below v hold, as in OriginBytes.
	// After an error v may be sealed, next may exist, and the caller does both by Seal
	// and Remove.
	SealBelow(ctx context.Context, v Volume, next VolumeID, layers int64) error
}

// Scratcher is a Driver whose mounts can leave the waiting for the disk out.
type Scratcher interface {
	// Scratch gives mounts from Activate the options with which fsync returns when the
	// kernel has taken the data, and a power cut may damage the volume until it is sealed.
	// It leaves ms as it is.
	Scratch(ms []mount.Mount) []mount.Mount
	// Flush makes what was written out through such mounts durable.
	Flush(ctx context.Context) error
}

// Devicer is a Driver whose volumes are block devices while they are active.
type Devicer interface {
	// Device is the path of a volume's device. One that is not active is ErrNotFound.
	Device(ctx context.Context, id VolumeID) (string, error)
	// MayMount is ErrBusy while somebody has the device open of a volume whose mounts were handed out, and has it mounted nowhere
	// on this machine: a virtual machine that the device was given to has it mounted, and a second kernel that mounts it
	// destroys what is on it.
	MayMount(ctx context.Context, id VolumeID) error
}

// Tracker is a Driver that keeps account of what was changed, so that two volumes can
// be compared without a look at every file of theirs.
type Tracker interface {
	// Track finds what differs between lower and the last volume of above, which are
	// snapshots of each other from the one of lower on. What was written before the call
	// is in it, unsealed volumes' included. ErrNotSupported where that cannot be told, as
	// when lower was written to later than its snapshot was taken: the store then walks
	// both trees. Both are shown. since is a time at which they did not differ yet, by the clock that
	// change times are of, see [layertar.CompareOptions]. Who knows directories, too, gives a [layertar.Lineage]; otherwise
	// the store reads in which directories lower's files are.
	Track(ctx context.Context, lower Volume, above []Volume, since time.Time) (layertar.Account, error)
}

// UsageCounter is a Driver that counts many volumes for less than one by one.
type UsageCounter interface {
	// Usages is Driver.Usage of each of the volumes.
	Usages(ctx context.Context, volumes []Volume) ([]Usage, error)
}

// Accountant is a Driver that can tell what each volume has alone, however the volumes
// came to share.
type Accountant interface {
	// Account counts all volumes at one instant, the base included, as of what the
	// kernel has written out.
	Account(ctx context.Context) (Account, error)
	UsageCounter
	// Freed counts the bytes that removing the volumes together, and nothing else, gives
	// back. ErrNotFound if one does not exist.
	Freed(ctx context.Context, ids ...VolumeID) (int64, error)
}

// Account is what volumes hold, in bytes on the backing store.
type Account struct {
	Volumes map[VolumeID]Share
	// Used is what any volume holds, Shared what more than one does, each byte counted
	// once: Used is Shared and every volume's Exclusive.
	Used, Shared int64
}

// Share is what one volume holds: what removing it gives back, and what others hold too.
type Share struct {
	Exclusive, Shared int64
}

// Meter is a Driver that knows which volumes are in use, and perhaps what is read from and written to them.
type Meter interface {
	// Live tells of all volumes that are in use now: active devices, or what is mounted in this process's mount namespace.
	// It is cheap.
	Live(ctx context.Context) (map[VolumeID]Live, error)
}

// Live is a volume that is in use.
type Live struct {
	// Device is the device number of its files, as stat(2) gives it. No other volume has it at this time.
	Device uint64
	// IO is nil where the kernel does not count volume by volume. Disks are then the device numbers of the block devices
	// that the volume lies on, with others.
	IO    *IO
	Disks []uint64
}

// IO counts what has ended since the volume came into use: on a block device, and so without what the page cache
// answered, or else at the file system.
type IO struct {
	Reads, ReadBytes, Writes, WrittenBytes uint64
	// Files says that it was counted at the file system, caches included.
	Files bool
}

// Gauger is a Driver whose space no file system of the machine shows, and that can have one show it.
type Gauger interface {
	// Gauge has statfs(2) of a directory of the driver's own tell what there is of data space and what of it is used, as it
	// is now, until it is called again or the driver is closed.
	Gauge(ctx context.Context) error
}

// Roomy is a Driver that refuses new volumes while there is still room to remove old
// ones. Room is that refusal, or nil; it is cheap. Create asks it itself.
type Roomy interface {
	Room(ctx context.Context) error
}

// Grower is a Driver whose backing store can grow.
type Grower interface {
	// Grow makes the data space size bytes large, or with 0 as large as what lies below it allows without more being
	// asked for. Shrinking is ErrNotSupported.
	Grow(ctx context.Context, size int64) error
}

// Extender is a Driver whose backing store is made of devices and takes further ones.
type Extender interface {
	// Extend adds devices and makes the data space as large as that allows, or as asked for. A device that was added
	// before, by a call that was cut short, is no error. ErrNotSupported where the backing store is somebody else's or
	// takes none.
	Extend(ctx context.Context, o ExtendOptions) error
}

// ExtendOptions are what a backing store is extended by.
type ExtendOptions struct {
	Devices []string
	// Size is what the data space is to be, in bytes; 0 is what the devices allow.
	Size int64
	// Yes and Force are as in InitOptions.
	Yes, Force bool
}

// Trimmer is a Driver that can give blocks that no file uses back to what lies
// below it.
type Trimmer interface {
	// Trim returns the number of bytes given back.
	Trim(ctx context.Context) (int64, error)
}

// Kind is a driver before it has a store: what `init` and Open work with.
// A driver package exports its Kind; the command line hands the known ones to
// the store.
type Kind interface {
	// Name as Driver.Name.
	Name() string
	// Probe says why this kernel and machine cannot run the driver, and how that
	// can be mended; nil if it can.
	Probe(ctx context.Context) error
	// Init makes the backing store and the golden base below o.Root and leaves
	// nothing active. It refuses what holds data of others. What it returns is
	// kept in the catalog and handed to Open; it holds the identity by which the
	// backing store is known again. A failure leaves nothing behind.
	Init(ctx context.Context, o InitOptions) (json.RawMessage, error)
	// Open brings the backing store up: after a clean stop, a kill or a reboot.
	Open(ctx context.Context, o OpenOptions) (Driver, error)
	// Destroy removes the backing store for good, all volumes included. Volumes in
	// use are ErrBusy, and nothing is destroyed. It works on what a failed Init or
	// an earlier Destroy left, too.
	Destroy(ctx context.Context, o OpenOptions) error
}

// InitOptions are a new store's choices. Zero values mean the driver's default.
// A driver refuses by name what it cannot follow.
type InitOptions struct {
	// Root is the store's directory. Drivers keep their files below Root/driver.
	Root string
	// StoreID is the store's identity, a UUID.
	StoreID string
	// BaseSize is the limit of volumes that are not given one, in bytes.
	BaseSize int64
	// FileSystem is ext4 or xfs, for block drivers.
	FileSystem string
	// Loopback is the size of the backing file in bytes; 0: the driver's default
	// if it needs one.
	Loopback int64
	// Devices are whole block devices given to the store for data and metadata.
	Devices []string
	// DataDevice and MetadataDevice make a pool of two raw devices.
	DataDevice, MetadataDevice string
	// ThinPool is an existing thin pool.
	ThinPool string
	// Dataset is an existing ZFS pool or dataset.
	Dataset string
	// Yes says that Devices may be taken whole; without it, and without Force, it is ErrUnconfirmed.
	Yes bool
	// Force allows devices that hold old data of others to be taken.
	Force bool
}

// ForBlocks names an option that only a driver on block devices can follow, "" for none.
func (o InitOptions) ForBlocks() string {
	switch {
	case o.FileSystem != "":
		return "a file system of " + o.FileSystem
	case len(o.Devices) > 0:
		return "devices"
	case o.DataDevice != "":
		return "a data device"
	case o.MetadataDevice != "":
		return "a metadata device"
	case o.ThinPool != "":
		return "a thin pool"
	}
	return ""
}

// OpenOptions identify an existing backing store.
type OpenOptions struct {
	Root    string
	StoreID string
	Config  json.RawMessage
	// Keep, in Open, keeps another Config durably in place of this one: for a Driver whose backing store changes while it
	// is open.
	Keep func(config json.RawMessage) error
}
