package drivertest

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/layertar"
	"blockstore.dev/blockstore/snapshot/mount"
)

// doorCases are what the doors need beyond images: containers that become
// layers in place, comparisons with any ancestor, removal in use.
func doorCases() []testCase {
	return []testCase{
		{name: "FreezeParent", run: freezeParent},
		{name: "FreezeParentInUse", run: freezeParentInUse},
		{name: "FreezeParentWhileWritten", run: freezeParentWhileWritten},
		{name: "Freeze", run: freeze},
		{name: "FreezeLent", run: freezeLent},
		{name: "FreezeRules", run: freezeRules},
		{name: "Relabel", run: relabel},
		{name: "Drop", run: drop},
		{name: "Fill", run: filling},
		{name: "FillOnce", run: fillOnce},
		{name: "FillMounted", run: fillMounted},
		{name: "FillOwners", run: fillOwners},
		{name: "CompareWithAncestors", run: compareWithAncestors},
		{name: "CompareInstant", run: compareInstant},
		{name: "DiscardInUse", run: discardInUse},
		{name: "DiscardRules", run: discardRules},
		{name: "DoorState", run: doorState},
	}
}

// onTop makes a container on a container, which becomes a layer.
func (e *env) onTop(name, parent string) snapshot.Info {
	e.t.Helper()
	in, err := e.s.Create(e.ctx(), name, snapshot.CreateRequest{Parent: parent, FreezeParent: true})
	require.NoError(e.t, err, "creating %q on container %q", name, parent)
	return in
}

func (e *env) kind(name string) snapshot.SnapshotKind {
	e.t.Helper()
	in, err := e.s.Stat(e.ctx(), name)
	e.ok(err)
	return in.Kind
}

// differences compares two snapshots.
func (e *env) differences(name, below string) []string {
	e.t.Helper()
	c, err := e.s.Compare(e.ctx(), snapshot.CompareRequest{Name: name, Below: below})
	e.ok(err)
	all, err := c.Changes(e.ctx())
	e.ok(errors.Join(err, c.Close()))
	return changeLines(all)
}

func freezeParent(t *testing.T, e *env) {
	e.create("a", "")
	e.in("a", func(dir string) { e.write(dir, "f", "of a") })
	_, err := e.s.Create(e.ctx(), "refused", snapshot.CreateRequest{Parent: "a"})
	require.ErrorIs(t, err, snapshot.ErrInvalid, "a container is no parent unless asked")
	require.Equal(t, snapshot.KindContainer, e.kind("a"), "what was refused changed nothing")

	e.onTop("b", "a")
	require.Equal(t, snapshot.KindLayer, e.kind("a"))
	require.Empty(t, e.differences("b", "a"))
	e.in("b", func(dir string) {
		require.Equal(t, "of a", e.read(dir, "f"))
		e.write(dir, "f", "of b")
	})
	e.onTop("c", "b")
	e.onTop("c2", "b")
	e.in("a", func(dir string) {
		require.Equal(t, "of a", e.read(dir, "f"))
		require.ErrorIs(t, os.WriteFile(filepath.Join(dir, "f"), nil, 0o600), unix.EROFS)
	})
	a, err := e.s.Stat(e.ctx(), "a")
	e.ok(err)
	require.True(t, a.Volume.Sealed, "the first use by nobody else seals")
	require.Equal(t, []string{"/f C"}, e.differences("b", "a"))
	require.Equal(t, []string{"/f C"}, e.differences("c", "a"))
	require.ErrorIs(t, e.s.Remove(e.ctx(), "a"), snapshot.ErrBusy, "its children need it")
	require.ErrorIs(t, e.s.WriteLayer(e.ctx(), "a", io.Discard), snapshot.ErrNotSupported)
	e.reopen()
	e.in("c", func(dir string) { require.Equal(t, "of b", e.read(dir, "f")) })
	e.remove("c", "c2", "b", "a")
}

func freezeParentInUse(t *testing.T, e *env) {
	e.create("a", "")
	dir := e.mount("a")
	e.write(dir, "f", "of a")
	e.onTop("b", "a")
	require.ErrorIs(t, os.WriteFile(filepath.Join(dir, "g"), nil, 0o600), unix.EROFS, "the parent's mount")
	require.Equal(t, "of a", e.read(dir, "f"))
	require.Equal(t, dir, e.mount("a"), "it is still mounted, at the same place")
	e.in("b", func(dir string) { require.Equal(t, "of a", e.read(dir, "f")) })
	require.Empty(t, e.differences("b", "a"))
	_, err := e.s.View(e.ctx(), "view", snapshot.CreateRequest{Parent: "a"})
	require.ErrorIs(t, err, snapshot.ErrBusy, "a view is of what is sealed")
	e.unmount("a")
	e.view("view", "a")
	e.remove("view")
	e.knowsSum("a")
	e.in("a", func(dir string) { require.ErrorIs(t, os.WriteFile(filepath.Join(dir, "g"), nil, 0o600), unix.EROFS) })
}

func freezeParentWhileWritten(t *testing.T, e *env) {
	e.create("a", "")
	dir := e.mount("a")
	f, err := os.Create(filepath.Join(dir, "f"))
	e.ok(err)
	_, err = f.WriteString("before")
	e.ok(err)
	e.ok(f.Sync())
	e.onTop("b", "a")
	_, err = f.WriteString(" and after")
	e.ok(err)
	e.ok(f.Close())
	e.in("b", func(dir string) { require.Equal(t, "before", e.read(dir, "f")) })
	e.unmount("a")
	e.onTop("c", "a")
	e.in("c", func(dir string) { require.Equal(t, "before and after", e.read(dir, "f")) })
	e.reopen()
	require.Equal(t, []string{"/f C"}, e.differences("b", "a"))
}

func freeze(t *testing.T, e *env) {
	e.create("a", "")
	e.in("a", func(dir string) { e.write(dir, "f", "of a"); e.write(dir, "large", strings.Repeat("a", 4<<20)) })
	_, err := e.s.Relabel(e.ctx(), "a", func(map[string]string) (map[string]string, error) {
		return map[string]string{"of": "the container"}, nil
	})
	e.ok(err)
	before := time.Now()
	layer, err := e.s.Freeze(e.ctx(), "a", snapshot.FreezeRequest{Name: "layer a", Labels: map[string]string{"of": "the layer"}})
	e.ok(err)
	require.Equal(t, snapshot.KindLayer, layer.Kind)
	require.True(t, layer.Volume.Sealed)
	require.Equal(t, map[string]string{"of": "the layer"}, layer.Labels)
	require.Equal(t, layer.Created, layer.Updated)
	require.False(t, layer.Created.Before(before.Truncate(0)))
	require.Positive(t, layer.Usage.Added)
	_, err = e.s.Stat(e.ctx(), "a")
	require.ErrorIs(t, err, snapshot.ErrNotFound)

	e.create("a", "layer a") // the name is free
	e.in("a", func(dir string) {
		require.Equal(t, "of a", e.read(dir, "f"))
		e.write(dir, "g", "of the second")
	})
	_, err = e.s.Freeze(e.ctx(), "a", snapshot.FreezeRequest{})
	e.ok(err)
	children, err := e.s.Children(e.ctx(), "layer a")
	e.ok(err)
	require.Len(t, children, 1)
	require.Equal(t, []string{"/g A"}, e.differences("a", "layer a"))
	e.knowsSum("a", "layer a")
	e.reopen()
	e.in("a", func(dir string) {
		require.ErrorIs(t, os.WriteFile(filepath.Join(dir, "h"), nil, 0o600), unix.EROFS)
	})
	require.ErrorIs(t, e.s.Remove(e.ctx(), "layer a"), snapshot.ErrBusy)
	e.remove("a", "layer a")
}

// freezeLent: what was lent counts as idle once nobody has it mounted.
func freezeLent(t *testing.T, e *env) {
	e.create("a", "")
	dir := e.lent("a")
	e.write(dir, "f", "one")
	layer, err := e.s.Freeze(e.ctx(), "a", snapshot.FreezeRequest{Name: "layer"})
	e.ok(err)
	require.False(t, layer.Volume.Sealed, "it is mounted")
	e.write(dir, "f", "two") // by who had it mounted
	e.create("on it", "layer")
	e.ok(mount.Unmount(dir))
	e.view("view", "layer")
	layer, err = e.s.Stat(e.ctx(), "layer")
	e.ok(err)
	require.True(t, layer.Volume.Sealed)
	e.in("view", func(dir string) { require.Equal(t, "two", e.read(dir, "f")) })
	e.in("on it", func(dir string) { require.Equal(t, "two", e.read(dir, "f")) })

	e.create("b", "layer")
	e.write(e.lent("b"), "f", "three")
	e.ok(mount.Unmount(filepath.Join(e.dir, "lent b")))
	layer, err = e.s.Freeze(e.ctx(), "b", snapshot.FreezeRequest{})
	e.ok(err)
	require.True(t, layer.Volume.Sealed, "nobody has it mounted any more")
	e.in("b", func(dir string) { require.Equal(t, "three", e.read(dir, "f")) })
}

// lent mounts a container as containerd does.
func (e *env) lent(name string) string {
	e.t.Helper()
	ms, err := e.s.Mounts(e.ctx(), name)
	e.ok(err)
	dir := filepath.Join(e.dir, "lent "+name)
	e.ok(os.MkdirAll(dir, 0o700))
	e.ok(mount.All(ms, dir))
	e.t.Cleanup(func() { _ = mount.Detach(dir) })
	return dir
}

func freezeRules(t *testing.T, e *env) {
	rules := func(name, to string, want error) {
		t.Helper()
		_, err := e.s.Freeze(e.ctx(), name, snapshot.FreezeRequest{Name: to})
		require.ErrorIs(t, err, want, "%q as %q", name, to)
	}
	e.create("a", "")
	rules("a", "layer", nil)
	e.view("view", "layer")
	e.create("b", "layer")
	rules("none", "x", snapshot.ErrNotFound)
	rules("view", "x", snapshot.ErrInvalid)
	rules("layer", "x", snapshot.ErrInvalid)
	rules("layer", "", snapshot.ErrInvalid)
	rules("b", "layer", snapshot.ErrExists)
	rules("b", "view", snapshot.ErrExists)
	rules("b", "x\x00y", snapshot.ErrInvalid)
	e.in("b", func(dir string) { e.write(dir, "f", "what was refused changed nothing") })

	var wg sync.WaitGroup // two that cross
	e.create("c", "layer")
	done := make([]error, 2)
	for i, pair := range [][2]string{{"b", "c"}, {"c", "b"}} {
		wg.Go(func() { _, done[i] = e.s.Freeze(e.ctx(), pair[0], snapshot.FreezeRequest{Name: pair[1]}) })
	}
	wg.Wait()
	for _, err := range done {
		require.ErrorIs(t, err, snapshot.ErrExists)
	}
}

func relabel(t *testing.T, e *env) {
	e.create("a", "")
	change := func(name string, fn func(map[string]string) (map[string]string, error)) (snapshot.Info, error) {
		return e.s.Relabel(e.ctx(), name, fn)
	}
	in, err := change("a", func(old map[string]string) (map[string]string, error) {
		require.Empty(t, old)
		return map[string]string{"k": "v"}, nil
	})
	e.ok(err)
	require.True(t, in.Updated.After(in.Created))
	e.reopen()
	again, err := e.s.Stat(e.ctx(), "a")
	e.ok(err)
	require.Equal(t, in, again)
	refused := errors.New("refused")
	_, err = change("a", func(old map[string]string) (map[string]string, error) { old["k"] = "w"; return old, refused })
	require.ErrorIs(t, err, refused)
	_, err = change("none", nil)
	require.ErrorIs(t, err, snapshot.ErrNotFound)
	again, err = e.s.Stat(e.ctx(), "a")
	e.ok(err)
	require.Equal(t, in, again)
}

func drop(t *testing.T, e *env) {
	require.ErrorIs(t, e.s.Drop(e.ctx(), "a"), snapshot.ErrNotFound)
	e.create("a", "")
	e.onTop("b", "a")
	require.ErrorIs(t, e.s.Drop(e.ctx(), "a"), snapshot.ErrBusy, "its child needs it")
	e.mount("b")
	require.ErrorIs(t, e.s.Drop(e.ctx(), "b"), snapshot.ErrBusy, "it is mounted")
	e.unmount("b")
	dir := e.lent("b")
	e.ok(e.s.Drop(e.ctx(), "b"))
	e.ok(e.s.Drop(e.ctx(), "a"))
	report, err := e.s.Check(e.ctx(), snapshot.CheckOptions{})
	e.ok(err)
	require.Empty(t, report.Findings, "what is pending is no damage")
	require.Equal(t, 2, report.Pending)
	e.create("b", "") // the name is free
	e.ok(e.s.Sweep(e.ctx()))
	e.write(dir, "f", "who has it mounted keeps it")
	e.ok(mount.Unmount(dir))
	waitFor(t, "the volumes to go", func() bool {
		e.ok(e.s.Sweep(e.ctx()))
		return len(e.volumes()) <= 1
	})
}

func (e *env) fill(name string, layer []byte) layertar.Applied {
	e.t.Helper()
	done, err := e.s.Fill(e.ctx(), name, snapshot.FillRequest{Tar: bytes.NewReader(layer)})
	require.NoError(e.t, err)
	return done
}

func filling(t *testing.T, e *env) {
	e.create("a", "")
	done := e.fill("a", simpleTar(1))
	require.Equal(t, digest.FromBytes(simpleTar(1)), done.DiffID)
	e.create("b", "a")
	e.fill("b", makeTar(item{name: ".wh.layer-1"}, item{name: "new", body: "12345"}))
	in, err := e.s.Stat(e.ctx(), "b")
	e.ok(err)
	require.Equal(t, snapshot.KindLayer, in.Kind)
	require.True(t, in.Volume.Sealed)
	require.Positive(t, e.referenced("a"))
	require.Equal(t, []string{"/layer-1 D", "/new A"}, e.differences("b", "a"))
	e.knowsSum("a", "b")
	e.in("b", func(dir string) { e.missing(dir, "layer-1") })
	_, err = e.s.Fill(e.ctx(), "b", snapshot.FillRequest{Tar: bytes.NewReader(simpleTar(2))})
	require.ErrorIs(t, err, snapshot.ErrInvalid, "a layer is not filled")
	_, err = e.s.Fill(e.ctx(), "nobody", snapshot.FillRequest{Tar: bytes.NewReader(simpleTar(2))})
	require.ErrorIs(t, err, snapshot.ErrNotFound)
}

// fillOnce: half a tar, and then the other half, as somebody sends who does not
// know that the first half has arrived.
func fillOnce(t *testing.T, e *env) {
	e.create("a", "")
	whole := simpleTar(1)
	_, err := e.s.Fill(e.ctx(), "a", snapshot.FillRequest{Tar: bytes.NewReader(whole[:1024])})
	require.ErrorIs(t, err, snapshot.ErrInvalid)
	e.reopen()
	tail := bytes.NewReader(whole[len(whole)-1024:]) // only zeros: an empty layer, taken by itself
	_, err = e.s.Fill(e.ctx(), "a", snapshot.FillRequest{Tar: tail})
	require.ErrorIs(t, err, snapshot.ErrInvalid)
	require.Zero(t, tail.Len(), "a refused tar is read all the same")
	_, err = e.s.Create(e.ctx(), "b", snapshot.CreateRequest{Parent: "a", FreezeParent: true})
	require.ErrorIs(t, err, snapshot.ErrInvalid, "half a layer is no parent")
	e.remove("a")
}

func fillMounted(t *testing.T, e *env) {
	e.create("a", "")
	dir := e.mount("a")
	e.fill("a", simpleTar(1))
	require.Equal(t, "of layer 1", e.read(dir, "layer-1"))
	e.create("b", "a")
	e.in("b", func(dir string) { require.Equal(t, "of layer 1", e.read(dir, "layer-1")) })
	e.unmount("a")
	require.Equal(t, snapshot.KindLayer, e.kind("a"))
	e.in("a", func(dir string) {
		require.ErrorIs(t, os.WriteFile(filepath.Join(dir, "f"), nil, 0o600), unix.EROFS)
	})
}

func fillOwners(t *testing.T, e *env) {
	plus := func(by int) layertar.OwnerMap {
		return func(uid, gid int) (int, int, error) { return uid + by, gid + 2*by, nil }
	}
	e.create("a", "")
	_, err := e.s.Fill(e.ctx(), "a", snapshot.FillRequest{Tar: bytes.NewReader(simpleTar(1)), Owners: plus(1000)})
	e.ok(err)
	e.in("a", func(dir string) { e.mode(dir, "layer-1", unix.S_IFREG|0o644, 1000, 2000) })
	c, err := e.s.Compare(e.ctx(), snapshot.CompareRequest{Name: "a"})
	e.ok(err)
	var out bytes.Buffer
	_, err = c.WriteTar(e.ctx(), &out, snapshot.TarOptions{Owners: func(uid, gid int) (int, int, error) {
		return max(uid-1000, 0), max(gid-2000, 0), nil
	}})
	e.ok(errors.Join(err, c.Close()))
	for r := tar.NewReader(&out); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		e.ok(err)
		require.Zero(t, h.Uid, h.Name)
		require.Zero(t, h.Gid, h.Name)
	}
}

func compareWithAncestors(t *testing.T, e *env) {
	names := e.load(simpleTar(1), simpleTar(2), simpleTar(3)).Layers
	e.create("c", names[2])
	e.in("c", func(dir string) {
		e.write(dir, "mine", "123")
		e.ok(os.Remove(at(dir, "layer-2")))
		e.ok(os.Link(at(dir, "mine"), at(dir, "mine too")))
		e.ok(os.Symlink("to/where", at(dir, "symlink")))
	})
	require.Equal(t, []string{"/layer-2 D", "/mine A", "/mine too A", "/symlink A"}, e.differences("c", names[2]))
	require.Contains(t, e.differences("c", names[0]), "/layer-3 A")
	require.NotContains(t, e.differences("c", names[0]), "/layer-2 D", "it was not there then")
	require.Subset(t, e.differences("c", ""), []string{"/layer-1 A", "/shared A", "/shared/top A", "/mine A"})
	require.Contains(t, e.differences(names[0], "c"), "/mine D", "also with what is no ancestor")

	for below, want := range map[string]int64{names[2]: 3 + 8, "": 3 + 8 + 10 + 10 + 10 + 1} {
		c, err := e.s.Compare(e.ctx(), snapshot.CompareRequest{Name: "c", Below: below})
		e.ok(err)
		size, err := c.Size(e.ctx())
		e.ok(errors.Join(err, c.Close()))
		require.Equal(t, want, size, "each file once, a symbolic link by its target's length")
	}
	_, err := e.s.Compare(e.ctx(), snapshot.CompareRequest{Name: "c", Below: "nobody"})
	require.ErrorIs(t, err, snapshot.ErrNotFound)
	_, err = e.s.Compare(e.ctx(), snapshot.CompareRequest{Name: "nobody"})
	require.ErrorIs(t, err, snapshot.ErrNotFound)
}

func compareInstant(t *testing.T, e *env) {
	e.create("c", e.load(simpleTar(1)).Layers[0])
	dir := e.mount("c")
	e.write(dir, "f", "then")
	before := len(e.volumes())
	c, err := e.s.Compare(e.ctx(), snapshot.CompareRequest{Name: "c", Below: e.load(simpleTar(1)).Layers[0], Instant: true})
	e.ok(err)
	e.write(dir, "f", "now, and longer")
	e.write(dir, "g", "later")
	all, err := c.Changes(e.ctx())
	e.ok(err)
	require.Equal(t, []string{"/f A"}, changeLines(all))
	size, err := c.Size(e.ctx())
	e.ok(err)
	require.EqualValues(t, len("then"), size)
	e.ok(c.Close())
	e.ok(c.Close())
	require.Len(t, e.volumes(), before, "the copy is gone")
	require.Equal(t, "now, and longer", e.read(dir, "f"))
}

func discardInUse(t *testing.T, e *env) {
	e.create("c", "")
	dir := e.mount("c")
	e.write(dir, "f", "still here")
	f, err := os.Open(at(dir, "f"))
	e.ok(err)
	e.ok(e.s.Discard(e.ctx(), "c"))
	_, err = e.s.Stat(e.ctx(), "c")
	require.ErrorIs(t, err, snapshot.ErrNotFound)
	require.NoDirExists(t, dir)
	e.create("c", "") // the name is free
	kept, err := io.ReadAll(f)
	e.ok(err)
	require.Equal(t, "still here", string(kept))
	e.ok(f.Close())
	e.ok(e.s.Sweep(e.ctx()))
	waitFor(t, "the volume to go", func() bool {
		e.ok(e.s.Sweep(e.ctx()))
		return len(e.volumes()) <= 1
	})
}

func discardRules(t *testing.T, e *env) {
	require.ErrorIs(t, e.s.Discard(e.ctx(), "c"), snapshot.ErrNotFound)
	e.create("a", "")
	dir := e.mount("a")
	e.onTop("b", "a")
	require.ErrorIs(t, e.s.Discard(e.ctx(), "a"), snapshot.ErrBusy, "its child needs it")
	require.DirExists(t, dir, "what was refused changed nothing")
	e.ok(e.s.Discard(e.ctx(), "b"))
	e.ok(e.s.Discard(e.ctx(), "a"))
}

func doorState(t *testing.T, e *env) {
	state, err := e.s.DoorState("some door")
	e.ok(err)
	require.Nil(t, state)
	e.ok(e.s.SetDoorState("some door", []byte(`{"a":1}`)))
	e.reopen()
	state, err = e.s.DoorState("some door")
	e.ok(err)
	require.JSONEq(t, `{"a":1}`, string(state))
	e.ok(e.s.SetDoorState("some door", []byte(`null`)))
}
