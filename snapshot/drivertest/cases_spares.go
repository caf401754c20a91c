package drivertest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/mount"
)

// spareCases are of a store that makes snapshots ahead.
func spareCases() []testCase {
	return []testCase{
		{name: "Spares", run: sparesAreUsed},
		{name: "SparesNotKept", run: sparesNotKept},
		{name: "SparesOfAnotherSize", run: sparesOfAnotherSize},
		{name: "SparesGoWithTheirLayer", run: sparesGoWithTheirLayer},
		{name: "SparesAreFew", run: sparesAreFew},
		{name: "SparesInACrowd", run: sparesInACrowd},
		{name: "SpareOfACommit", run: spareOfACommit},
		{name: "SpareOfAFill", run: spareOfAFill, own: true},
	}
}

// spares makes containers of a layer until the store has made spares of it, and says
// how many there are then.
func (e *env) spares(layer string) int {
	e.t.Helper()
	before := e.s.Spares().Ready
	for i := range 2 {
		e.create(fmt.Sprintf("%s-first-%d", layer, i), layer)
	}
	waitFor(e.t, "spares", func() bool { return e.s.Spares().Ready > before })
	return e.s.Spares().Ready - before
}

// owned are the volumes that the catalog knows.
func (e *env) owned() []snapshot.VolumeID {
	e.t.Helper()
	all, err := e.s.List(e.ctx())
	e.ok(err)
	var ids []snapshot.VolumeID
	for _, in := range all {
		if in.Kind != snapshot.KindView {
			ids = append(ids, in.Volume.ID)
		}
	}
	return ids
}

func sparesAreUsed(t *testing.T, e *env) {
	im := e.image("config", nil, simpleTar(1), simpleTar(2))
	top := im.Layers[1]
	e.s.KeepSpares()
	before := e.s.Spares()
	n := e.spares(top)
	now := e.s.Spares()
	require.Equal(t, []uint64{0, 2}, []uint64{now.Taken - before.Taken, now.Missed - before.Missed})
	require.Len(t, e.names(), 4, "spares have no names")
	st, err := e.s.Status(e.ctx())
	e.ok(err)
	require.Equal(t, 2, st.Containers)
	e.clean()
	if ids := e.volumes(); ids != nil {
		require.Len(t, ids, len(e.owned())+n)
	}

	a := e.create("a", top)
	require.EqualValues(t, 1, e.s.Spares().Taken-before.Taken)
	b := e.create("b", top)
	require.NotEqual(t, a.Volume.ID, b.Volume.ID)
	require.Less(t, a.Volume.ID, b.Volume.ID)
	require.Empty(t, e.differences("a", top))
	e.in("a", func(dir string) {
		require.Equal(t, "of layer 2", e.read(dir, "layer-2"))
		e.write(dir, "f", "of a")
	})
	e.in("b", func(dir string) { e.missing(dir, "f") })
	require.Equal(t, []string{"/f A"}, e.differences("a", top))
	e.onTop("on a", "a")
	e.clean()
	e.reopen()
	require.Zero(t, e.s.Spares().Ready, "they are only kept on request")
	if ids := e.volumes(); ids != nil {
		require.ElementsMatch(t, e.owned(), ids, "Close leaves no spares")
	}
	e.in("a", func(dir string) { require.Equal(t, "of a", e.read(dir, "f")) })
}

func sparesNotKept(t *testing.T, e *env) {
	im := e.image("config", nil, simpleTar(1))
	for i := range 4 {
		e.create(fmt.Sprint(i), im.Layers[0])
	}
	require.Zero(t, e.s.Spares().Ready)
	if ids := e.volumes(); ids != nil {
		require.ElementsMatch(t, e.owned(), ids)
	}
}

func sparesOfAnotherSize(t *testing.T, e *env) {
	im := e.image("config", nil, simpleTar(1))
	layer := im.Layers[0]
	e.s.KeepSpares()
	n := e.spares(layer)
	size := 2 * e.f.BaseSize
	in, err := e.s.Create(e.ctx(), "large", snapshot.CreateRequest{Parent: layer, Size: size})
	e.ok(err)
	require.Equal(t, size, in.Volume.Size)
	require.Equal(t, n, e.s.Spares().Ready, "a spare of another size was taken")
	e.reopen()
}

func sparesGoWithTheirLayer(t *testing.T, e *env) {
	im := e.image("config", []string{"i:1"}, simpleTar(1), simpleTar(2))
	top := im.Layers[1]
	e.s.KeepSpares()
	e.spares(top)
	for _, in := range []int{0, 1} {
		e.remove(fmt.Sprintf("%s-first-%d", top, in))
	}
	_, deleted, err := e.s.RemoveImage(e.ctx(), "i:1", false)
	e.ok(err)
	require.Len(t, deleted, 3, "spares keep no layer")
	require.Zero(t, e.s.Spares().Ready)
	require.Empty(t, e.volumes())
	e.clean()
}

func sparesAreFew(t *testing.T, e *env) {
	e.s.KeepSpares()
	const most = 32 + 8 // and one of each of the layers that are used often
	for i := range 12 {
		im := e.image(fmt.Sprintf("config %d", i), nil, simpleTar(20+i))
		for k := range 3 {
			e.create(fmt.Sprintf("%d-%d", i, k), im.Layers[0])
		}
		require.LessOrEqual(t, e.s.Spares().Ready, most)
	}
	waitFor(t, "the spares of layers that others came after to go", func() bool {
		return len(e.volumes()) <= len(e.owned())+most
	})
	e.clean()
	e.reopen()
	if ids := e.volumes(); ids != nil {
		require.ElementsMatch(t, e.owned(), ids)
	}
}

// sparesInACrowd creates and removes, beside checks, while spares are made and taken.
func sparesInACrowd(t *testing.T, e *env) {
	im := e.image("config", []string{"i:1"}, simpleTar(1))
	e.s.KeepSpares()
	const workers, each = 8, 6
	errs := make([]error, workers)
	ids := make([][]snapshot.VolumeID, workers)
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			for i := range each {
				name := fmt.Sprintf("%d-%d", w, i)
				in, err := e.s.Create(e.ctx(), name, snapshot.CreateRequest{Parent: im.Layers[0]})
				if err == nil && i%2 == 0 {
					err = e.s.Remove(e.ctx(), name)
				}
				if err != nil {
					errs[w] = err
					return
				}
				ids[w] = append(ids[w], in.Volume.ID)
			}
		})
	}
	all.Wait()
	seen := map[snapshot.VolumeID]bool{}
	for w := range workers {
		e.ok(errs[w])
		for _, id := range ids[w] {
			require.False(t, seen[id], "volume %d was handed out twice", id)
			seen[id] = true
		}
	}
	e.clean()
	e.reopen()
	if ids := e.volumes(); ids != nil {
		require.ElementsMatch(t, e.owned(), ids)
	}
}

// spareOfACommit: where sealing and a snapshot together wait less for the disk, each layer of a
// chain comes with the volume that is gone on with.
// needStacker skips a case about the spares that are made by the way.
func needStacker(t *testing.T, e *env) {
	t.Helper()
	if _, ok := e.s.Driver().(snapshot.Stacker); !ok {
		t.Skip("the driver makes no volume on top of one that it seals")
	}
}

func spareOfACommit(t *testing.T, e *env) {
	needStacker(t, e)
	e.s.KeepSpares()
	parent, text := "", strings.Repeat("x", 8<<20)
	for i := range 3 {
		active, layer := fmt.Sprint("active ", i), fmt.Sprint("layer ", i)
		in := e.create(active, parent)
		require.Zero(t, e.s.Spares().Ready, "layer %d took the spare of the one below", i)
		dir := e.lent(active)
		e.write(dir, fmt.Sprint("f", i), text)
		e.ok(mount.Unmount(dir))
		frozen, err := e.s.Freeze(e.ctx(), active, snapshot.FreezeRequest{Name: layer})
		e.ok(err)
		require.True(t, frozen.Volume.Sealed)
		require.Equal(t, in.Volume.ID, frozen.Volume.ID)
		require.Equal(t, 1, e.s.Spares().Ready)
		require.GreaterOrEqual(t, frozen.Usage.Added, int64(8<<20))
		e.clean()
		parent = layer
	}
	e.in(parent, func(dir string) {
		for i := range 3 {
			require.Equal(t, text, e.read(dir, fmt.Sprint("f", i)))
		}
		require.ErrorIs(t, os.WriteFile(filepath.Join(dir, "g"), nil, 0o600), unix.EROFS)
	})
	require.Equal(t, []string{"/f2 A"}, e.differences(parent, "layer 1"))
	e.create("c", parent)
	require.Zero(t, e.s.Spares().Ready)
	require.Empty(t, e.differences("c", parent))
	usage, err := e.s.Usage(e.ctx(), "c")
	e.ok(err)
	require.Less(t, usage.Added, int64(8<<20), "what the layer has is not the container's")
	e.in("c", func(dir string) { e.write(dir, "g", "of c") })
	require.Equal(t, []string{"/g A"}, e.differences("c", parent))

	_, err = e.s.Freeze(e.ctx(), "c", snapshot.FreezeRequest{Name: "top"})
	e.ok(err)
	require.Equal(t, 1, e.s.Spares().Ready)
	e.remove("top", "layer 2", "layer 1", "layer 0")
	require.Zero(t, e.s.Spares().Ready, "a spare goes with its layer")
	require.Empty(t, e.volumes())
	e.clean()
}

// spareOfAFill: who unpacks layer after layer, as Docker does, finds each one's volume made with the seal of the one below.
func spareOfAFill(t *testing.T, e *env) {
	needStacker(t, e)
	e.s.KeepSpares()
	before, parent := e.s.Spares(), ""
	for i := range 3 {
		name := fmt.Sprint("layer ", i)
		e.create(name, parent)
		require.Zero(t, e.s.Spares().Ready, "layer %d took the spare of the one below", i)
		_, err := e.s.Fill(e.ctx(), name, snapshot.FillRequest{Tar: bytes.NewReader(simpleTar(i))})
		e.ok(err)
		require.Equal(t, 1, e.s.Spares().Ready)
		e.clean()
		parent = name
	}
	require.EqualValues(t, 2, e.s.Spares().Taken-before.Taken)
	e.create("broken", parent)
	_, err := e.s.Fill(e.ctx(), "broken", snapshot.FillRequest{Tar: strings.NewReader("no tar")})
	require.ErrorIs(t, err, snapshot.ErrInvalid)
	require.Zero(t, e.s.Spares().Ready, "what was not committed leaves none")
	e.remove("broken")

	e.create("c", parent)
	require.Empty(t, e.differences("c", parent))
	e.in("c", func(dir string) {
		for i := range 3 {
			require.Equal(t, fmt.Sprint("of layer ", i), e.read(dir, fmt.Sprint("layer-", i)))
		}
		e.write(dir, "own", "of c")
	})
	require.Equal(t, []string{"/own A"}, e.differences("c", parent))
	e.remove("c", "layer 2", "layer 1", "layer 0")
	require.Zero(t, e.s.Spares().Ready, "a spare goes with its layer")
	require.Empty(t, e.volumes())
	e.clean()
}
