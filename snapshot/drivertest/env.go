package drivertest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/mount"
)

// env is a store and the test that uses it at the moment. Its methods fail the
// test, so they belong to the test's goroutine; other goroutines use e.s.
type env struct {
	t    testing.TB
	f    Factory
	dir  string // the factory's directory, for other files of a case
	root string
	s    *snapshot.Store
	id   string // StoreID

	goroutines int
	ended      bool
}

// makeEnv makes and opens a store whose volumes have the given limit. Whatever
// happens, the store is destroyed at the end of t.
func makeEnv(t testing.TB, f Factory, size int64) *env {
	t.Helper()
	e := &env{t: t, f: f, dir: f.Dir(t), goroutines: runtime.NumGoroutine()}
	e.root = filepath.Join(e.dir, "store")
	o := snapshot.InitOptions{Root: e.root, BaseSize: size}
	if f.Prepare != nil {
		f.Prepare(t, &o)
	}
	t.Cleanup(func() { e.rescue(t) })
	require.NoError(t, snapshot.Init(ctx(t), f.Kind, o, "for a test"), "making the store")
	e.open()
	return e
}

// ctx outlives the test's end, for clean-ups.
func ctx(t testing.TB) context.Context { return context.WithoutCancel(t.Context()) }

func (e *env) ctx() context.Context { return ctx(e.t) }

func (e *env) options() snapshot.StoreOptions {
	return snapshot.StoreOptions{Root: e.root, Kinds: []snapshot.Kind{e.f.Kind}}
}

func (e *env) open() {
	e.t.Helper()
	s, err := snapshot.Open(e.ctx(), e.options())
	require.NoError(e.t, err, "opening the store")
	e.s = s
	st, err := s.Status(e.ctx())
	require.NoError(e.t, err)
	e.id = st.StoreID
}

func (e *env) close() {
	e.t.Helper()
	s := e.s
	e.s = nil
	require.NoError(e.t, s.Close(e.ctx()), "closing the store")
}

func (e *env) reopen() {
	e.t.Helper()
	e.close()
	e.open()
}

// empty removes everything that a case made and sees that nothing is left of
// it, in the catalog, the kernel and the mount table.
func (e *env) empty(t testing.TB) {
	t.Helper()
	if t.Failed() || e.ended || e.s == nil {
		return
	}
	e.clean()
	c := e.ctx()
	e.clear()
	all, err := e.s.List(c)
	require.NoError(t, err)
	require.Empty(t, all, "snapshots that could not be removed")
	e.clean()
	require.Empty(t, e.volumes(), "volumes left in the kernel")
	shown := filepath.Join(e.root, "mnt")
	below, err := mount.Below(shown)
	require.NoError(t, err)
	below = slices.DeleteFunc(below, func(m mount.Entry) bool { return m.Target == shown }) // the directory's own
	work, err := mount.Below(filepath.Join(e.root, "work"))
	require.NoError(t, err)
	require.Empty(t, append(below, work...), "mounts left")
	for _, dir := range []string{"mnt", "work", "tar"} {
		left, err := os.ReadDir(filepath.Join(e.root, dir))
		require.NoError(t, err)
		require.Empty(t, left, "files left in %s", dir)
	}
}

// clear removes all snapshots and images.
func (e *env) clear() {
	e.t.Helper()
	c := e.ctx()
	all, err := e.s.List(c)
	require.NoError(e.t, err)
	for _, in := range all {
		if in.Mounted != "" {
			require.NoError(e.t, e.s.Unmount(c, in.Name))
		}
	}
	for _, in := range all {
		if in.Kind != snapshot.KindLayer {
			require.NoError(e.t, e.s.Remove(c, in.Name), "removing %q", in.Name)
		}
	}
	images, err := e.s.Images(c)
	require.NoError(e.t, err)
	for _, im := range images {
		_, _, err := e.s.RemoveImage(c, im.ID.String(), true)
		require.NoError(e.t, err)
	}
	_, err = e.s.GC(c)
	require.NoError(e.t, err)
	for len(all) > 0 { // layers that were containers, from the top down
		n := len(all)
		all = slices.DeleteFunc(all, func(in snapshot.Info) bool { return !e.has(in.Name) || e.s.Remove(c, in.Name) == nil })
		require.Less(e.t, len(all), n, "snapshots that could not be removed")
	}
}

// clean asserts that Check finds nothing, and that layers know what they and those below them hold.
func (e *env) clean() {
	e.t.Helper()
	r, err := e.s.Check(e.ctx(), snapshot.CheckOptions{})
	require.NoError(e.t, err)
	require.Empty(e.t, r.Findings, "findings of Check")
	e.summedUp()
}

// knowsSum wants layers to know it.
func (e *env) knowsSum(names ...string) {
	e.t.Helper()
	for _, name := range names {
		in, err := e.s.Stat(e.ctx(), name)
		e.ok(err)
		require.NotNil(e.t, in.ChainBytes, "what %s and the layers below it hold", name)
	}
	e.summedUp()
}

// summedUp holds the layers' sums against the parts. Only what stands on a layer that was mounted when it was made may have
// none.
func (e *env) summedUp() {
	e.t.Helper()
	all, err := e.s.List(e.ctx())
	require.NoError(e.t, err)
	layers := map[string]snapshot.Info{}
	for _, in := range all {
		if in.Kind == snapshot.KindLayer {
			layers[in.Name] = in
		}
	}
	for name, in := range layers {
		if in.ChainBytes == nil {
			continue
		}
		sum := in.Usage.Added
		for below := in; below.Parent != ""; sum += below.Usage.Added {
			below = layers[below.Parent]
		}
		require.Equal(e.t, sum, *in.ChainBytes, "what %s and the layers below it hold", name)
	}
}

// volumes lists the kernel's volumes; nil if the driver cannot tell.
func (e *env) volumes() []snapshot.VolumeID {
	e.t.Helper()
	e.s.WaitSwept() // what was removed and answered for goes in the background
	ids, err := e.s.Driver().Volumes(e.ctx())
	if errors.Is(err, snapshot.ErrNotSupported) {
		return nil
	}
	require.NoError(e.t, err)
	return ids
}

// end closes and destroys the store and looks for what stayed behind.
func (e *env) end(t testing.TB) {
	t.Helper()
	e.t = t
	if e.ended {
		return
	}
	if t.Failed() { // rescue does what can be done
		return
	}
	if e.s != nil {
		e.close()
	}
	e.leaks(false)
	require.NoError(t, snapshot.Destroy(e.ctx(), e.options()), "destroying the store")
	e.ended = true
	e.leaks(true)
	_, err := os.Stat(e.root)
	require.ErrorIs(t, err, os.ErrNotExist, "the store's directory is still there")
	waitFor(t, "goroutines to end", func() bool { return runtime.NumGoroutine() <= e.goroutines+1 })
}

// rescue takes a failed test's store down as far as possible, so that nothing
// stays on the machine. It reports only what it could not do.
func (e *env) rescue(t testing.TB) {
	if !e.ended {
		Rescue(t, e.f.Kind, e.root, e.s)
	}
}

// Rescue takes the store of a failed test down, as far as that goes: mounts of the
// store's own, the store s if it is not nil, and what lies below its root. What cannot
// be done is logged. A store that is gone already is left alone.
func Rescue(t testing.TB, kind snapshot.Kind, root string, s *snapshot.Store) {
	c := ctx(t)
	var errs []error
	below, err := mount.Below(root)
	errs = append(errs, err)
	for i := len(below) - 1; i >= 0; i-- {
		if dir := filepath.Dir(below[i].Target); dir == filepath.Join(root, "mnt") || dir == filepath.Join(root, "work") {
			errs = append(errs, mount.Unmount(below[i].Target))
		}
	}
	if s != nil {
		errs = append(errs, s.Close(c))
	}
	if _, err := os.Stat(root); err == nil {
		o := snapshot.StoreOptions{Root: root, Kinds: []snapshot.Kind{kind}}
		if err := snapshot.Destroy(c, o); err != nil && !errors.Is(err, snapshot.ErrNotFound) {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		t.Logf("taking the store of a failed test down: %v", err)
	}
}

// waitFor polls for what other parties do in their own time (the kernel's
// deferred work, a goroutine that was told to end), within a bound.
func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
