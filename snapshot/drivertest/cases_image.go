package drivertest

import (
	"fmt"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot"
)

// imageCases are about images, their names, and what goes with them.
func imageCases() []testCase {
	return []testCase{
		{name: "ImageNames", run: imageNames},
		{name: "ImageShared", run: imageShared},
		{name: "ImageInUse", run: imageInUse},
		{name: "ImageCommit", run: imageCommit},
		{name: "GC", run: gc},
	}
}

// image loads layers as an image.
func (e *env) image(config string, refs []string, tars ...[]byte) snapshot.Image {
	e.t.Helper()
	im, err := e.s.Load(e.ctx(), snapshot.LoadRequest{Layers: sources(tars...), Config: []byte(config), Refs: refs})
	require.NoError(e.t, err)
	require.Equal(e.t, digest.FromString(config), im.ID)
	return im
}

func imageNames(t *testing.T, e *env) {
	a := e.image("a", []string{"img:1", "img:latest"}, simpleTar(1))
	require.Equal(t, []string{"img:1", "img:latest"}, a.Refs)
	b := e.image("b", []string{"img:latest"}, simpleTar(1), simpleTar(2))
	for ref, want := range map[string]digest.Digest{
		"img:1": a.ID, "img:latest": b.ID, a.ID.String(): a.ID, a.ID.Encoded()[:12]: a.ID, b.ID.String()[:20]: b.ID,
	} {
		im, err := e.s.Image(e.ctx(), ref)
		require.NoError(t, err, ref)
		require.Equal(t, want, im.ID, ref)
	}
	for _, ref := range []string{"img:2", "", "abc", "sha256:", "ffffffffffff"} {
		_, err := e.s.Image(e.ctx(), ref)
		require.ErrorIs(t, err, snapshot.ErrNotFound, ref)
	}
	require.NoError(t, e.s.Tag(e.ctx(), a.ID, "other/name:x"))
	require.ErrorIs(t, e.s.Tag(e.ctx(), digest.FromString("nothing"), "n:1"), snapshot.ErrNotFound)
	again := e.image("a", nil, simpleTar(1))
	require.Equal(t, []string{"img:1", "other/name:x"}, again.Refs)
	images, err := e.s.Images(e.ctx())
	require.NoError(t, err)
	require.Len(t, images, 2)
}

func imageShared(t *testing.T, e *env) {
	a := e.image("a", []string{"a:1"}, simpleTar(1), simpleTar(2))
	b := e.image("b", []string{"b:1"}, simpleTar(1), simpleTar(3))
	c := e.image("c", []string{"c:1"}, simpleTar(1))
	require.Len(t, e.names(), 3, "shared layers are there once")
	require.ErrorIs(t, e.s.Remove(e.ctx(), a.Layers[1]), snapshot.ErrBusy, "a layer of an image")

	untagged, deleted, err := e.s.RemoveImage(e.ctx(), "c:1", false)
	require.NoError(t, err)
	require.Equal(t, []string{"c:1"}, untagged)
	require.Equal(t, []string{c.ID.String()}, deleted, "its layer is below others")

	_, deleted, err = e.s.RemoveImage(e.ctx(), a.ID.String(), false)
	require.NoError(t, err)
	require.Equal(t, []string{a.ID.String(), a.Layers[1]}, deleted)

	require.NoError(t, e.s.Tag(e.ctx(), b.ID, "b:2"))
	_, _, err = e.s.RemoveImage(e.ctx(), b.ID.String(), false)
	require.ErrorIs(t, err, snapshot.ErrBusy, "an id with two names")
	untagged, deleted, err = e.s.RemoveImage(e.ctx(), "b:1", false)
	require.NoError(t, err)
	require.Equal(t, []string{"b:1"}, untagged)
	require.Empty(t, deleted)
	_, deleted, err = e.s.RemoveImage(e.ctx(), "b:2", false)
	require.NoError(t, err)
	require.Equal(t, []string{b.ID.String(), b.Layers[1], b.Layers[0]}, deleted)
	require.Empty(t, e.names())
	_, _, err = e.s.RemoveImage(e.ctx(), "b:2", true)
	require.ErrorIs(t, err, snapshot.ErrNotFound)
}

func imageInUse(t *testing.T, e *env) {
	im := e.image("a", []string{"a:1"}, simpleTar(1), simpleTar(2))
	_, err := e.s.Create(e.ctx(), "c", snapshot.CreateRequest{Parent: im.Layers[1], Image: im.ID})
	require.NoError(t, err)
	_, _, err = e.s.RemoveImage(e.ctx(), "a:1", false)
	require.ErrorIs(t, err, snapshot.ErrBusy)
	got, err := e.s.Image(e.ctx(), "a:1")
	require.NoError(t, err)
	require.Equal(t, im.Refs, got.Refs, "a refusal takes no names")
	_, deleted, err := e.s.RemoveImage(e.ctx(), "a:1", true)
	require.NoError(t, err)
	require.Equal(t, []string{im.ID.String()}, deleted, "the container's layers stay")
	e.in("c", func(dir string) { require.Equal(t, "2", e.read(dir, "shared/top")) })
	e.remove("c")
	removed, err := e.s.GC(e.ctx())
	require.NoError(t, err)
	require.ElementsMatch(t, im.Layers, removed)
}

func imageCommit(t *testing.T, e *env) {
	im := e.image("a", []string{"a:1"}, simpleTar(1))
	_, err := e.s.Create(e.ctx(), "c", snapshot.CreateRequest{Parent: im.Layers[0], Image: im.ID})
	require.NoError(t, err)
	e.in("c", func(dir string) { e.write(dir, "new", "new") })
	got, layer, err := e.s.Commit(e.ctx(), "c", snapshot.CommitRequest{
		Refs: []string{"b:1"},
		Config: func(layer snapshot.Info, parent snapshot.Image) ([]byte, error) {
			require.Equal(t, im.ID, parent.ID)
			return fmt.Appendf(nil, "%s on %s", layer.DiffID, parent.ID), nil
		},
	})
	require.NoError(t, err)
	require.Equal(t, []string{im.Layers[0], layer.Name}, got.Layers)
	require.Equal(t, []string{"b:1"}, got.Refs)
	e.knowsSum(got.Layers...)
	refused := fmt.Errorf("no configuration")
	e.in("c", func(dir string) { e.write(dir, "newer", "newer") })
	e.unchanged(func() {
		_, _, err = e.s.Commit(e.ctx(), "c", snapshot.CommitRequest{
			Config: func(snapshot.Info, snapshot.Image) ([]byte, error) { return nil, refused },
		})
		require.ErrorIs(t, err, refused)
	})
}

func gc(t *testing.T, e *env) {
	im := e.image("a", nil, simpleTar(1), simpleTar(2))
	loose := e.load(simpleTar(1), simpleTar(3), simpleTar(4))
	e.create("c", loose.Layers[1])
	e.view("v", im.Layers[0])
	removed, err := e.s.GC(e.ctx())
	require.NoError(t, err)
	require.Equal(t, loose.Layers[2:], removed, "only what nothing needs")
	removed, err = e.s.GC(e.ctx())
	require.NoError(t, err)
	require.Empty(t, removed)
	e.remove("c")
	removed, err = e.s.GC(e.ctx())
	require.NoError(t, err)
	require.Equal(t, loose.Layers[1:2], removed)
	require.ElementsMatch(t, append([]string{"v"}, im.Layers...), e.names())
}
