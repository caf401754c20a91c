package drivertest

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/layertar"
	"blockstore.dev/blockstore/snapshot/layertar/treetest"
)

// graphCases are what Docker's and containers/storage's suites for graph drivers
// assert.
func graphCases() []testCase {
	return []testCase{
		{name: "CreateEmpty", run: createEmpty},
		{name: "CreateBase", run: createBase},
		{name: "CreateSnap", run: createSnap},
		{name: "DeepLayerRead128", run: func(t *testing.T, e *env) { deepLayerRead(e, "", e.f.scaled(128, 20)) }},
		{name: "DiffApply", run: diffApply},
		{name: "Changes", run: changes},
		{name: "ChangesWhileWritten", run: changesWhileWritten},
		{name: "SizeLimit", run: sizeLimit, small: true},
		{name: "LargerThanBase", run: largerThanBase, small: true},
		{name: "RootModeInherited", run: rootModeInherited},
		{name: "Echo", run: echo},
		{name: "ListExact", run: listExact},
	}
}

func createEmpty(t *testing.T, e *env) {
	e.create("empty", "")
	e.in("empty", func(dir string) {
		e.mode(dir, ".", unix.S_IFDIR|0o755, 0, 0)
		require.Empty(t, e.entries(dir))
	})
	e.remove("empty")
	_, err := e.s.Stat(e.ctx(), "empty")
	require.ErrorIs(t, err, snapshot.ErrNotFound)
}

// makeBase writes what verifyBase expects: special bits and a foreign owner.
func makeBase(e *env, dir string) {
	e.t.Helper()
	e.ok(os.Mkdir(filepath.Join(dir, "a subdir"), 0o700))
	e.ok(os.Chown(filepath.Join(dir, "a subdir"), 1, 2))
	e.ok(unix.Chmod(filepath.Join(dir, "a subdir"), 0o1705))
	e.ok(os.WriteFile(filepath.Join(dir, "a file"), []byte("Some data"), 0o200))
	e.ok(unix.Chmod(filepath.Join(dir, "a file"), 0o4222))
}

func verifyBase(e *env, dir string) {
	e.t.Helper()
	e.mode(dir, ".", unix.S_IFDIR|0o755, 0, 0)
	e.mode(dir, "a subdir", unix.S_IFDIR|0o1705, 1, 2)
	e.mode(dir, "a file", unix.S_IFREG|0o4222, 0, 0)
	require.Equal(e.t, "Some data", e.read(dir, "a file"))
	require.Equal(e.t, []string{"a file", "a subdir"}, e.entries(dir))
}

func createBase(t *testing.T, e *env) {
	e.create("base", "")
	e.in("base", func(dir string) { makeBase(e, dir) })
	e.in("base", func(dir string) { verifyBase(e, dir) })
	e.remove("base")
}

func createSnap(t *testing.T, e *env) {
	base := e.layer("", func(dir string) { makeBase(e, dir) })
	e.create("snap", base.Name)
	e.in("snap", func(dir string) { verifyBase(e, dir) })
	e.remove("snap", base.Name)
}

// deepLayerRead commits n layers on top of each other and reads the chain of their
// ids from the top.
func deepLayerRead(e *env, bottom string, n int) {
	id := func(i int) string { return fmt.Sprintf("deep-%04d", i) }
	top := e.layer(bottom, func(dir string) { e.write(dir, "testfile.txt", "below all") })
	for i := range n {
		top = e.layer(top.Name, func(dir string) {
			e.write(dir, "top-id", id(i))
			e.write(dir, fmt.Sprintf("level-%d/layer-id", i), id(i))
			e.write(dir, fmt.Sprintf("level-%d/parent-id", i), id(i-1))
		})
	}
	e.view("top of all", top.Name)
	e.in("top of all", func(dir string) {
		want := e.read(dir, "top-id")
		for i := n - 1; i >= 0; i-- {
			layer := fmt.Sprintf("level-%d", i)
			e.mode(dir, layer, unix.S_IFDIR|0o755, 0, 0)
			require.Equal(e.t, want, e.read(dir, layer+"/layer-id"))
			want = e.read(dir, layer+"/parent-id")
		}
		require.Equal(e.t, id(-1), want)
		require.Equal(e.t, "below all", e.read(dir, "testfile.txt"))
	})
}

// noise is n pseudo-random bytes, the same for the same seed.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	_, _ = noiseReader(seed).Read(b)
	return b
}

func noiseReader(seed uint64) *rand.ChaCha8 {
	return rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
}

// manyFiles writes n files of 64 bytes; seed decides on their content.
func manyFiles(e *env, dir string, n int, seed uint64) {
	e.t.Helper()
	for i := range n {
		e.write(dir, fileName(i), string(noise(seed+uint64(i), 64)))
	}
}

func fileName(i int) string { return fmt.Sprintf("directory-%d/file-%d", i/10*10, i) }

func diffApply(t *testing.T, e *env) {
	const n = 10
	base := e.layer("", func(dir string) {
		manyFiles(e, dir, n, 3)
		e.write(dir, "file-remove.txt", "remove me")
		e.ok(os.MkdirAll(filepath.Join(dir, "var/lib/deep"), 0o755))
	})
	e.create("upper", base.Name)
	e.in("upper", func(dir string) {
		manyFiles(e, dir, n, 6000)
		e.ok(os.Remove(filepath.Join(dir, "file-remove.txt")))
		e.ok(os.RemoveAll(filepath.Join(dir, "var/lib")))
	})
	want := e.tree("upper")

	var size, tarBytes int64
	r, w := io.Pipe()
	go func() {
		diff, err := e.s.WriteDiff(e.ctx(), "upper", w)
		size, tarBytes = diff.Size, diff.TarBytes
		w.CloseWithError(err)
	}()
	e.create("diff", base.Name)
	e.in("diff", func(dir string) {
		require.Equal(t, string(noise(3, 64)), e.read(dir, fileName(0)), "the base's content before")
		e.read(dir, "file-remove.txt")
		applied, err := layertar.Apply(e.ctx(), dir, r, layertar.ApplyOptions{})
		require.NoError(t, err)
		require.Equal(t, size, applied.Size, "size returned by apply and by diff")
		require.Equal(t, int64(n*64), size)
		require.Equal(t, tarBytes, applied.TarBytes)
		e.missing(dir, "file-remove.txt")
		e.missing(dir, "var/lib")
	})
	e.same(want, e.tree("diff"), "the tree that the diff was applied to")
}

func changes(t *testing.T, e *env) {
	const n = 20
	base := e.layer("", func(dir string) { manyFiles(e, dir, n, 3) })
	var want []layertar.Change
	e.create("upper", base.Name)
	e.in("upper", func(dir string) {
		for i := range n {
			name := fileName(i)
			switch i % 3 {
			case 0: // same size
				e.write(dir, name, string(noise(9000+uint64(i), 64)))
				want = append(want, layertar.Change{Path: "/" + name, Kind: layertar.Modify})
			case 1:
				added := fmt.Sprintf("%s-added", name)
				e.write(dir, added, "new")
				want = append(want, layertar.Change{Path: "/" + added, Kind: layertar.Add})
			case 2:
				e.ok(os.Remove(filepath.Join(dir, name)))
				want = append(want, layertar.Change{Path: "/" + name, Kind: layertar.Delete})
			}
		}
	})
	for i := 0; i < n; i += 10 {
		want = append(want, layertar.Change{Path: "/" + filepath.Dir(fileName(i)), Kind: layertar.Modify})
	}
	e.changed("upper", want...)
	upper := e.commit("upper")
	e.changed(upper.Name, want...)
	e.changed(base.Name, allAdded(n)...)
}

func allAdded(n int) []layertar.Change {
	var all []layertar.Change
	for i := range n {
		if i%10 == 0 {
			all = append(all, layertar.Change{Path: "/" + filepath.Dir(fileName(i)), Kind: layertar.Add})
		}
		all = append(all, layertar.Change{Path: "/" + fileName(i), Kind: layertar.Add})
	}
	return all
}

// changesWhileWritten: whatever somebody does in a container meanwhile, its changes and its size are told, and what nobody touches is
// among them.
func changesWhileWritten(t *testing.T, e *env) {
	tries := 0
	rapid.Check(t, func(r *rapid.T) {
		if tries++; tries > 1 {
			return
		}
		mess := func(dir string, steps int) {
			e.ok(os.MkdirAll(filepath.Join(dir, "mess"), 0o755))
			m := treetest.Mess{R: r, Dir: filepath.Join(dir, "mess")}
			for range steps {
				m.Step()
			}
		}
		layer := e.layer("", func(dir string) {
			mess(dir, 20)
			e.write(dir, "still/gone", "")
		})
		e.create("c", layer.Name)
		dir := e.mount("c")
		e.ok(os.Rename(filepath.Join(dir, "still/gone"), filepath.Join(dir, "still/new")))
		end := beside(func(stop chan struct{}) error {
			return untilClosed(stop, func() error { return e.tellsStill("c", layer.Name) })
		})
		defer end()
		mess(dir, 400)
		e.ok(end())
		want, err := layertar.Changes(e.ctx(), e.mount(layer.Name), dir, layertar.CompareOptions{})
		e.ok(err)
		e.changed("c", want...)
		e.unmount(layer.Name)
		e.unmount("c")
	})
}

// tellsStill compares a container in which only the directory "still" is left alone.
func (e *env) tellsStill(name, below string) (err error) {
	c, err := e.s.Compare(e.ctx(), snapshot.CompareRequest{Name: name, Below: below})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	all, err := c.Changes(e.ctx())
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(c layertar.Change) bool { return !strings.HasPrefix(c.Path, "/still") })
	if got := strings.Join(changeLines(all), ", "); got != "/still C, /still/gone D, /still/new A" {
		return fmt.Errorf("told of it: %s", got)
	}
	_, err = c.Size(e.ctx())
	return err
}

// changed asserts a snapshot's exact changes, in any order.
func (e *env) changed(name string, want ...layertar.Change) {
	e.t.Helper()
	got, err := e.s.Changes(e.ctx(), name)
	require.NoError(e.t, err)
	require.Equal(e.t, changeLines(want), changeLines(got), "changes of %q", name)
}

// fill writes n bytes that nothing can compress or share, and syncs them.
func fill(path string, n int64) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
	}()
	const chunk = 1 << 20
	for at := int64(0); at < n; at += chunk {
		if _, err := f.Write(noise(uint64(at>>20)+7, int(min(chunk, n-at)))); err != nil {
			return err
		}
	}
	return f.Sync()
}

// full says whether an error is that of a full file system or quota.
func full(err error) bool { return errIsAny(err, unix.ENOSPC, unix.EDQUOT) }

func sizeLimit(t *testing.T, e *env) {
	e.f.needs(t, SizeLimit)
	size := e.f.SmallSize
	base := e.layer("", func(dir string) { e.write(dir, "below", "a layer") })
	for _, name := range []string{"one", "two"} {
		e.create(name, base.Name)
		e.in(name, func(dir string) {
			e.ok(fill(filepath.Join(dir, "half"), size*2/5))
			err := fill(filepath.Join(dir, "too much"), size)
			require.Error(t, err, "more was written than the limit of %d bytes", size)
			require.True(t, full(err), "a full volume gave %v", err)
			e.ok(os.Remove(filepath.Join(dir, "too much")))
			e.ok(fill(filepath.Join(dir, "fits again"), size/8))
		})
	}
	require.Less(t, e.referenced("one"), size+e.f.WriteOverhead)
}

func largerThanBase(t *testing.T, e *env) {
	e.f.needs(t, SizeLimit)
	size := e.f.SmallSize
	base := e.layer("", func(dir string) { e.write(dir, "below", "a layer") })
	in, err := e.s.Create(e.ctx(), "large", snapshot.CreateRequest{Parent: base.Name, Size: 2 * size})
	require.NoError(t, err)
	require.Equal(t, 2*size, in.Volume.Size)
	e.in("large", func(dir string) {
		e.ok(fill(filepath.Join(dir, "more than the base holds"), size*6/5))
		require.True(t, full(fill(filepath.Join(dir, "more"), size)))
		e.ok(os.Remove(filepath.Join(dir, "more")))
	})
	layer := e.commit("large")
	require.Equal(t, 2*size, layer.Volume.Size)
	child := e.create("child of large", layer.Name)
	require.Equal(t, 2*size, child.Volume.Size)
	e.same(e.tree("large"), e.tree("child of large"), "the child of a large layer")
	_, err = e.s.Create(e.ctx(), "too small", snapshot.CreateRequest{Parent: base.Name, Size: size / 2})
	require.ErrorIs(t, err, snapshot.ErrInvalid)
}

func rootModeInherited(t *testing.T, e *env) {
	base := e.layer("", func(dir string) {
		e.ok(os.Chown(dir, 7, 8))
		e.ok(unix.Chmod(dir, 0o1771))
	})
	e.create("child", base.Name)
	e.in("child", func(dir string) { e.mode(dir, ".", unix.S_IFDIR|0o1771, 7, 8) })
}

// echo builds a chain of directories, removes it at some depth and makes it
// again: whoever mistakes a directory that was replaced for one that was kept
// shows old files.
func echo(t *testing.T, e *env) {
	const depth = 6
	path := func(n int) string {
		p := ""
		for i := range n {
			p = filepath.Join(p, fmt.Sprintf("d%d", i))
		}
		return p
	}
	base := e.layer("", func(dir string) {
		for i := 1; i <= depth; i++ {
			e.write(dir, filepath.Join(path(i), "old"), fmt.Sprint(i))
		}
	})
	for k := 1; k <= depth; k++ {
		name := fmt.Sprintf("again-%d", k)
		e.create(name, base.Name)
		e.in(name, func(dir string) {
			e.ok(os.RemoveAll(filepath.Join(dir, path(k))))
			e.write(dir, filepath.Join(path(depth), "new"), "new")
		})
		want := e.tree(name)
		layer := e.commit(name)
		e.in(layer.Name, func(dir string) {
			for i := k; i <= depth; i++ {
				e.missing(dir, filepath.Join(path(i), "old"))
			}
		})
		e.same(want, e.replayed(base.Name, layer.Name), "the layer's tar on top of its parent")
		e.remove(name)
	}
}

// replayed is the tree that comes out when a layer's tar is applied to a
// container of another layer.
func (e *env) replayed(parent, layer string) map[string]entry {
	e.t.Helper()
	const name = "replayed"
	tar := e.layerTar(layer)
	e.create(name, parent)
	var tree map[string]entry
	e.in(name, func(dir string) {
		e.apply(dir, tar)
		tree = e.capture(dir)
	})
	e.remove(name)
	return tree
}

func listExact(t *testing.T, e *env) {
	require.Empty(t, e.names())
	base := e.layer("", func(dir string) { e.write(dir, "f", "f") })
	e.create("b", base.Name)
	e.create("a", "")
	e.view("c", base.Name)
	require.Equal(t, []string{"a", "b", "c", base.Name}, e.names())
	if ids := e.volumes(); ids != nil {
		require.Len(t, ids, 3, "volumes in the kernel: two containers and a layer, none for a view")
	}
	children, err := e.s.Children(e.ctx(), base.Name)
	require.NoError(t, err)
	require.Len(t, children, 2)
	e.remove("b")
	require.Equal(t, []string{"a", "c", base.Name}, e.names())
}
