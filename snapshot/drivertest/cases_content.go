package drivertest

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/layertar"
)

// contentCases are about what a layer holds and that it stays so.
func contentCases() []testCase {
	return []testCase{
		{name: "SameSizeSameMtime", run: sameSizeSameMtime},
		{name: "EditRightAfterSnapshot", run: editRightAfterSnapshot},
		{name: "LayersImmutable", run: layersImmutable},
		{name: "CommittedTarExact", run: committedTarExact},
		{name: "CommitWhileMounted", run: commitWhileMounted},
		{name: "CommitWhileWriting", run: commitWhileWriting},
		{name: "DiffOfNothing", run: diffOfNothing},
		{name: "Export", run: export},
		{name: "ExportWhileWriting", run: exportWhileWriting},
	}
}

// sameSizeSameMtime edits a file so that size and modification time stay: what
// comparing these two, as most tools do, cannot see.
func sameSizeSameMtime(t *testing.T, e *env) {
	then := time.Unix(1_000_000_000, 123_456_789)
	set := func(dir, content string) {
		e.write(dir, "f", content)
		e.ok(os.Chtimes(at(dir, "f"), then, then))
	}
	layer := e.layer("", func(dir string) { set(dir, "aaaa"); e.write(dir, "other", "x") })
	e.create("c", layer.Name)
	e.in("c", func(dir string) { set(dir, "bbbb") })
	e.changed("c", layertar.Change{Path: "/f", Kind: layertar.Modify})
	next := e.commit("c")
	e.in(next.Name, func(dir string) {
		require.Equal(t, "bbbb", e.read(dir, "f"))
		require.Equal(t, then.UnixNano(), mtime(e.stat(dir, "f")))
	})
}

// editRightAfterSnapshot edits within the clock tick of the snapshot, for which
// change times are too coarse.
func editRightAfterSnapshot(t *testing.T, e *env) {
	for range e.f.scaled(10, 3) {
		e.create("a", "")
		e.in("a", func(dir string) { e.write(dir, "f", "aaaa") })
		layer := e.commit("a")
		e.create("b", layer.Name)
		e.in("b", func(dir string) { e.write(dir, "f", "bbbb") })
		e.changed("b", layertar.Change{Path: "/f", Kind: layertar.Modify})
		e.remove("a", "b", layer.Name)
	}
}

func layersImmutable(t *testing.T, e *env) {
	layer := e.layer("", func(dir string) { e.write(dir, "f", "f"); e.write(dir, "sub/g", "g") })
	want := e.tree(layer.Name)
	e.in(layer.Name, func(dir string) { e.refuses(dir, "f"); e.refuses(at(dir, "sub"), "g") })
	for range 3 {
		e.create("c", layer.Name)
		e.in("c", func(dir string) {
			e.write(dir, "f", "changed")
			e.ok(os.RemoveAll(at(dir, "sub")))
		})
		e.same(want, e.tree(layer.Name), "a layer whose container was changed")
		e.remove("c")
	}
	e.reopen()
	e.same(want, e.tree(layer.Name), "a layer after reopening")
	e.in(layer.Name, func(dir string) { e.refuses(dir, "f") })
	require.Equal(t, layer.DiffID, digest.FromBytes(e.layerTar(layer.Name)))
}

func committedTarExact(t *testing.T, e *env) {
	base := e.layer("", func(dir string) { manyFiles(e, dir, 12, 1); e.write(dir, "gone", "x") })
	next := e.layer(base.Name, func(dir string) {
		manyFiles(e, dir, 4, 2)
		e.ok(os.Remove(at(dir, "gone")))
		e.ok(os.Link(at(dir, fileName(1)), at(dir, "link")))
	})
	for _, layer := range []snapshot.Info{base, next} {
		tar := e.layerTar(layer.Name)
		require.Equal(t, layer.DiffID, digest.FromBytes(tar), "digest of the tar of %s", layer.Name)
		require.Equal(t, layer.TarSize, int64(len(tar)))
		require.Equal(t, tar, e.layerTar(layer.Name))
	}
	want, tars := e.tree(next.Name), [][]byte{e.layerTar(base.Name), e.layerTar(next.Name)}
	e.remove(next.Name, base.Name)
	im := e.load(tars...)
	require.Equal(t, []string{base.Name, next.Name}, im.Layers, "the same ChainIDs when loaded")
	e.same(want, e.tree(next.Name), "the tree when loaded")
	require.Equal(t, tars[1], e.layerTar(next.Name))
}

func commitWhileMounted(t *testing.T, e *env) {
	layer := e.layer("", func(dir string) { e.write(dir, "f", "f") })
	e.create("c", layer.Name)
	e.in("c", func(dir string) {
		f, err := os.Create(at(dir, "open"))
		e.ok(err)
		_, err = f.WriteString("written, not synced")
		e.ok(err)
		first := e.commit("c")
		_, err = f.WriteString(" and more")
		e.ok(err)
		e.ok(f.Close())
		require.Equal(t, "written, not synced and more", e.read(dir, "open"))
		e.in(first.Name, func(layer string) { require.Equal(t, "written, not synced", e.read(layer, "open")) })
	})
}

// commitWhileWriting commits while a writer appends to two files in turn: the
// second is never ahead of the first in one instant of the tree.
func commitWhileWriting(t *testing.T, e *env) {
	e.f.needs(t, PointInTime)
	var layers []snapshot.Info
	e.whileAlternating("c", func() {
		for range 3 {
			layers = append(layers, e.commit("c"))
		}
	})
	for _, layer := range layers {
		e.in(layer.Name, e.alternated)
		require.Equal(t, layer.DiffID, digest.FromBytes(e.layerTar(layer.Name)))
	}
}

// whileAlternating makes a container, and runs do while somebody appends to two files in it.
func (e *env) whileAlternating(name string, do func()) {
	e.t.Helper()
	e.create(name, "")
	dir := e.mount(name)
	e.write(dir, "first", "")
	e.write(dir, "second", "")
	started := make(chan struct{})
	end := beside(func(stop chan struct{}) error { return alternate(dir, started, stop) })
	defer end()
	<-started
	do()
	require.NoError(e.t, end())
	e.unmount(name)
}

// alternated wants what alternate wrote to be there as it was at one instant.
func (e *env) alternated(dir string) {
	e.t.Helper()
	first, second := e.read(dir, "first"), e.read(dir, "second")
	ahead := len(first) - len(second)
	require.True(e.t, ahead == 0 || ahead == 1, "the second file is %d bytes behind the first", ahead)
	require.Empty(e.t, bytes.Trim([]byte(first), "x"), "bytes that were never written")
}

// alternate appends a byte to each of two files in turn until stop.
func alternate(dir string, started, stop chan struct{}) error {
	a, err := os.OpenFile(filepath.Join(dir, "first"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := os.OpenFile(filepath.Join(dir, "second"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	defer b.Close()
	for i := 0; ; i++ {
		select {
		case <-stop:
			return nil
		default:
		}
		for _, f := range []*os.File{a, b} {
			if _, err := f.Write([]byte("x")); err != nil {
				return err
			}
		}
		if i == 100 {
			close(started)
		}
	}
}

func diffOfNothing(t *testing.T, e *env) {
	layer := e.layer("", func(dir string) { e.write(dir, "f", "f"); e.write(dir, "d/g", "g") })
	e.create("c", layer.Name)
	e.changed("c")
	e.view("v", layer.Name)
	e.changed("v")
	e.in("c", func(dir string) { e.read(dir, "f") }) // reading changes nothing
	e.changed("c")
	e.create("empty", "")
	e.changed("empty")
	e.in("empty", func(dir string) { e.changed("empty") }) // mounted meanwhile
	var b bytes.Buffer
	diff, err := e.s.WriteDiff(e.ctx(), "c", &b)
	require.NoError(t, err)
	require.Zero(t, diff.Size)
	require.Equal(t, digest.FromBytes(b.Bytes()), diff.DiffID)
}

func export(t *testing.T, e *env) {
	base := e.layer("", func(dir string) { manyFiles(e, dir, 3, 1) })
	next := e.layer(base.Name, func(dir string) { e.ok(os.Remove(at(dir, fileName(0)))); e.write(dir, "n", "n") })
	var b bytes.Buffer
	require.NoError(t, e.s.Export(e.ctx(), next.Name, &b))
	out := at(e.dir, "exported")
	e.ok(os.Mkdir(out, 0o755))
	defer func() { e.ok(os.RemoveAll(out)) }()
	_, err := layertar.Apply(e.ctx(), out, &b, layertar.ApplyOptions{Whiteouts: layertar.WhiteoutsRefused})
	require.NoError(t, err)
	e.same(withoutTimes(e.tree(next.Name)), withoutTimes(e.capture(out)), "the exported tree")
}

// exportWhileWriting: what is written in a container meanwhile ends no export of it, and it is one instant's where the driver has those.
func exportWhileWriting(t *testing.T, e *env) {
	var tars [3]bytes.Buffer
	e.whileAlternating("c", func() {
		for i := range tars {
			require.NoError(t, e.s.Export(e.ctx(), "c", &tars[i]))
		}
	})
	for i := range tars {
		out := t.TempDir()
		_, err := layertar.Apply(e.ctx(), out, &tars[i], layertar.ApplyOptions{Whiteouts: layertar.WhiteoutsRefused})
		require.NoError(t, err)
		if e.f.Unsupported[PointInTime] == "" {
			e.alternated(out)
		}
	}
}
