package drivertest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot"
)

// snapshotCases are what containerd's suite for snapshotters asserts of names,
// kinds and parents.
func snapshotCases() []testCase {
	return []testCase{
		{name: "KindsAndParents", run: kindsAndParents},
		{name: "StatFields", run: statFields},
		{name: "NamesTaken", run: namesTaken},
		{name: "BadNames", run: badNames},
		{name: "BadParents", run: badParents},
		{name: "ViewReadOnly", run: viewReadOnly},
		{name: "ViewOfNothing", run: viewOfNothing},
		{name: "RemoveWithChildren", run: removeWithChildren},
		{name: "RemoveIntermediate", run: removeIntermediate},
		{name: "RemoveMounted", run: removeMounted},
		{name: "NameReuse", run: nameReuse},
		{name: "MountTwice", run: mountTwice},
		{name: "MountsHandedOut", run: mountsHandedOut},
		{name: "CommitRules", run: commitRules},
		{name: "Listing", run: listing},
	}
}

func kindsAndParents(t *testing.T, e *env) {
	a := e.layer("", func(dir string) { e.write(dir, "a", "a") })
	b := e.layer(a.Name, func(dir string) { e.write(dir, "b", "b") })
	e.create("active", b.Name)
	e.view("view", b.Name)
	for name, want := range map[string][2]string{
		a.Name: {string(snapshot.KindLayer), ""}, b.Name: {string(snapshot.KindLayer), a.Name},
		"active": {string(snapshot.KindContainer), b.Name}, "view": {string(snapshot.KindView), b.Name},
	} {
		in, err := e.s.Stat(e.ctx(), name)
		require.NoError(t, err)
		require.Equal(t, want, [2]string{string(in.Kind), in.Parent}, "kind and parent of %q", name)
	}
	e.same(e.tree(b.Name), e.tree("view"), "a view of a layer")
	e.same(e.tree(b.Name), e.tree("active"), "a new container of a layer")
	_, err := e.s.Stat(e.ctx(), "layer in the making")
	require.ErrorIs(t, err, snapshot.ErrNotFound, "a removed container's name")
}

func statFields(t *testing.T, e *env) {
	before := time.Now().Add(-time.Second)
	labels := map[string]string{"containerd.io/gc.root": "x", "empty": ""}
	in, err := e.s.Create(e.ctx(), "/a/path as:name", snapshot.CreateRequest{Labels: labels})
	require.NoError(t, err)
	require.Equal(t, "/a/path as:name", in.Name)
	require.Equal(t, in.Created, in.Updated)
	require.True(t, in.Created.After(before) && in.Created.Before(time.Now().Add(time.Second)))
	require.Equal(t, time.UTC, in.Created.Location())
	require.Equal(t, labels, in.Labels)
	require.Equal(t, e.f.BaseSize, in.Volume.Size)
	require.False(t, in.Volume.Sealed)
	got, err := e.s.Stat(e.ctx(), in.Name)
	require.NoError(t, err)
	require.Equal(t, in, got)
	e.in(in.Name, func(dir string) {
		got, err := e.s.Stat(e.ctx(), in.Name)
		require.NoError(t, err)
		require.Equal(t, dir, got.Mounted)
	})
	layer := e.commit(in.Name)
	require.True(t, layer.Volume.Sealed)
	require.Empty(t, layer.Labels, "labels are not inherited")
	require.NoError(t, layer.DiffID.Validate())
	require.Positive(t, layer.TarSize)
	got, err = e.s.Stat(e.ctx(), layer.Name)
	require.NoError(t, err)
	require.Equal(t, layer, got)
}

func namesTaken(t *testing.T, e *env) {
	layer := e.layer("", func(dir string) { e.write(dir, "f", "f") })
	e.create("active", layer.Name)
	e.view("view", layer.Name)
	before := e.volumes()
	for _, taken := range []string{"active", "view", layer.Name} {
		for _, parent := range []string{"", layer.Name} {
			r := snapshot.CreateRequest{Parent: parent}
			within(t, fmt.Sprintf("creating %q on %q", taken, parent), func() {
				_, err := e.s.Create(e.ctx(), taken, r)
				require.ErrorIs(t, err, snapshot.ErrExists, "container %q on %q", taken, parent)
				_, err = e.s.View(e.ctx(), taken, r)
				require.ErrorIs(t, err, snapshot.ErrExists, "view %q on %q", taken, parent)
			})
		}
	}
	require.Equal(t, before, e.volumes(), "refused names made volumes")
}

// within fails the test if fn hangs.
func within(t testing.TB, what string, fn func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn()
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatalf("%s hangs", what)
	}
}

func badNames(t *testing.T, e *env) {
	long := make([]byte, 5000)
	for i := range long {
		long[i] = 'x'
	}
	for _, name := range []string{"", "a\x00b", "not UTF-8 \xff", string(long)} {
		_, err := e.s.Create(e.ctx(), name, snapshot.CreateRequest{})
		require.ErrorIs(t, err, snapshot.ErrInvalid)
		_, err = e.s.View(e.ctx(), name, snapshot.CreateRequest{})
		require.ErrorIs(t, err, snapshot.ErrInvalid)
	}
	for _, name := range []string{"../../etc", "a/b", "ü \n", "sha256:short"} {
		e.create(name, "")
		e.in(name, func(dir string) { e.write(dir, "f", name) })
		got, err := e.s.Stat(e.ctx(), name)
		require.NoError(t, err)
		require.Equal(t, name, got.Name)
	}
}

func badParents(t *testing.T, e *env) {
	layer := e.layer("", func(dir string) { e.write(dir, "f", "f") })
	e.create("active", layer.Name)
	e.view("view", layer.Name)
	before := e.volumes()
	for parent, want := range map[string]error{
		"nobody": snapshot.ErrNotFound, "active": snapshot.ErrInvalid, "view": snapshot.ErrInvalid,
	} {
		r := snapshot.CreateRequest{Parent: parent}
		_, err := e.s.Create(e.ctx(), "new", r)
		require.ErrorIs(t, err, want, "container of %q", parent)
		_, err = e.s.View(e.ctx(), "new", r)
		require.ErrorIs(t, err, want, "view of %q", parent)
	}
	within(t, "a snapshot of itself", func() {
		_, err := e.s.Create(e.ctx(), "new", snapshot.CreateRequest{Parent: "new"})
		require.ErrorIs(t, err, snapshot.ErrNotFound)
	})
	_, err := e.s.Stat(e.ctx(), "new")
	require.ErrorIs(t, err, snapshot.ErrNotFound)
	require.Equal(t, before, e.volumes(), "refused parents made volumes")
	for _, missing := range []func() error{
		func() error { return e.s.Remove(e.ctx(), "nobody") },
		func() error { _, err := e.s.Mount(e.ctx(), "nobody"); return err },
		func() error { return e.s.Unmount(e.ctx(), "nobody") },
		func() error { _, err := e.s.Mounts(e.ctx(), "nobody"); return err },
		func() error { _, err := e.s.Usage(e.ctx(), "nobody"); return err },
		func() error { _, err := e.s.Changes(e.ctx(), "nobody"); return err },
		func() error { _, _, err := e.s.Commit(e.ctx(), "nobody", snapshot.CommitRequest{}); return err },
	} {
		require.ErrorIs(t, missing(), snapshot.ErrNotFound)
	}
}

// refuses asserts that nothing at all can be changed below dir.
func (e *env) refuses(dir, file string) {
	e.t.Helper()
	path := filepath.Join(dir, file)
	for what, err := range map[string]error{
		"creating": os.WriteFile(filepath.Join(dir, "new"), nil, 0o644),
		"writing":  os.WriteFile(path, []byte("x"), 0o644),
		"removing": os.Remove(path),
		"renaming": os.Rename(path, path+"-new"),
		"chmod":    os.Chmod(path, 0o600),
		"chown":    os.Chown(dir, 1, 1),
		"utimes":   os.Chtimes(path, time.Now(), time.Now()),
		"linking":  os.Link(path, path+"-link"),
		"xattr":    unix.Setxattr(path, "trusted.x", []byte("x"), 0),
		"truncate": os.Truncate(path, 0),
	} {
		require.ErrorIs(e.t, err, unix.EROFS, "%s in %s", what, dir)
	}
}

func viewReadOnly(t *testing.T, e *env) {
	layer := e.layer("", func(dir string) { e.write(dir, "file", "content") })
	e.view("view", layer.Name)
	for _, name := range []string{"view", layer.Name} {
		e.in(name, func(dir string) {
			e.refuses(dir, "file")
			require.Equal(t, "content", e.read(dir, "file"))
		})
	}
}

func viewOfNothing(t *testing.T, e *env) {
	e.view("nothing", "")
	e.in("nothing", func(dir string) {
		e.mode(dir, ".", unix.S_IFDIR|0o755, 0, 0)
		require.Empty(t, e.entries(dir))
		require.ErrorIs(t, os.WriteFile(filepath.Join(dir, "f"), nil, 0o644), unix.EROFS)
	})
	e.remove("nothing")
}

func removeWithChildren(t *testing.T, e *env) {
	layer := e.layer("", func(dir string) { e.write(dir, "f", "f") })
	child := e.layer(layer.Name, func(dir string) { e.write(dir, "g", "g") })
	refused := func(name, child string) {
		t.Helper()
		err := e.s.Remove(e.ctx(), name)
		require.ErrorIs(t, err, snapshot.ErrBusy, "removing %s, on which %s stands", name, child)
		require.ErrorContains(t, err, "remove") // containerd's garbage collector looks for the word
	}
	refused(layer.Name, "a layer")
	e.create("container", child.Name)
	refused(child.Name, "a container")
	e.remove("container")
	e.view("view", child.Name)
	refused(child.Name, "a view")
	e.remove("view", child.Name, layer.Name)
}

func removeIntermediate(t *testing.T, e *env) {
	chain := []string{""}
	for i := range 4 {
		layer := e.layer(chain[i], func(dir string) { e.write(dir, fmt.Sprint(i), "x") })
		chain = append(chain, layer.Name)
	}
	for _, name := range chain[1:4] {
		require.ErrorIs(t, e.s.Remove(e.ctx(), name), snapshot.ErrBusy)
	}
	e.view("view", chain[4])
	e.in("view", func(dir string) { require.Len(t, e.entries(dir), 4) })
	e.remove("view")
	for i := 4; i > 0; i-- {
		e.remove(chain[i])
	}
}

func removeMounted(t *testing.T, e *env) {
	layer := e.layer("", func(dir string) { e.write(dir, "f", "f") })
	e.create("container", layer.Name)
	e.in("container", func(dir string) {
		err := e.s.Remove(e.ctx(), "container")
		require.ErrorIs(t, err, snapshot.ErrBusy)
		require.Equal(t, "f", e.read(dir, "f"))
		f, err := os.Open(filepath.Join(dir, "f"))
		require.NoError(t, err)
		defer f.Close()
		err = e.s.Unmount(e.ctx(), "container")
		require.ErrorIs(t, err, snapshot.ErrBusy)
		require.ErrorContains(t, err, fmt.Sprintf("pid %d", os.Getpid()), "the error names the holder")
		require.Equal(t, dir, e.mount("container"), "still mounted at the same place")
	})
	e.remove("container")
	err := e.s.Remove(e.ctx(), "container")
	require.ErrorIs(t, err, snapshot.ErrNotFound)
}

func nameReuse(t *testing.T, e *env) {
	layer := e.layer("", func(dir string) { e.write(dir, "file", "of the layer") })
	e.create("name", layer.Name)
	e.in("name", func(dir string) { e.write(dir, "file", "changed") })
	e.remove("name")
	e.create("name", layer.Name)
	e.in("name", func(dir string) { require.Equal(t, "of the layer", e.read(dir, "file")) })
	e.remove("name")
	e.view("name", layer.Name)
	e.in("name", func(dir string) { require.Equal(t, "of the layer", e.read(dir, "file")) })
	e.remove("name")
	e.create("name", "")
	e.in("name", func(dir string) { require.Empty(t, e.entries(dir)) })
	e.remove("name", layer.Name)
	again := e.layer("", func(dir string) { e.write(dir, "file", "of the layer") })
	require.NotEqual(t, layer.Volume.ID, again.Volume.ID, "volume ids are never used twice")
}

func mountTwice(t *testing.T, e *env) {
	e.create("c", "")
	first := e.mount("c")
	e.write(first, "f", "f")
	require.Equal(t, first, e.mount("c"))
	e.unmount("c")
	e.missing(first, "f")
	e.unmount("c") // not mounted: no error
	require.Equal(t, first, e.mount("c"), "the same directory for the life of the container")
	require.Equal(t, "f", e.read(first, "f"))
	e.unmount("c")
	dir, release, err := e.s.Use(e.ctx(), "c")
	require.NoError(t, err)
	require.Equal(t, "f", e.read(dir, "f"))
	require.NoError(t, release())
	require.NoError(t, release())
}

func commitRules(t *testing.T, e *env) {
	layer := e.layer("", func(dir string) { e.write(dir, "f", "f") })
	e.view("view", layer.Name)
	for _, name := range []string{"view", layer.Name} {
		_, _, err := e.s.Commit(e.ctx(), name, snapshot.CommitRequest{})
		require.ErrorIs(t, err, snapshot.ErrInvalid, "only containers can be committed, not %q", name)
	}
	e.create("c", layer.Name)
	e.in("c", func(dir string) { e.write(dir, "g", "g") })
	first := e.commit("c")
	again := e.commit("c")
	require.Equal(t, first, again, "the same content is the same layer")
	e.create("d", layer.Name)
	unchanged := e.commit("d")
	require.NotEqual(t, layer.Name, unchanged.Name)
	e.same(e.tree(layer.Name), e.tree(unchanged.Name), "a layer without changes")
	e.in("c", func(dir string) { e.write(dir, "h", "goes on") })
	require.NotContains(t, e.tree(first.Name), "h")
}

func listing(t *testing.T, e *env) {
	layer := e.layer("", func(dir string) { e.write(dir, "f", "f") })
	e.create("c", layer.Name)
	e.view("v", layer.Name)
	all, err := e.s.List(e.ctx())
	require.NoError(t, err)
	require.Len(t, all, 3)
	for _, in := range all {
		got, err := e.s.Stat(e.ctx(), in.Name)
		require.NoError(t, err)
		require.Equal(t, got, in, "List and Stat differ")
	}
	st, err := e.s.Status(e.ctx())
	require.NoError(t, err)
	require.Equal(t, [4]int{1, 1, 1, 0}, [4]int{st.Layers, st.Containers, st.Views, st.Images})
	require.Equal(t, e.f.Kind.Name(), st.Driver)
	require.NotEmpty(t, st.Backing.Rows)
}

// mountsHandedOut mounts what Mounts returns itself, as containerd does.
func mountsHandedOut(t *testing.T, e *env) {
	layer := e.layer("", func(dir string) { e.write(dir, "f", "f") })
	_, err := e.s.Mounts(e.ctx(), layer.Name)
	require.ErrorIs(t, err, snapshot.ErrInvalid, "layers are seen through views")
	e.view("view", layer.Name)
	e.create("c", layer.Name)
	for _, name := range []string{"view", "c"} {
		ms, err := e.s.Mounts(e.ctx(), name)
		require.NoError(t, err)
		again, err := e.s.Mounts(e.ctx(), name)
		require.NoError(t, err)
		require.Equal(t, ms, again)
		require.NotEmpty(t, ms)
		at := filepath.Join(e.dir, "elsewhere")
		e.ok(os.Mkdir(at, 0o700))
		e.mountAll(ms, at)
		require.Equal(t, "f", e.read(at, "f"))
		if name == "view" {
			e.refuses(at, "f")
			require.True(t, ms[len(ms)-1].ReadOnly())
		} else {
			e.write(at, "f", "written")
			require.False(t, ms[len(ms)-1].ReadOnly(), "the last mount of a container")
			require.ErrorIs(t, e.s.Remove(e.ctx(), name), snapshot.ErrBusy, "mounted elsewhere")
		}
		e.unmountAll(ms, at)
		e.ok(os.Remove(at))
	}
	e.in("c", func(dir string) { require.Equal(t, "written", e.read(dir, "f")) })
	e.remove("c", "view", layer.Name)
}
