package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot"
)

// fakeStore keeps layers' tars in memory, and holds its callers to the contract
// of snapshot.Store: DiffIDs are verified, a load is whole or nothing.
type fakeStore struct {
	mu     sync.Mutex
	layers map[string]fakeLayer
	images map[digest.Digest]snapshot.Image
	opened int
	// discard drops the tars: for tests of memory.
	discard bool
	// failTag makes Tag fail for a name.
	failTag string
}

type fakeLayer struct {
	info snapshot.Info
	tar  []byte
}

func newFakeStore() *fakeStore {
	return &fakeStore{layers: map[string]fakeLayer{}, images: map[digest.Digest]snapshot.Image{}}
}

func (s *fakeStore) Load(ctx context.Context, r snapshot.LoadRequest) (snapshot.Image, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var diffIDs []digest.Digest
	var names []string
	fresh := map[string]fakeLayer{}
	for i, l := range r.Layers {
		diffIDs = append(diffIDs, l.DiffID)
		name := identity.ChainID(slices.Clone(diffIDs)).String()
		_, known := s.layers[name]
		if !known {
			layer, err := s.readLayer(ctx, r, i)
			if err != nil {
				return snapshot.Image{}, fmt.Errorf("unpacking layer %s: %w", l.DiffID, err)
			}
			layer.info.Name = name
			if i > 0 {
				layer.info.Parent = names[i-1]
			}
			fresh[name] = layer
		}
		names = append(names, name)
		if r.Progress != nil {
			r.Progress(snapshot.LoadProgress{Layer: i, Done: true, Known: known})
		}
	}
	for name, l := range fresh {
		s.layers[name] = l
	}
	img := snapshot.Image{ID: digest.FromBytes(r.Config), Config: r.Config, Layers: names, Created: r.Created}
	if old, ok := s.images[img.ID]; ok {
		img.Refs = old.Refs
	}
	s.images[img.ID] = img
	for _, ref := range r.Refs {
		s.tag(img.ID, ref)
	}
	return s.images[img.ID], nil
}

func (s *fakeStore) readLayer(ctx context.Context, r snapshot.LoadRequest, i int) (l fakeLayer, err error) {
	s.opened++
	src, err := r.Layers[i].Open(ctx)
	if err != nil {
		return l, err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	digester := digest.SHA256.Digester()
	var kept bytes.Buffer
	to := io.MultiWriter(digester.Hash(), &kept)
	if s.discard {
		to = digester.Hash()
	}
	n, err := io.Copy(to, progressReader{src, r, i})
	if err != nil {
		return l, err
	}
	if got := digester.Digest(); got != r.Layers[i].DiffID {
		return l, fmt.Errorf("%w: the layer's tar has the digest %s", snapshot.ErrInvalid, got)
	}
	l.tar = kept.Bytes()
	l.info = snapshot.Info{Kind: snapshot.KindLayer, DiffID: r.Layers[i].DiffID, TarSize: n, Usage: snapshot.Usage{Added: n}}
	return l, nil
}

type progressReader struct {
	io.Reader
	r snapshot.LoadRequest
	i int
}

func (p progressReader) Read(buf []byte) (int, error) {
	n, err := p.Reader.Read(buf)
	if p.r.Progress != nil {
		p.r.Progress(snapshot.LoadProgress{Layer: p.i, Read: int64(n)})
	}
	return n, err
}

func (s *fakeStore) tag(id digest.Digest, ref string) {
	for other, img := range s.images {
		img.Refs = slices.DeleteFunc(slices.Clone(img.Refs), func(r string) bool { return r == ref })
		s.images[other] = img
	}
	img := s.images[id]
	img.Refs = append(img.Refs, ref)
	s.images[id] = img
}

func (s *fakeStore) Tag(_ context.Context, id digest.Digest, ref string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ref == s.failTag {
		return errors.New("the disk broke")
	}
	s.tag(id, ref)
	return nil
}

func (s *fakeStore) Image(_ context.Context, ref string) (snapshot.Image, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, img := range s.images {
		if slices.Contains(img.Refs, ref) || len(ref) >= 4 && (strings.HasPrefix(id.Encoded(), ref) || strings.HasPrefix(id.String(), ref)) {
			return img, nil
		}
	}
	return snapshot.Image{}, fmt.Errorf("image %s: %w", ref, snapshot.ErrNotFound)
}

func (s *fakeStore) RemoveImage(_ context.Context, ref string, _ bool) (untagged, deleted []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.images, digest.Digest(ref))
	for name := range s.layers {
		needed := false
		for _, img := range s.images {
			needed = needed || slices.Contains(img.Layers, name)
		}
		if !needed {
			delete(s.layers, name)
			deleted = append(deleted, name)
		}
	}
	return nil, deleted, nil
}

func (s *fakeStore) Stat(_ context.Context, name string) (snapshot.Info, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, ok := s.layers[name]
	if !ok {
		return snapshot.Info{}, fmt.Errorf("layer %s: %w", name, snapshot.ErrNotFound)
	}
	return l.info, nil
}

func (s *fakeStore) WriteLayer(_ context.Context, name string, w io.Writer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := io.Copy(w, bytes.NewReader(s.layers[name].tar))
	return err
}

// empty tells whether there is nothing in the store.
func (s *fakeStore) empty() bool { return len(s.layers) == 0 && len(s.images) == 0 }

// mustLoad opens and loads an archive.
func mustLoad(t *testing.T, s *fakeStore, source string, o OpenOptions) []Loaded {
	t.Helper()
	loaded, err := openAndLoad(t, s, source, o)
	require.NoError(t, err)
	return loaded
}

func openAndLoad(t *testing.T, s *fakeStore, source string, o OpenOptions) ([]Loaded, error) {
	t.Helper()
	if o.SpoolDir == "" {
		o.SpoolDir = t.TempDir()
	}
	a, err := Open(context.Background(), source, o)
	if err != nil {
		return nil, err
	}
	defer func() { require.NoError(t, a.Close()) }()
	return Load(context.Background(), s, a, LoadOptions{})
}

var someTime = time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)

// The store is what the package needs of it.
var (
	_ Loader = (*snapshot.Store)(nil)
	_ Saver  = (*snapshot.Store)(nil)
)
