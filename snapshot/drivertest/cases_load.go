package drivertest

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot"
)

// loadCases are about layers that come as tars.
func loadCases() []testCase {
	return []testCase{
		{name: "LoadChain", run: loadChain},
		{name: "LoadKnownLayers", run: loadKnownLayers},
		{name: "LoadTarExact", run: loadTarExact},
		{name: "LoadDeep300", run: loadDeep},
		{name: "LoadRefused", run: loadRefused},
		{name: "LoadReaderFails", run: loadReaderFails},
		{name: "LoadCancelled", run: loadCancelled},
		{name: "LoadTooLarge", run: loadTooLarge, small: true},
		{name: "LoadNoSpaceInTheMiddle", run: loadNoSpaceInTheMiddle, small: true},
		{name: "LoadSameConcurrently", run: loadSameConcurrently},
		{name: "LoadOverlapConcurrently", run: loadOverlapConcurrently},
	}
}

func loadChain(t *testing.T, e *env) {
	tars := [][]byte{
		makeTar(item{name: "etc/", kind: tar.TypeDir}, item{name: "etc/f", body: "lower"}, item{name: "etc/g", body: "g"}, item{name: "d/x", body: "x"}),
		makeTar(item{name: "etc/.wh.g"}, item{name: "etc/f", body: "middle"}, item{name: "d/.wh..wh..opq"}, item{name: "d/y", body: "y"}),
		makeTar(item{name: "l", kind: tar.TypeLink, link: "etc/f"}),
	}
	var seen []snapshot.LoadProgress
	im, err := e.s.Load(e.ctx(), snapshot.LoadRequest{
		Layers: sources(tars...), Progress: func(p snapshot.LoadProgress) {
			if p.Done {
				seen = append(seen, p)
			}
		},
	})
	require.NoError(t, err)
	require.Len(t, im.Layers, 3)
	require.Len(t, seen, 3)
	for i, p := range seen {
		require.Equal(t, snapshot.LoadProgress{Layer: i, Read: int64(len(tars[i])), Done: true}, p)
	}
	e.in(im.Layers[0], func(dir string) {
		require.Equal(t, "lower", e.read(dir, "etc/f"))
		require.Equal(t, []string{"d", "etc"}, e.entries(dir))
	})
	e.in(im.Layers[2], func(dir string) {
		require.Equal(t, "middle", e.read(dir, "l"))
		require.Equal(t, e.stat(dir, "l").Ino, e.stat(dir, "etc/f").Ino)
		e.missing(dir, "etc/g")
		require.Equal(t, []string{"y"}, e.entries(at(dir, "d")))
		e.refuses(dir, "l")
	})
	parent := ""
	for i, name := range im.Layers {
		in, err := e.s.Stat(e.ctx(), name)
		require.NoError(t, err)
		require.Equal(t, parent, in.Parent)
		require.Equal(t, digest.FromBytes(tars[i]), in.DiffID)
		require.True(t, in.Volume.Sealed)
		require.GreaterOrEqual(t, in.Usage.Added, int64(0))
		parent = name
	}
}

func loadKnownLayers(t *testing.T, e *env) {
	a, b, c := simpleTar(1), simpleTar(2), simpleTar(3)
	first := e.load(a, b)
	known := snapshot.LayerSource{DiffID: digest.FromBytes(a), Open: func(context.Context) (io.ReadCloser, error) {
		return nil, errors.New("a layer that the store has is not opened")
	}}
	im, err := e.s.Load(e.ctx(), snapshot.LoadRequest{Layers: []snapshot.LayerSource{known, source(c)}})
	require.NoError(t, err)
	require.Equal(t, first.Layers[0], im.Layers[0], "shared layers are stored once")
	if ids := e.volumes(); ids != nil {
		require.Len(t, ids, 3)
	}
	im, err = e.s.Load(e.ctx(), snapshot.LoadRequest{Layers: []snapshot.LayerSource{known}})
	require.NoError(t, err)
	require.Equal(t, first.Layers[:1], im.Layers)
	same := e.load(b, a) // the same layers in another order are other layers
	require.NotEqual(t, first.Layers[1], same.Layers[1])
	e.in(same.Layers[1], func(dir string) { require.Equal(t, "1", e.read(dir, "shared/top")) })
}

func loadTarExact(t *testing.T, e *env) {
	old := makeTar(item{name: "./", kind: tar.TypeDir}, item{name: "./odd//name", body: "x"}, item{name: "f", body: "body"})
	padded := append(simpleTar(1), make([]byte, 7*512)...) // as GNU tar pads to a record
	im := e.load(simpleTar(0), old, padded)
	for i, tar := range [][]byte{simpleTar(0), old, padded} {
		require.True(t, bytes.Equal(tar, e.layerTar(im.Layers[i])), "layer %d comes out as it came in", i)
	}
	e.reopen()
	require.True(t, bytes.Equal(padded, e.layerTar(im.Layers[2])))
	r, err := e.s.Check(e.ctx(), snapshot.CheckOptions{Content: true})
	require.NoError(t, err)
	require.Empty(t, r.Findings)
	require.Equal(t, 3, r.Layers)
}

func loadDeep(t *testing.T, e *env) {
	n := e.f.scaled(300, 60)
	var tars [][]byte
	for i := range n {
		tars = append(tars, simpleTar(i))
	}
	im := e.load(tars...)
	require.Len(t, im.Layers, n)
	for _, i := range []int{0, n / 2, n - 1} {
		e.in(im.Layers[i], func(dir string) {
			require.Equal(t, fmt.Sprint(i), e.read(dir, "shared/top"))
			require.Len(t, e.entries(dir), 1+2*(i+1))
		})
		require.True(t, bytes.Equal(tars[i], e.layerTar(im.Layers[i])))
	}
	e.knowsSum(im.Layers...)
	deepLayerRead(e, im.Layers[n-1], 12) // and deeper, layer by layer
}

// unchanged runs fn, which must leave the store as it was.
func (e *env) unchanged(fn func()) {
	e.t.Helper()
	names, volumes := e.names(), e.volumes()
	fn()
	require.Equal(e.t, names, e.names(), "names after a refusal")
	require.Equal(e.t, volumes, e.volumes(), "volumes after a refusal")
	for dir, want := range map[string]int{"work": 0, "tar": -1} {
		left, err := os.ReadDir(filepath.Join(e.root, dir))
		require.NoError(e.t, err)
		if want < 0 {
			want = e.layerCount()
		}
		require.Len(e.t, left, want, "files in %s after a refusal", dir)
	}
	e.clean()
}

func (e *env) layerCount() int {
	st, err := e.s.Status(e.ctx())
	require.NoError(e.t, err)
	return st.Layers
}

// refusedLayers are layers that must not go in.
func refusedLayers() map[string]snapshot.LayerSource {
	good := simpleTar(5)
	wrong := source(good)
	wrong.DiffID = digest.FromString("something else")
	flipped := source(good)
	raw := bytes.Clone(good)
	raw[len(raw)/2] ^= 1
	flipped.Open = func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil }
	cut := source(good)
	cut.Open = func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(good[:700])), nil
	}
	return map[string]snapshot.LayerSource{
		"wrong digest":     wrong,
		"bit flipped":      flipped,
		"truncated":        cut,
		"cut tar":          source(good[:700]),
		"not a tar":        source(bytes.Repeat([]byte("no tar "), 400)),
		"name with dots":   source(makeTar(item{name: "../../escaped", body: "x"})),
		"link out":         source(makeTar(item{name: "l", kind: tar.TypeSymlink, link: "/"}, item{name: "l/../../escaped", body: "x"})),
		"hard link out":    source(makeTar(item{name: "h", kind: tar.TypeLink, link: "../../../etc/passwd"})),
		"hard link to air": source(makeTar(item{name: "h", kind: tar.TypeLink, link: "missing"})),
		"bad whiteout":     source(makeTar(item{name: "d/.wh..", body: ""})),
		"duplicate":        source(makeTar(item{name: "f", body: "1"}, item{name: "f", body: "2"})),
	}
}

func loadRefused(t *testing.T, e *env) {
	keep := e.load(simpleTar(1), simpleTar(2))
	used := e.used()
	for name, bad := range refusedLayers() {
		e.unchanged(func() {
			for _, chain := range [][]snapshot.LayerSource{
				{bad}, // alone
				{source(simpleTar(1)), bad, source(simpleTar(3))},                  // on a known layer
				{source(simpleTar(6)), source(simpleTar(7)), bad},                  // after new ones
				{source(simpleTar(1)), source(simpleTar(2)), source(good(8)), bad}, // both
			} {
				_, err := e.s.Load(e.ctx(), snapshot.LoadRequest{Layers: chain, Config: []byte("{}"), Refs: []string{"bad:1"}})
				require.ErrorIs(t, err, snapshot.ErrInvalid, "a layer with: %s", name)
			}
		})
	}
	_, err := os.Lstat(filepath.Join(e.dir, "escaped"))
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = e.s.Load(e.ctx(), snapshot.LoadRequest{
		Layers: sources(makeTar(item{name: "null", kind: tar.TypeChar, major: 1, minor: 3})), NoDevices: true,
	})
	require.ErrorIs(t, err, snapshot.ErrInvalid, "a device where none is allowed")
	_, err = e.s.Load(e.ctx(), snapshot.LoadRequest{Layers: []snapshot.LayerSource{{DiffID: "nonsense"}}})
	require.ErrorIs(t, err, snapshot.ErrInvalid)
	images, err := e.s.Images(e.ctx())
	require.NoError(t, err)
	require.Empty(t, images)
	require.InDelta(t, used, e.used(), float64(e.f.SpaceSlack), "space after refusals")
	require.True(t, bytes.Equal(simpleTar(2), e.layerTar(keep.Layers[1])))
}

func good(n int) []byte { return simpleTar(n) }

type failingReader struct {
	io.Reader
	err error
}

func (f failingReader) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	if err == io.EOF {
		err = f.err
	}
	return n, err
}

func (failingReader) Close() error { return nil }

func loadReaderFails(t *testing.T, e *env) {
	broken := errors.New("the network is gone")
	for _, at := range []int{0, 100, 600, len(simpleTar(1)) - 1} {
		src := source(simpleTar(1))
		src.Open = func(context.Context) (io.ReadCloser, error) {
			return failingReader{bytes.NewReader(simpleTar(1)[:at]), broken}, nil
		}
		e.unchanged(func() {
			_, err := e.s.Load(e.ctx(), snapshot.LoadRequest{Layers: []snapshot.LayerSource{source(simpleTar(9)), src}})
			require.ErrorIs(t, err, broken)
			require.NotErrorIs(t, err, snapshot.ErrInvalid, "the archive is not to blame")
		})
	}
	src := source(simpleTar(1))
	src.Open = func(context.Context) (io.ReadCloser, error) { return nil, broken }
	e.unchanged(func() {
		_, err := e.s.Load(e.ctx(), snapshot.LoadRequest{Layers: []snapshot.LayerSource{src}})
		require.ErrorIs(t, err, broken)
	})
}

func loadCancelled(t *testing.T, e *env) {
	c, cancel := context.WithCancel(e.ctx())
	src := source(simpleTar(2))
	src.Open = func(context.Context) (io.ReadCloser, error) {
		cancel()
		return io.NopCloser(bytes.NewReader(simpleTar(2))), nil
	}
	e.unchanged(func() {
		_, err := e.s.Load(c, snapshot.LoadRequest{Layers: []snapshot.LayerSource{source(simpleTar(1)), src, source(simpleTar(3))}})
		require.ErrorIs(t, err, context.Canceled)
	})
	e.unchanged(func() {
		_, err := e.s.Create(c, "cancelled", snapshot.CreateRequest{})
		if err == nil { // it may have been too quick to notice
			e.remove("cancelled")
		}
	})
}

// loadTooLarge loads what cannot fit: it is refused by what the headers say.
func loadTooLarge(t *testing.T, e *env) {
	bomb := generated(item{name: "bomb", size: 2 * e.f.SmallSize})
	e.unchanged(func() {
		_, err := e.s.Load(e.ctx(), snapshot.LoadRequest{Layers: []snapshot.LayerSource{source(simpleTar(1)), bomb}})
		require.ErrorIs(t, err, snapshot.ErrNoSpace)
	})
	e.load(simpleTar(1), simpleTar(2))
}

// loadNoSpaceInTheMiddle fills the volume in the middle of a layer: the file
// system's own needs are not in the headers.
func loadNoSpaceInTheMiddle(t *testing.T, e *env) {
	e.f.needs(t, SizeLimit)
	half := e.f.SmallSize * 3 / 8
	fits := generated(item{name: "fits", size: e.f.SmallSize / 2, seed: 1})
	over := generated(item{name: "a", size: half, seed: 2}, item{name: "b", size: half, seed: 2})
	keep := e.loadFrom(fits)
	used := e.used()
	e.unchanged(func() {
		_, err := e.s.Load(e.ctx(), snapshot.LoadRequest{Layers: []snapshot.LayerSource{fits, source(simpleTar(1)), over}})
		require.ErrorIs(t, err, snapshot.ErrNoSpace)
		require.NotErrorIs(t, err, snapshot.ErrInvalid)
	})
	waitFor(t, "the space of the layer that did not fit", func() bool { return e.used() < used+e.f.SpaceSlack })
	im := e.loadFrom(fits, source(simpleTar(1)))
	require.Equal(t, keep.Layers[0], im.Layers[0])
	e.create("c", im.Layers[1])
	e.in("c", func(dir string) { e.write(dir, "still", "works") })
}

func loadSameConcurrently(t *testing.T, e *env) {
	var opened atomic.Int64
	var layers []snapshot.LayerSource
	for i := range 4 {
		src := source(simpleTar(i))
		open := src.Open
		src.Open = func(c context.Context) (io.ReadCloser, error) { opened.Add(1); return open(c) }
		layers = append(layers, src)
	}
	images := make([]snapshot.Image, 8)
	e.parallel(8, func(i int) (err error) {
		images[i], err = e.s.Load(e.ctx(), snapshot.LoadRequest{Layers: layers})
		return err
	})
	require.EqualValues(t, 4, opened.Load(), "each layer is unpacked once")
	for _, im := range images {
		require.Equal(t, images[0].Layers, im.Layers)
	}
	if ids := e.volumes(); ids != nil {
		require.Len(t, ids, 4)
	}
}

func loadOverlapConcurrently(t *testing.T, e *env) {
	e.parallel(8, func(i int) error {
		// Lower halves are shared, upper halves are not.
		_, err := e.s.Load(e.ctx(), snapshot.LoadRequest{Layers: sources(simpleTar(1), simpleTar(2), simpleTar(10+i%4), simpleTar(20+i))})
		return err
	})
	require.Len(t, e.names(), 2+4+8)
	r, err := e.s.Check(e.ctx(), snapshot.CheckOptions{Content: true})
	require.NoError(t, err)
	require.Empty(t, r.Findings)
}

// parallel runs fn n times at once.
func (e *env) parallel(n int, fn func(i int) error) {
	e.t.Helper()
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = fn(i) })
	}
	wg.Wait()
	require.NoError(e.t, errors.Join(errs...))
}
