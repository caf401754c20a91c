package drivertest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/mount"
)

// lifeCases are about opening, closing and destroying stores.
func lifeCases() []testCase {
	return []testCase{
		{name: "SurvivesReopen", run: survivesReopen},
		{name: "MountedAcrossReopen", run: mountedAcrossReopen},
		{name: "HandedOutAcrossReopen", run: handedOutAcrossReopen},
		{name: "NestedMountKept", run: nestedMountKept},
		{name: "OneProcessOnly", run: oneProcessOnly},
		{name: "InitRefused", run: initRefused},
		{name: "CloseTwice", run: closeTwice, own: true},
		{name: "DestroyWhileMounted", run: destroyWhileMounted, own: true},
		{name: "DestroyFull", run: destroyFull, own: true},
		{name: "InitAgainAfterDestroy", run: initAgain, own: true},
	}
}

func survivesReopen(t *testing.T, e *env) {
	im := e.image("config", []string{"a:1"}, simpleTar(1), simpleTar(2))
	_, err := e.s.Create(e.ctx(), "c", snapshot.CreateRequest{
		Parent: im.Layers[1], Image: im.ID, Labels: map[string]string{"k": "v"}, Size: e.f.BaseSize + e.f.SmallSize,
	})
	require.NoError(t, err)
	e.view("v", im.Layers[0])
	e.in("c", func(dir string) { e.write(dir, "f", "f") })
	all, err := e.s.List(e.ctx())
	require.NoError(t, err)
	tree := e.tree("c")
	for range 2 {
		e.reopen()
		got, err := e.s.List(e.ctx())
		require.NoError(t, err)
		require.Equal(t, all, got)
		e.same(tree, e.tree("c"), "the container after reopening")
		again, err := e.s.Image(e.ctx(), "a:1")
		require.NoError(t, err)
		require.Equal(t, im.Layers, again.Layers)
		require.Equal(t, im.Config, again.Config)
		e.clean()
		e.create("another", im.Layers[1])
		e.remove("another")
	}
}

func mountedAcrossReopen(t *testing.T, e *env) {
	e.create("c", "")
	dir := e.mount("c")
	e.write(dir, "f", "before")
	for range 2 {
		e.close()
		e.write(dir, "f", "while closed") // the mount is the kernel's
		e.open()
		in, err := e.s.Stat(e.ctx(), "c")
		require.NoError(t, err)
		require.Equal(t, dir, in.Mounted)
		require.Equal(t, dir, e.mount("c"))
	}
	e.write(dir, "f", "after")
	require.ErrorIs(t, e.s.Remove(e.ctx(), "c"), snapshot.ErrBusy)
	layer := e.commit("c")
	e.unmount("c")
	e.missing(dir, "f")
	e.in(layer.Name, func(dir string) { require.Equal(t, "after", e.read(dir, "f")) })
	e.in("c", func(dir string) { require.Equal(t, "after", e.read(dir, "f")) })
}

// handedOutAcrossReopen closes the store while somebody else has its mounts.
func handedOutAcrossReopen(t *testing.T, e *env) {
	e.create("c", "")
	ms, err := e.s.Mounts(e.ctx(), "c")
	require.NoError(t, err)
	at := filepath.Join(e.dir, "elsewhere")
	e.ok(os.Mkdir(at, 0o700))
	e.mountAll(ms, at)
	defer func() { // also if the case fails
		for range ms {
			_ = mount.Unmount(at)
		}
		_ = os.Remove(at)
	}()
	e.reopen()
	e.write(at, "f", "written")
	again, err := e.s.Mounts(e.ctx(), "c")
	require.NoError(t, err)
	require.Equal(t, ms, again, "the same answer after a restart")
	require.ErrorIs(t, e.s.Remove(e.ctx(), "c"), snapshot.ErrBusy)
	e.unmountAll(ms, at)
	e.in("c", func(dir string) { require.Equal(t, "written", e.read(dir, "f")) })
	e.remove("c")
}

// nestedMountKept has somebody mount inside a container's tree.
func nestedMountKept(t *testing.T, e *env) {
	e.create("c", "")
	dir := e.mount("c")
	inner := filepath.Join(dir, "12345678")
	e.ok(os.Mkdir(inner, 0o755))
	outside := filepath.Join(e.dir, "outside")
	e.ok(os.Mkdir(outside, 0o755))
	e.write(outside, "f", "of others")
	e.ok(mount.At(mount.Mount{Type: "none", Source: outside, Options: []string{"bind"}}, inner))
	defer func() { _ = mount.Unmount(inner) }()
	require.ErrorIs(t, e.s.Unmount(e.ctx(), "c"), snapshot.ErrBusy)
	e.reopen()
	require.Equal(t, "of others", e.read(inner, "f"), "a mount of others, after reopening")
	layer := e.commit("c")
	e.in(layer.Name, func(dir string) { require.Equal(t, []string{"12345678"}, e.entries(dir)) })
	e.missing(e.layerDirEntry(layer.Name), "f")
	e.ok(mount.Unmount(inner))
	e.unmount("c")
	require.Equal(t, "of others", e.read(outside, "f"))
	e.ok(os.RemoveAll(outside))
}

// layerDirEntry mounts a layer and names the directory where others mounted.
func (e *env) layerDirEntry(layer string) string { return filepath.Join(e.mount(layer), "12345678") }

func oneProcessOnly(t *testing.T, e *env) {
	_, err := snapshot.Open(e.ctx(), e.options())
	require.ErrorIs(t, err, snapshot.ErrBusy)
	require.ErrorContains(t, err, "pid ")
	require.ErrorIs(t, snapshot.Destroy(e.ctx(), e.options()), snapshot.ErrBusy)
	e.clean()
}

func initRefused(t *testing.T, e *env) {
	layer := e.layer("", func(dir string) { e.write(dir, "f", "f") })
	e.close()
	o := snapshot.InitOptions{Root: e.root, BaseSize: e.f.BaseSize}
	if e.f.Prepare != nil {
		e.f.Prepare(t, &o)
	}
	err := snapshot.Init(e.ctx(), e.f.Kind, o, "")
	require.ErrorIs(t, err, snapshot.ErrExists)
	e.open()
	e.in(layer.Name, func(dir string) { require.Equal(t, "f", e.read(dir, "f")) })

	full := filepath.Join(e.dir, "full")
	e.write(full, "file", "of others")
	o.Root = full
	require.ErrorIs(t, snapshot.Init(e.ctx(), e.f.Kind, o, ""), snapshot.ErrInvalid)
	require.Equal(t, []string{"file"}, e.entries(full))
	e.ok(os.RemoveAll(full))
}

func closeTwice(t *testing.T, e *env) {
	s := e.s
	e.close()
	require.NoError(t, s.Close(e.ctx()))
	e.open()
}

func destroyWhileMounted(t *testing.T, e *env) {
	e.create("c", "")
	dir := e.mount("c")
	e.write(dir, "f", "f")
	e.close()
	require.ErrorIs(t, snapshot.Destroy(e.ctx(), e.options()), snapshot.ErrBusy)
	require.Equal(t, "f", e.read(dir, "f"))
	e.open()
	e.unmount("c")
	ms, err := e.s.Mounts(e.ctx(), "c")
	require.NoError(t, err)
	at := filepath.Join(e.dir, "elsewhere")
	e.ok(os.Mkdir(at, 0o700))
	e.mountAll(ms, at)
	defer func() { _ = mount.Unmount(at) }()
	e.close()
	require.ErrorIs(t, snapshot.Destroy(e.ctx(), e.options()), snapshot.ErrBusy, "mounted by others")
	require.Equal(t, "f", e.read(at, "f"))
	e.unmountAll(ms, at)
	e.ok(os.Remove(at))
	e.open()
	e.in("c", func(dir string) { require.Equal(t, "f", e.read(dir, "f")) })
}

func destroyFull(t *testing.T, e *env) {
	im := e.image("config", []string{"a:1"}, simpleTar(1), simpleTar(2))
	e.create("c", im.Layers[1])
	e.view("v", im.Layers[0])
	e.end(t)
	require.ErrorIs(t, snapshot.Destroy(e.ctx(), e.options()), snapshot.ErrNotFound)
	_, err := snapshot.Open(e.ctx(), e.options())
	require.ErrorIs(t, err, snapshot.ErrNotFound)
	_, err = os.Stat(e.root)
	require.ErrorIs(t, err, os.ErrNotExist, "asking after a store that is gone made something")
}

func initAgain(t *testing.T, e *env) {
	first := e.id
	e.create("c", "")
	e.close()
	require.NoError(t, snapshot.Destroy(e.ctx(), e.options()))
	e.leaks(true)
	o := snapshot.InitOptions{Root: e.root, BaseSize: e.f.BaseSize}
	if e.f.Prepare != nil {
		e.f.Prepare(t, &o)
	}
	require.NoError(t, snapshot.Init(e.ctx(), e.f.Kind, o, ""))
	e.open()
	require.NotEqual(t, first, e.id)
	require.Empty(t, e.names())
}
