package snapshot

import (
	"context"
	"io"
	"time"

	"github.com/opencontainers/go-digest"

	"blockstore.dev/blockstore/snapshot/layertar"
)

// SnapshotKind says what a named snapshot is.
type SnapshotKind string

const (
	// KindLayer is immutable and has a DiffID.
	KindLayer SnapshotKind = "layer"
	// KindContainer is a writable snapshot of a layer.
	KindContainer SnapshotKind = "container"
	// KindView shows a layer read-only. It owns no volume.
	KindView SnapshotKind = "view"
)

// Info describes one layer, container or view.
type Info struct {
	Name string       `json:"name"`
	Kind SnapshotKind `json:"kind"`
	// Parent is the name of the layer below, "" for the base.
	Parent string `json:"parent,omitempty"`
	// DiffID is the digest of a layer's uncompressed tar. Containers have none, and
	// neither have layers that were containers and became parents, see
	// CreateRequest.FreezeParent.
	DiffID digest.Digest `json:"diffID,omitempty"`
	// TarSize is the length of that tar in bytes.
	TarSize int64 `json:"tarSize,omitempty"`
	// NoTar is set on layers whose tar the store cannot write again: it never had
	// one, or whoever filled the layer keeps what that takes.
	NoTar bool `json:"noTar,omitempty"`
	// Filling is set on a container since Fill has begun with it.
	Filling bool `json:"filling,omitempty"`
	// Scratch is set on a container that was created so.
	Scratch bool `json:"scratch,omitempty"`
	// Image is the id of the image that a container was made from, if any.
	Image digest.Digest `json:"image,omitempty"`
	// Volume is what the driver knows the snapshot by. A view has its parent's.
	Volume Volume `json:"volume"`
	// Usage is recorded when a layer is sealed, and what it refers to when somebody first asks Store.Referenced. For
	// containers ask Store.Usage.
	Usage Usage `json:"usage"`
	// ChainBytes is what a sealed layer and those below it hold, as Usage.Added counts it; nil where that is not known,
	// as of layers that were made by an older program or on one that was mounted then.
	ChainBytes *int64 `json:"chainBytes,omitempty"`
	// Created is, for a layer, the time at which its contents stood still: no file
	// in it was changed later. A container was then what its layer is.
	Created time.Time `json:"created"`
	Updated time.Time `json:"updated"`
	// Mounted is the directory where Store.Mount shows it, "" if it does not.
	Mounted string            `json:"mounted,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
}

// Image is a config, the ordered layers that it needs, and its names.
type Image struct {
	// ID is the digest of Config, as Docker names images.
	ID digest.Digest `json:"id"`
	// Config is the image configuration, byte for byte as it came.
	Config []byte `json:"config"`
	// Layers are the names (ChainIDs) of its layers, lowest first.
	Layers []string `json:"layers"`
	// Refs are its names, "repository:tag"; it may have none.
	Refs    []string  `json:"refs,omitempty"`
	Created time.Time `json:"created"`
}

// LayerSource is one layer of an image on its way in.
type LayerSource struct {
	// DiffID is the digest that the layer's uncompressed tar must have.
	DiffID digest.Digest
	// Open returns the uncompressed tar. It is called once, and only for layers
	// that the store does not have.
	Open func(ctx context.Context) (io.ReadCloser, error)
}

// LoadRequest is an image with its layers. Either all of it is in the store
// afterwards, or nothing that was not there before.
type LoadRequest struct {
	// Layers from the lowest up. Their names in the store are the ChainIDs of
	// their DiffIDs (OCI image-spec, identity).
	Layers []LayerSource
	// Config and its digest become the image; nil loads layers only.
	Config []byte
	// Refs are names that the image takes, from other images if need be.
	Refs []string
	// Created is the image's time; the zero time means now.
	Created time.Time
	// NoDevices refuses layers with device nodes.
	NoDevices bool
	// Progress, if set, is called as layers go in: by the goroutine that called
	// Load, so it must return at once.
	Progress func(LoadProgress)
}

// LoadProgress is one step of a load.
type LoadProgress struct {
	// Layer is the index in LoadRequest.Layers.
	Layer int
	// Read is how many bytes of its tar have been applied.
	Read int64
	// Done is set with the last call for a layer; Known, when the store had it.
	Done, Known bool
}

// CreateRequest says what a container begins as.
type CreateRequest struct {
	// Parent is a layer's name; "" is an empty root file system.
	Parent string
	// Size limits the container's tree in bytes, image included; 0 takes the
	// parent's limit. Less than the parent's limit is ErrInvalid.
	Size   int64
	Image  digest.Digest
	Labels map[string]string
	// FreezeParent lets Parent be a container: with the commit that enters the new
	// container it becomes a layer under its own name, as it is at this instant. Where
	// it is mounted that mount becomes read-only, unless files are open for writing;
	// what is written through them afterwards is in none of its children. Its volume is
	// sealed when it is next used by nobody.
	FreezeParent bool
	// Scratch says that the container is of no use to anybody after a power cut, until
	// it becomes a layer: one is being unpacked into it, say. A power cut may take it with
	// it, and whether its parent was frozen for it, until something later is committed; the
	// death of the process does not. Through what Mounts gives for it fsync may then not wait
	// for the disk. Freeze does.
	Scratch bool
}

// FillRequest is a layer tar on its way into a container.
type FillRequest struct {
	// Tar is the uncompressed tar. Fill reads it to its end, also after an error of
	// the archive's.
	Tar io.Reader
	// Owners translates owners from the tar to the tree; nil changes nothing.
	Owners layertar.OwnerMap
	// NoDevices refuses device nodes.
	NoDevices bool
}

// CompareRequest names two snapshots.
type CompareRequest struct {
	Name string
	// Below is what it is compared with: a snapshot that it stands on, or any other;
	// "" is the empty tree.
	Below string
	// Instant compares with a container's state at one instant, by a snapshot of it,
	// which is gone when the comparison is closed. That somebody has a container
	// mounted cannot always be seen, so one that is idle is treated like others.
	Instant bool
}

// TarOptions change how a comparison is written as a layer tar.
type TarOptions struct {
	// Owners translates owners from the tree to the tar; nil changes nothing.
	Owners layertar.OwnerMap
	// Latest is the latest modification time that the tar may show: what was modified
	// later is said to have been modified then. Zero is no limit.
	Latest time.Time
}

// MountOptions change how a snapshot is mounted.
type MountOptions struct {
	// Label is an SELinux context for all files; "" leaves them alone.
	Label string
}

// CommitRequest turns a container's present state into a layer of its own,
// while the container goes on.
type CommitRequest struct {
	// Config makes the new image's configuration out of the new layer; nil
	// commits a layer without an image. parent is the container's image, zero if
	// it has none.
	Config func(layer Info, parent Image) ([]byte, error)
	Refs   []string
	// Progress receives the number of bytes of layer tar written so far.
	Progress func(int64)
}

// StoreStatus is what `info` shows.
type StoreStatus struct {
	StoreID    string    `json:"storeID"`
	Root       string    `json:"root"`
	Driver     string    `json:"driver"`
	Chosen     string    `json:"chosen,omitempty"` // why this driver
	BaseSize   int64     `json:"baseSize"`
	Created    time.Time `json:"created"`
	Layers     int       `json:"layers"`
	Containers int       `json:"containers"`
	Views      int       `json:"views"`
	Images     int       `json:"images"`
	Backing    Status    `json:"backing"`
}

// CheckOptions say how deep Check looks.
type CheckOptions struct {
	// Repair mends what can be mended without destroying data.
	Repair bool
	// Content writes every layer's tar again and compares its digest: it reads all
	// data of the store.
	Content bool
	// Progress, if set, is called before each layer whose content is read.
	Progress func(layer string)
}

// Report is what Check found. An empty one is good news.
type Report struct {
	Findings []Finding `json:"findings"`
	// Checked counts what was looked at.
	Layers, Containers, Volumes int
	// Pending counts volumes that were removed and are still there: somebody uses them,
	// or they wait for the next Sweep. Nothing is wrong with that.
	Pending int
	// Repaired says what check --repair did, one line each.
	Repaired []string `json:"repaired,omitempty"`
}
