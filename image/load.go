package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

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
// Docker's load does it. Errors of the archive are ErrArchive; those that the
// store found, in a layer's tar, are snapshot.ErrInvalid too.
func Load(ctx context.Context, s Loader, a *Archive, o LoadOptions) ([]Loaded, error) {
	if len(a.images) == 1 {
		l, err := loadImage(ctx, s, a.images[0], loadTo{archive: a, options: o, refs: a.images[0].Refs})
		if err != nil {
			return nil, err
		}
		return []Loaded{l}, nil
	}
	return loadMany(ctx, s, a, o)
}

// loadMany loads images without names first, so that it can take back those that
// are new if a later one fails, and names them when all are there.
func loadMany(ctx context.Context, s Loader, a *Archive, o LoadOptions) (_ []Loaded, err error) {
	var added []digest.Digest
	defer func() {
		if err == nil {
			return
		}
		for _, id := range added {
			if _, _, rerr := s.RemoveImage(context.WithoutCancel(ctx), id.String(), false); rerr != nil {
				err = errors.Join(err, fmt.Errorf("taking back image %s: %w", id, rerr))
			}
		}
	}()
	var all []Loaded
	for _, img := range a.images {
		_, err := s.Image(ctx, img.ID.String())
		isNew := errors.Is(err, snapshot.ErrNotFound)
		if err != nil && !isNew {
			return nil, err
		}
		l, err := loadImage(ctx, s, img, loadTo{archive: a, options: o})
		if err != nil {
			return nil, err
		}
		if isNew {
			added = append(added, img.ID)
		}
		all = append(all, l)
	}
	added = nil // from here on they may have names
	for i, img := range a.images {
		for _, ref := range img.Refs {
			if err := s.Tag(ctx, img.ID, ref); err != nil {
				return nil, fmt.Errorf("naming image %s %s: %w", img.ID, ref, err)
			}
		}
		if all[i].Names = img.Refs; len(img.Refs) > 0 {
			if all[i].Image, err = s.Image(ctx, img.ID.String()); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// loadTo says how one image of an archive is loaded: refs are the names that it
// gets with it.
type loadTo struct {
	archive *Archive
	options LoadOptions
	refs    []string
}

// loadImage puts one image into the store.
func loadImage(ctx context.Context, s Loader, img *ArchiveImage, to loadTo) (Loaded, error) {
	a, o := to.archive, to.options
	l := loading{members: a.members, image: img, progress: o.Progress, read: make([]atomic.Int64, len(img.Layers)), ahead: map[int]*ahead{}}
	defer l.close()
	request := snapshot.LoadRequest{
		Config: img.Config, Refs: to.refs, Created: img.Created, NoDevices: o.NoDevices, Progress: l.report,
	}
	for i, layer := range img.Layers {
		request.Layers = append(request.Layers, snapshot.LayerSource{
			DiffID: layer.DiffID,
			Open:   func(ctx context.Context) (io.ReadCloser, error) { return l.open(ctx, i) },
		})
	}
	stored, err := s.Load(ctx, request)
	if err != nil {
		if errors.Is(err, ErrArchive) {
			return Loaded{}, blame(err, a.source, "")
		}
		if errors.Is(err, snapshot.ErrInvalid) {
			// What the store refuses of a load came out of the archive.
			return Loaded{}, &Error{Kind: ErrMalformed, Source: a.source, Text: "loading " + l.name(), Err: err}
		}
		return Loaded{}, fmt.Errorf("loading %s from %s: %w", l.name(), a.source, err)
	}
	return Loaded{Image: stored, Names: to.refs, NewLayers: l.added}, nil
}

// loading is one image on its way into the store.
type loading struct {
	members  members
	image    *ArchiveImage
	progress func(Event)
	read     []atomic.Int64 // bytes of each layer's blob
	added    int

	mu    sync.Mutex
	ahead map[int]*ahead
}

// open gives the store a layer. The next one is begun at once: a store that lacks
// a layer lacks all that stand on it.
func (l *loading) open(ctx context.Context, i int) (io.ReadCloser, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := &openedLayer{ahead: l.begin(ctx, i), of: l, index: i}
	if i+1 < len(l.image.Layers) {
		l.begin(ctx, i+1)
	}
	return r, nil
}

// openedLayer is a layer that the store reads. Closing it gives its buffers back,
// so that memory does not grow with the number of layers.
type openedLayer struct {
	*ahead
	of    *loading
	index int
}

func (o *openedLayer) Close() error {
	err := o.ahead.Close()
	o.of.mu.Lock()
	defer o.of.mu.Unlock()
	delete(o.of.ahead, o.index)
	return err
}

// begin starts to read a layer, if that has not been done. l.mu is held.
func (l *loading) begin(ctx context.Context, i int) *ahead {
	if l.ahead[i] == nil {
		// The layer after this one outlives this one's context, should the store
		// give each its own: close ends it.
		l.ahead[i] = newAhead(context.WithoutCancel(ctx), func() (io.ReadCloser, error) {
			return openLayer(l.members, l.image.Layers[i], &l.read[i])
		})
	}
	return l.ahead[i]
}

// close ends what was begun; nothing reads the archive afterwards.
func (l *loading) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.ahead {
		_ = a.Close() // never fails: the reader has had the errors
	}
}

func (l *loading) name() string {
	if len(l.image.Refs) > 0 {
		return l.image.Refs[0]
	}
	return l.image.ID.String()
}

// report tells of the store's progress in terms of the archive.
func (l *loading) report(p snapshot.LoadProgress) {
	if p.Layer < 0 || p.Layer >= len(l.image.Layers) {
		return
	}
	if p.Done && !p.Known {
		l.added++
	}
	if l.progress == nil {
		return
	}
	layer := l.image.Layers[p.Layer]
	e := Event{
		Stage: StageUnpack, Image: l.name(), DiffID: layer.DiffID, Layer: p.Layer, Layers: len(l.image.Layers),
		Done: l.read[p.Layer].Load(), Total: layer.Size, Finished: p.Done, Known: p.Known,
	}
	if p.Done {
		e.Done = e.Total
	}
	l.progress(e)
}
