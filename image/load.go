package image

import (
	"context"

	"github.com/opencontainers/go-digest"

	"blockstore.dev/blockstore/snapshot"
)

// Loader is what Load and Import need of the store; *snapshot.Store is one.
type Loader interface {
	Load(ctx context.Context, r snapshot.LoadRequest) (snapshot.Image, error)
	Image(ctx context.Context, ref string) (snapshot.Image, error)
	Tag(ctx context.Context, id digest.Digest, ref string) error
	RemoveImage(ctx context.Context, ref string, force bool) (untagged, deleted []string, err error)
}

// LoadOptions say how images go into the store.
type LoadOptions struct {
	// NoDevices refuses layers with device nodes.
	NoDevices bool
	// Progress, if set, is told of every layer.
	Progress func(Event)
}

// Loaded is an image that went into the store.
type Loaded struct {
	snapshot.Image
	// Names are those that it got by this load; Image.Refs are all of them.
	Names []string `json:"names,omitempty"`
	// NewLayers is how many layers the store did not have.
	NewLayers int `json:"newLayers"`
}

// Load puts all images of an archive into the store: all of them, or none and
// an error. Layers are decompressed ahead of the unpacking, within a bounded
// amount of memory; blobs are compared with their descriptors as they are read,
// layers with their DiffIDs by the store. Names move from other images, as
// Docker's load does it.
func Load(ctx context.Context, s Loader, a *Archive, o LoadOptions) ([]Loaded, error) {
	panic("soon")
}
