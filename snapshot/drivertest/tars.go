package drivertest

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot"
)

// item is an entry of a layer tar; zero values mean a file of mode 0644, owned by 0:0.
type item struct {
	name, body, link string
	kind             byte
	mode             int64
	size             int64  // of generated content, in place of body
	seed             uint64 // of that content; 0: zeros
	major, minor     int64
}

// content generates an item's bytes, without end.
func (it item) content() io.Reader {
	switch {
	case it.body != "":
		return strings.NewReader(it.body)
	case it.seed != 0:
		return noiseReader(it.seed)
	}
	return zeros{}
}

var itemTime = time.Unix(1_500_000_000, 123_000_000)

// makeTar writes items as they stand, hostile or not.
func makeTar(items ...item) []byte {
	var b bytes.Buffer
	if err := writeTar(&b, items); err != nil {
		panic(fmt.Sprintf("test data: %v", err))
	}
	return b.Bytes()
}

func writeTar(to io.Writer, items []item) error {
	w := tar.NewWriter(to)
	for _, it := range items {
		h := &tar.Header{
			Name: it.name, Linkname: it.link, Typeflag: it.kind, Mode: it.mode,
			Size: max(it.size, int64(len(it.body))), ModTime: itemTime, Format: tar.FormatPAX,
			Devmajor: it.major, Devminor: it.minor,
		}
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Mode == 0 {
			h.Mode = 0o644
			if h.Typeflag == tar.TypeDir {
				h.Mode = 0o755
			}
		}
		if h.Typeflag != tar.TypeReg {
			h.Size = 0
		}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.CopyN(w, it.content(), h.Size); err != nil {
			return err
		}
	}
	return w.Close()
}

// generated is a layer that is made while it is read: for large ones.
func generated(items ...item) snapshot.LayerSource {
	sum := digest.Canonical.Digester()
	if err := writeTar(sum.Hash(), items); err != nil {
		panic(fmt.Sprintf("test data: %v", err))
	}
	return snapshot.LayerSource{
		DiffID: sum.Digest(),
		Open: func(context.Context) (io.ReadCloser, error) {
			r, w := io.Pipe()
			go func() { w.CloseWithError(writeTar(w, items)) }()
			return r, nil
		},
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// source is a layer out of memory.
func source(tar []byte) snapshot.LayerSource {
	return snapshot.LayerSource{
		DiffID: digest.FromBytes(tar),
		Open: func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(tar)), nil
		},
	}
}

func sources(tars ...[]byte) []snapshot.LayerSource {
	var all []snapshot.LayerSource
	for _, t := range tars {
		all = append(all, source(t))
	}
	return all
}

// load loads layers without an image.
func (e *env) load(tars ...[]byte) snapshot.Image {
	e.t.Helper()
	return e.loadFrom(sources(tars...)...)
}

func (e *env) loadFrom(layers ...snapshot.LayerSource) snapshot.Image {
	e.t.Helper()
	im, err := e.s.Load(e.ctx(), snapshot.LoadRequest{Layers: layers})
	require.NoError(e.t, err)
	return im
}

// simpleTar is a small layer; n makes it unlike others.
func simpleTar(n int) []byte {
	return makeTar(
		item{name: "shared/", kind: tar.TypeDir},
		item{name: "shared/top", body: fmt.Sprint(n)},
		item{name: fmt.Sprintf("layer-%d", n), body: fmt.Sprintf("of layer %d", n)},
		item{name: fmt.Sprintf("link-%d", n), kind: tar.TypeLink, link: fmt.Sprintf("layer-%d", n)},
	)
}

// snapshotChain are the names that layers have in a store.
func snapshotChain(tars ...[]byte) ([]string, error) {
	var ids []digest.Digest
	for _, t := range tars {
		ids = append(ids, digest.FromBytes(t))
	}
	var names []string
	for _, id := range identity.ChainIDs(ids) {
		if err := id.Validate(); err != nil {
			return nil, err
		}
		names = append(names, id.String())
	}
	return names, nil
}
