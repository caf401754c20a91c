package snapshot_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/drivertest/dirdriver"
)

// fixture is a store on the directory driver.
type fixture struct {
	t    testing.TB
	must must
	root string
	kind *dirdriver.Kind
	s    *snapshot.Store
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	f := newFixtureFor(t, t)
	t.Cleanup(f.end)
	return f
}

// must is what fixtures need of a test, or of a run of package rapid.
type must interface {
	require.TestingT
	Helper()
	Fatalf(format string, args ...any)
}

// newFixtureFor makes a fixture that the caller ends.
func newFixtureFor(t testing.TB, m must) *fixture {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir, err := os.MkdirTemp("", "bstest-")
	require.NoError(t, err)
	f := &fixture{t: t, must: m, root: filepath.Join(dir, "store"), kind: dirdriver.New()}
	require.NoError(t, snapshot.Init(ctx, f.kind, snapshot.InitOptions{Root: f.root, BaseSize: 1 << 30}, ""))
	f.open()
	return f
}

// end takes the store down; it leaves nothing, whether the test failed or not.
func (f *fixture) end() {
	f.kind.Faults.FailAt(0, nil)
	r, checkErr := f.s.Check(ctx, snapshot.CheckOptions{})
	all, listErr := f.s.List(ctx)
	var errs []error
	for _, in := range all {
		if in.Mounted != "" {
			errs = append(errs, f.s.Unmount(ctx, in.Name))
		}
	}
	errs = append(errs, checkErr, listErr, f.s.Close(ctx), snapshot.Destroy(ctx, f.options()), os.Remove(filepath.Dir(f.root)))
	require.NoError(f.must, errors.Join(errs...))
	require.Empty(f.must, r.Findings)
	require.Empty(f.must, f.kind.Faults.Violations())
}

var ctx = context.Background()

func (f *fixture) options() snapshot.StoreOptions {
	return snapshot.StoreOptions{Root: f.root, Kinds: []snapshot.Kind{f.kind}}
}

func (f *fixture) open() {
	f.must.Helper()
	var err error
	f.s, err = snapshot.Open(ctx, f.options())
	require.NoError(f.must, err)
}

func (f *fixture) reopen() {
	f.must.Helper()
	require.NoError(f.must, f.s.Close(ctx))
	f.open()
}

// check asserts that catalog and driver agree on every volume and tar file.
func (f *fixture) check() {
	f.must.Helper()
	f.kind.Faults.FailAt(0, nil)
	r, err := f.s.Check(ctx, snapshot.CheckOptions{})
	require.NoError(f.must, err)
	require.Empty(f.must, r.Findings)
}

// exact asserts that nothing exists that the catalog does not know.
func (f *fixture) exact(what string) {
	f.must.Helper()
	f.check()
	all, err := f.s.List(ctx)
	require.NoError(f.must, err)
	var want []snapshot.VolumeID
	layers := 0
	for _, in := range all {
		if in.Kind != snapshot.KindView {
			want = append(want, in.Volume.ID)
		}
		if in.Kind == snapshot.KindLayer {
			layers++
		}
	}
	got, err := f.s.Driver().Volumes(ctx)
	require.NoError(f.must, err)
	require.ElementsMatch(f.must, want, got, "volumes, %s", what)
	tars, err := os.ReadDir(filepath.Join(f.root, "tar"))
	require.NoError(f.must, err)
	require.Len(f.must, tars, layers, "tar files, %s", what)
	work, err := os.ReadDir(filepath.Join(f.root, "work"))
	require.NoError(f.must, err)
	require.Empty(f.must, work, "work directories, %s", what)
}

// layerTar is a tar with one file.
func layerTar(t testing.TB, n int) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	body := fmt.Sprintf("content %d", n)
	require.NoError(t, w.WriteHeader(&tar.Header{Name: fmt.Sprintf("file-%d", n), Mode: 0o644, Size: int64(len(body))}))
	_, err := w.Write([]byte(body))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return b.Bytes()
}

func request(t testing.TB, config string, layers ...int) snapshot.LoadRequest {
	t.Helper()
	r := snapshot.LoadRequest{}
	for _, n := range layers {
		raw := layerTar(t, n)
		r.Layers = append(r.Layers, snapshot.LayerSource{
			DiffID: digest.FromBytes(raw),
			Open:   func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil },
		})
	}
	if config != "" {
		r.Config, r.Refs = []byte(config), []string{config + ":1"}
	}
	return r
}

func (f *fixture) load(config string, layers ...int) snapshot.Image {
	f.t.Helper()
	im, err := f.s.Load(ctx, request(f.t, config, layers...))
	require.NoError(f.t, err)
	return im
}

// cost is what one operation took.
type cost struct {
	Commits int
	Calls   []string
}

// stat describes snapshots.
func (f *fixture) stat(names ...string) (list []snapshot.Info) {
	f.t.Helper()
	for _, name := range names {
		in, err := f.s.Stat(ctx, name)
		require.NoError(f.t, err)
		list = append(list, in)
	}
	return list
}

func (f *fixture) cost(fn func() error) cost {
	f.t.Helper()
	f.kind.Faults.Calls()
	before := f.s.CatalogCommits()
	require.NoError(f.t, fn())
	return cost{f.s.CatalogCommits() - before, f.kind.Faults.Calls()}
}

// TestCost counts catalog commits and driver calls of operations, with few
// layers in the store and with many.
func TestCost(t *testing.T) {
	costs := func(layers int) map[string]cost {
		f := newFixture(t)
		for i := 0; i < layers; i += 50 {
			var chain []int
			for j := range min(50, layers-i) {
				chain = append(chain, 1000+i+j)
			}
			f.load(fmt.Sprint("crowd-", i), chain[0])
			for _, n := range chain[1:] {
				f.load(fmt.Sprint("crowd-", i, n), n)
			}
		}
		im := f.load("base", 1)
		create := func(name string) error {
			_, err := f.s.Create(ctx, name, snapshot.CreateRequest{Parent: im.Layers[0]})
			return err
		}
		for i := range 128 { // up to a known place in the block of volume ids
			in, err := f.s.Create(ctx, "filler", snapshot.CreateRequest{})
			require.NoError(t, err)
			require.NoError(t, f.s.Remove(ctx, "filler"))
			if i > 0 && in.Volume.ID%128 == 32 {
				break
			}
		}
		return map[string]cost{
			"create":  f.cost(func() error { return create("c") }),
			"mount":   f.cost(func() error { _, err := f.s.Mount(ctx, "c"); return err }),
			"unmount": f.cost(func() error { return f.s.Unmount(ctx, "c") }),
			"load":    f.cost(func() error { _, err := f.s.Load(ctx, request(t, "new", 1, 2, 3)); return err }),
			"reload":  f.cost(func() error { _, err := f.s.Load(ctx, request(t, "new", 1, 2, 3)); return err }),
			"commit":  f.cost(func() error { _, _, err := f.s.Commit(ctx, "c", snapshot.CommitRequest{}); return err }),
			"stat":    f.cost(func() error { _, err := f.s.Stat(ctx, "c"); return err }),
			"view": f.cost(func() error {
				_, err := f.s.View(ctx, "v", snapshot.CreateRequest{Parent: im.Layers[0]})
				return err
			}),
			"referenced": f.cost(func() error { _, err := f.s.CountReferenced(ctx, f.stat(im.Layers[0], "c")); return err }),
			"again":      f.cost(func() error { _, err := f.s.CountReferenced(ctx, f.stat(im.Layers[0], "v")); return err }),
			"remove":     f.cost(func() error { return f.s.Remove(ctx, "c") }),
		}
	}
	few, many := costs(10), costs(1000)
	require.Equal(t, few, many, "costs with 10 layers and with 1000")
	require.Equal(t, map[string]cost{
		"create":  {1, []string{"create"}},
		"mount":   {0, []string{"activate"}},
		"unmount": {0, []string{"deactivate"}},
		"load":    {1, []string{"unpack", "unpack-seal", "usage", "unpack-seal", "usage", "unpack-close"}},
		"reload":  {1, nil},
		"commit": {1, []string{
			"create", "seal", "activate", "activate", "deactivate", "deactivate", "usage",
		}},
		"stat":       {0, nil},
		"view":       {1, nil},
		"referenced": {1, []string{"referenced"}},
		"again":      {0, nil},
		"remove":     {1, []string{"remove"}},
	}, few)
}

// TestReservation counts what the ids of many creations cost.
func TestReservation(t *testing.T) {
	f := newFixture(t)
	got := f.cost(func() error {
		for range 256 {
			if _, err := f.s.Create(ctx, "c", snapshot.CreateRequest{}); err != nil {
				return err
			}
			if err := f.s.Remove(ctx, "c"); err != nil {
				return err
			}
		}
		return nil
	})
	epochs := 0
	for _, c := range got.Calls {
		if c == "epoch" {
			epochs++
		}
	}
	require.Equal(t, 2, epochs, "blocks of ids")
	require.Equal(t, 2*256+2, got.Commits)
}

// TestFailEveryStep lets each driver step of each operation fail once. The store
// is as it was then, also after it is opened anew, and the operation can be done
// again.
func TestFailEveryStep(t *testing.T) {
	operations := []struct {
		name string
		do   func(f *fixture) error
		undo func(f *fixture) error
	}{
		{
			"create",
			func(f *fixture) error {
				_, err := f.s.Create(ctx, "new", snapshot.CreateRequest{Parent: f.base()})
				return err
			},
			func(f *fixture) error { return f.s.Remove(ctx, "new") },
		},
		{
			"load",
			func(f *fixture) error { _, err := f.s.Load(ctx, request(f.t, "new", 1, 7, 8)); return err },
			func(f *fixture) error { _, _, err := f.s.RemoveImage(ctx, "new:1", false); return err },
		},
		{
			"commit",
			func(f *fixture) error {
				_, _, err := f.s.Commit(ctx, "kept", snapshot.CommitRequest{
					Config: func(snapshot.Info, snapshot.Image) ([]byte, error) { return []byte("c"), nil }, Refs: []string{"new:1"},
				})
				return err
			},
			func(f *fixture) error { _, _, err := f.s.RemoveImage(ctx, "new:1", false); return err },
		},
		{
			"mount",
			func(f *fixture) error { _, err := f.s.Mount(ctx, "kept"); return err },
			func(f *fixture) error { return f.s.Unmount(ctx, "kept") },
		},
		{
			"changes",
			func(f *fixture) error { _, err := f.s.Changes(ctx, "kept"); return err },
			func(*fixture) error { return nil },
		},
	}
	for _, op := range operations {
		t.Run(op.name, func(t *testing.T) {
			f := newFixture(t)
			f.load("base", 1)
			_, err := f.s.Create(ctx, "kept", snapshot.CreateRequest{Parent: f.base()})
			require.NoError(t, err)
			before, err := f.s.List(ctx)
			require.NoError(t, err)
			for k := 1; ; k++ {
				require.Less(t, k, 200)
				f.kind.Faults.FailAt(k, dirdriver.ErrInjected)
				err := op.do(f)
				reached := f.kind.Faults.Steps() >= k
				f.kind.Faults.FailAt(0, nil)
				if !reached {
					require.NoError(t, err)
					require.NoError(t, op.undo(f))
					break
				}
				if err == nil { // a failure that the operation could do without
					require.NoError(t, op.undo(f))
				} else {
					require.ErrorIs(t, err, dirdriver.ErrInjected)
				}
				f.reopen()
				f.exact(fmt.Sprintf("step %d failed", k))
				after, err := f.s.List(ctx)
				require.NoError(t, err)
				require.Equal(t, before, after, "step %d failed", k)
				require.NoError(t, op.do(f), "again, after step %d failed", k)
				require.NoError(t, op.undo(f))
			}
			f.exact("at the end")
		})
	}
}

// base is the name of the layer that fixtures load first.
func (f *fixture) base() string { return digest.FromBytes(layerTar(f.t, 1)).String() }

// TestEpochFails has the driver's counter fail once while a block of ids is
// reserved: catalog and driver stay a pair.
func TestEpochFails(t *testing.T) {
	f := newFixture(t)
	for k := range 3 {
		f.kind.Faults.FailAt(1, dirdriver.ErrInjected) // the counter is the first step of a first creation
		_, err := f.s.Create(ctx, fmt.Sprint("c", k), snapshot.CreateRequest{})
		require.ErrorIs(t, err, dirdriver.ErrInjected)
	}
	f.kind.Faults.FailAt(0, nil)
	for i := range 130 {
		_, err := f.s.Create(ctx, fmt.Sprint("c", i), snapshot.CreateRequest{})
		require.NoError(t, err)
	}
	f.reopen()
	f.exact("after the counter failed")
}

// TestRemovalPending has the driver refuse a removal that the catalog has
// committed: it is counted, and done at the next opportunity.
func TestRemovalPending(t *testing.T) {
	for name, later := range map[string]func(f *fixture) error{
		"gc":     func(f *fixture) error { _, err := f.s.GC(ctx); return err },
		"open":   func(f *fixture) error { f.reopen(); return nil },
		"repair": func(f *fixture) error { _, err := f.s.Check(ctx, snapshot.CheckOptions{Repair: true}); return err },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			_, err := f.s.Create(ctx, "c", snapshot.CreateRequest{})
			require.NoError(t, err)
			f.kind.Faults.FailAt(1, dirdriver.ErrInjected)
			require.NoError(t, f.s.Remove(ctx, "c"), "the removal is committed")
			_, err = f.s.Stat(ctx, "c")
			require.ErrorIs(t, err, snapshot.ErrNotFound)
			r, err := f.s.Check(ctx, snapshot.CheckOptions{})
			require.NoError(t, err)
			require.Empty(t, r.Findings, "nothing is damaged")
			require.Equal(t, 1, r.Pending)
			require.NoError(t, later(f))
			f.exact("afterwards")
		})
	}
}

// TestStrangers puts a volume where the store never made one: it is reported and
// not touched, and repair makes it a container that can be looked at and removed.
func TestStrangers(t *testing.T) {
	f := newFixture(t)
	require.NoError(t, f.s.Driver().Create(ctx, 9999, snapshot.CreateOptions{Origin: snapshot.Volume{ID: snapshot.Base}}))
	f.reopen()
	r, err := f.s.Check(ctx, snapshot.CheckOptions{})
	require.NoError(t, err)
	require.Len(t, r.Findings, 1)
	require.Equal(t, snapshot.VolumeID(9999), r.Findings[0].Volume)
	require.Contains(t, r.Findings[0].Mend, "check --repair")
	ids, err := f.s.Driver().Volumes(ctx)
	require.NoError(t, err)
	require.Contains(t, ids, snapshot.VolumeID(9999))

	r, err = f.s.Check(ctx, snapshot.CheckOptions{Repair: true})
	require.NoError(t, err)
	require.Empty(t, r.Findings)
	require.Len(t, r.Repaired, 1)
	f.exact("after the repair")
	in, err := f.s.Create(ctx, "beside", snapshot.CreateRequest{})
	require.NoError(t, err)
	require.Greater(t, in.Volume.ID, snapshot.VolumeID(9999), "its number is not given out in this process")
	require.NoError(t, f.s.Remove(ctx, "beside"))
	dir, err := f.s.Mount(ctx, "found-9999")
	require.NoError(t, err)
	require.DirExists(t, dir)
	require.NoError(t, f.s.Unmount(ctx, "found-9999"))
	require.NoError(t, f.s.Remove(ctx, "found-9999"))
	f.reopen()
	f.exact("after its removal")
	in, err = f.s.Create(ctx, "next", snapshot.CreateRequest{})
	require.NoError(t, err)
	require.Greater(t, in.Volume.ID, snapshot.VolumeID(9999), "its number is not given out again")
}

// TestFrozenWhileMounted: where a container was mounted when it became a layer is nothing that the layer keeps.
func TestFrozenWhileMounted(t *testing.T) {
	f := newFixture(t)
	_, err := f.s.Create(ctx, "c", snapshot.CreateRequest{})
	require.NoError(t, err)
	_, err = f.s.Mount(ctx, "c")
	require.NoError(t, err)
	in, err := f.s.Freeze(ctx, "c", snapshot.FreezeRequest{Name: "layer"})
	require.NoError(t, err)
	require.NotEmpty(t, in.Mounted, "it is mounted still")
	require.NoError(t, f.s.Unmount(ctx, "layer"))
	f.reopen()
	in, err = f.s.Stat(ctx, "layer")
	require.NoError(t, err)
	require.Empty(t, in.Mounted)
	require.NoError(t, f.s.Remove(ctx, "layer"))
}

// TestRepairTarRecord: a layer whose record is gone can be used, and repair says so for good.
func TestRepairTarRecord(t *testing.T) {
	f := newFixture(t)
	im := f.load("base", 1)
	in, err := f.s.Stat(ctx, im.Layers[0])
	require.NoError(t, err)
	require.NoError(t, os.Remove(filepath.Join(f.root, "tar", fmt.Sprint(in.Volume.ID)+".json.zst")))
	r, err := f.s.Check(ctx, snapshot.CheckOptions{Repair: true})
	require.NoError(t, err)
	require.Empty(t, r.Findings)
	require.Len(t, r.Repaired, 1)
	require.ErrorIs(t, f.s.WriteLayer(ctx, im.Layers[0], io.Discard), snapshot.ErrNotSupported)
	_, err = f.s.Create(ctx, "c", snapshot.CreateRequest{Parent: im.Layers[0]})
	require.NoError(t, err)
}

// TestRepairDerivedRecords damages each of the catalog's lists that follow from others.
func TestRepairDerivedRecords(t *testing.T) {
	for _, bucket := range []string{"volumes", "children", "tops", "refs"} {
		t.Run(bucket, func(t *testing.T) {
			f := newFixture(t)
			im := f.load("base", 1, 2)
			_, err := f.s.Create(ctx, "c", snapshot.CreateRequest{Parent: im.Layers[1]})
			require.NoError(t, err)
			require.NoError(t, f.s.DamageCatalog(bucket))
			r, err := f.s.Check(ctx, snapshot.CheckOptions{})
			require.NoError(t, err)
			require.Len(t, r.Findings, 1)
			require.Contains(t, r.Findings[0].Mend, "check --repair")
			r, err = f.s.Check(ctx, snapshot.CheckOptions{Repair: true})
			require.NoError(t, err)
			require.Empty(t, r.Findings)
			require.Len(t, r.Repaired, 1)
			require.ErrorIs(t, f.s.Remove(ctx, im.Layers[0]), snapshot.ErrBusy, "what stands on it is known again")
			require.ErrorIs(t, f.s.Remove(ctx, im.Layers[1]), snapshot.ErrBusy)
			f.reopen()
			f.exact("after the repair")
		})
	}
}

// TestDamagedLayer changes a layer's file and its tar record behind the store's
// back.
func TestDamagedLayer(t *testing.T) {
	f := newFixture(t)
	im := f.load("base", 1, 2)
	in, err := f.s.Stat(ctx, im.Layers[1])
	require.NoError(t, err)
	id := fmt.Sprint(in.Volume.ID)
	file := filepath.Join(f.root, "driver/volumes", id, "tree/file-2")
	require.NoError(t, os.WriteFile(file, []byte("other    2"), 0o644))
	require.ErrorIs(t, f.s.WriteLayer(ctx, im.Layers[1], io.Discard), snapshot.ErrCorrupt)
	r, err := f.s.Check(ctx, snapshot.CheckOptions{Content: true})
	require.NoError(t, err)
	require.Len(t, r.Findings, 1)
	require.NoError(t, os.WriteFile(file, []byte("content 2"), 0o644))
	require.NoError(t, f.s.WriteLayer(ctx, im.Layers[1], io.Discard))

	broken := errors.New("the reader went away")
	err = f.s.WriteLayer(ctx, im.Layers[1], failingWriter{broken})
	require.ErrorIs(t, err, broken)
	require.NotErrorIs(t, err, snapshot.ErrCorrupt)

	record := filepath.Join(f.root, "tar", id+".json.zst")
	require.NoError(t, os.Rename(record, record+"-away"))
	require.ErrorIs(t, f.s.WriteLayer(ctx, im.Layers[1], io.Discard), snapshot.ErrCorrupt)
	r, err = f.s.Check(ctx, snapshot.CheckOptions{})
	require.NoError(t, err)
	require.Len(t, r.Findings, 1)
	require.NoError(t, os.Rename(record+"-away", record))
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

// TestCreatedOnAFrozenParent: a container that is made on one which is frozen with it began when that stood still, so that whatever
// either changes afterwards is stamped later.
func TestCreatedOnAFrozenParent(t *testing.T) {
	f := newFixture(t)
	_, err := f.s.Create(ctx, "below", snapshot.CreateRequest{})
	require.NoError(t, err)
	in, err := f.s.Create(ctx, "above", snapshot.CreateRequest{Parent: "below", FreezeParent: true})
	require.NoError(t, err)
	below, err := f.s.Stat(ctx, "below")
	require.NoError(t, err)
	require.Equal(t, snapshot.KindLayer, below.Kind)
	require.Equal(t, below.Created, in.Created)
}
