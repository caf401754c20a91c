package drivertest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/failpoint"
)

// The environment of a child process: which operation on which store.
const (
	childOperation = "BLOCKSTORE_DRIVERTEST_OPERATION"
	childRoot      = "BLOCKSTORE_DRIVERTEST_ROOT"
)

// mostAlike is how many spares are made in a child: a first, one between and a last. Five more would be killed at
// the same steps of the same loops, a hundred times.
const mostAlike = "3"

// maxSteps bounds the steps of one operation.
const maxSteps = 2000

// RunCrash kills a process at every step of every operation (package failpoint)
// and sees that the next open recovers by itself: Check is clean, every layer is
// whole, the operation happened wholly or not at all, nothing leaked, and it can
// be done again. It runs the test binary itself as a child, with the filter of the
// test that called it, so it must be called before that test does anything
// else. It needs the build tag failpoints.
func RunCrash(t *testing.T, f Factory) {
	f = f.withDefaults()
	// A store is opened twice for each step, in processes that stay small: looked for as often as is usual, garbage costs a
	// twelfth of the processor's time in User Mode Linux.
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	if name := os.Getenv(childOperation); name != "" {
		crashChild(t, f, name)
		return
	}
	if !failpoint.Enabled {
		t.Skip("the steps are not marked in this build: build it with -tags failpoints")
	}
	if os.Geteuid() != 0 {
		t.Skip("the suite mounts file systems: it needs root")
	}
	if err := f.Kind.Probe(t.Context()); err != nil {
		t.Skipf("this kernel cannot run the driver %s: %v", f.Kind.Name(), err)
	}
	e := makeEnv(t, f, f.BaseSize)
	p := prepare(e)
	for _, op := range operations() {
		if f.Only != nil && !slices.Contains(f.Only, op.name) {
			continue
		}
		t.Run(op.name, func(t *testing.T) {
			e.t = t
			p.crashAtEach(e, op)
		})
		if t.Failed() {
			return // what it left is no ground for the next
		}
	}
	e.t = t
	e.clear()
	e.end(t)
	t.Run("Init", func(t *testing.T) { crashInit(t, f) })
	t.Run("Destroy", func(t *testing.T) { crashDestroy(t, f) })
}

// crashAtEach runs one operation in children that die at steps 1, 2, 3 … until
// one survives. Where some of it runs beside the rest the numbers of its steps are not the same
// each time: if no child died at the one that it has to pass, one more dies there by its name.
func (p prepared) crashAtEach(e *env, op operation) {
	e.t.Helper()
	e.close()
	killed, happened, passed := 0, 0, op.passes == ""
	crash := func(point string) (died bool) {
		if op.before != nil {
			op.before(e)
		}
		step, died := e.childAt(op.name, point)
		if !died {
			return false
		}
		killed++
		passed = passed || step == op.passes
		where := fmt.Sprintf("killed at step %s, %s", point, step)
		e.openAfterCrash(where)
		done := op.done(e)
		p.whole(e, where)
		if done {
			happened++
			op.undo(e)
		}
		require.NoError(e.t, op.do(e), "doing it again, %s", where)
		op.done(e)
		op.undo(e)
		p.settled(e, where)
		e.close()
		e.leaks(false)
		return true
	}
	k := 1
	for ; crash(strconv.Itoa(k)); k++ {
		require.Less(e.t, k, maxSteps, "the operation does not end")
	}
	e.open()
	require.True(e.t, op.done(e), "the operation ended and did nothing")
	op.undo(e)
	p.whole(e, "after the last step")
	if !passed {
		e.close()
		require.True(e.t, crash(op.passes), "no child was killed at step %s", op.passes)
		e.open()
	}
	e.t.Logf("%s: %d crashes, %d with the operation done", op.name, killed, happened)
}

// childAt runs the operation in a process that is to die at a step, by its number or name. It
// returns the last step that it reached.
func (e *env) childAt(op, point string) (step string, died bool) {
	e.t.Helper()
	log := filepath.Join(e.dir, "steps")
	e.ok(os.RemoveAll(log))
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+topName(e.t.Name())+"$", "-test.count=1")
	cmd.Env = append(os.Environ(), childOperation+"="+op, childRoot+"="+e.root,
		"BLOCKSTORE_FAILPOINT="+point, "BLOCKSTORE_FAILPOINT_LOG="+log, "BLOCKSTORE_FAILPOINT_MOST="+mostAlike)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	raw, readErr := os.ReadFile(log)
	if readErr != nil && !errors.Is(readErr, os.ErrNotExist) {
		e.t.Fatal(readErr)
	}
	require.NotEmpty(e.t, raw, "the operation %s has no marked steps: %s", op, out.String())
	steps := strings.Split(strings.TrimSuffix(string(raw), "\n"), "\n")
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		status, ok := exit.Sys().(interface{ Signal() unix.Signal })
		if ok && status.Signal() == unix.SIGKILL {
			return steps[len(steps)-1], true
		}
	}
	require.NoError(e.t, err, "the child for %s: %s", op, out.String())
	return steps[len(steps)-1], false
}

// topName is the test that the child must run: the one that called RunCrash.
func topName(name string) string {
	top, _, _ := strings.Cut(name, "/")
	return top
}

// crashChild does one operation and ends the process's test.
func crashChild(t *testing.T, f Factory, name string) {
	e := &env{t: t, f: f, root: os.Getenv(childRoot), dir: filepath.Dir(os.Getenv(childRoot))}
	switch name {
	case "Init":
		o := snapshot.InitOptions{Root: e.root, BaseSize: f.BaseSize}
		if f.Prepare != nil {
			f.Prepare(t, &o)
		}
		require.NoError(t, snapshot.Init(e.ctx(), f.Kind, o, "in a child"))
		return
	case "Destroy":
		require.NoError(t, snapshot.Destroy(e.ctx(), e.options()))
		return
	}
	e.open()
	for _, op := range append(operations(), operation{name: "Midway", do: midway}) {
		if op.name == name {
			require.NoError(t, op.do(e))
			e.close()
			return
		}
	}
	t.Fatalf("no operation %q", name)
}

// openAfterCrash opens the store; that is all that recovery may need.
func (e *env) openAfterCrash(where string) {
	e.t.Helper()
	s, err := snapshot.Open(e.ctx(), e.options())
	require.NoError(e.t, err, "opening after a crash, %s", where)
	e.s = s
}

// whole asserts what must hold right after recovery.
func (p prepared) whole(e *env, where string) {
	e.t.Helper()
	r, err := e.s.Check(e.ctx(), snapshot.CheckOptions{})
	require.NoError(e.t, err, where)
	require.Empty(e.t, r.Findings, "findings of Check, %s", where)
	e.exact(where)
	for name, diffID := range p.layers {
		if !e.has(name) { // of the image that an operation removes
			continue
		}
		sum := diffID.Algorithm().Hash()
		require.NoError(e.t, e.s.WriteLayer(e.ctx(), name, sum), "layer %s, %s", name, where)
		require.Equal(e.t, diffID.Encoded(), fmt.Sprintf("%x", sum.Sum(nil)), "layer %s, %s", name, where)
	}
	tree := e.tree("kept")
	delete(tree, "by the child")
	root, want := tree["."], p.tree["."]
	root.MTime, tree["."] = want.MTime, root
	root.MTime = want.MTime
	tree["."] = root
	e.same(p.tree, tree, "the container that must be kept, "+where)
}

// settled asserts that doing and undoing left the store as prepare made it.
func (p prepared) settled(e *env, where string) {
	e.t.Helper()
	e.clean()
	e.exact(where)
	require.Len(e.t, e.names(), len(p.layers)+3, "snapshots, %s", where)
}

// exact compares the kernel's volumes and the tar files with the catalog's.
func (e *env) exact(where string) {
	e.t.Helper()
	all, err := e.s.List(e.ctx())
	e.ok(err)
	var volumes []snapshot.VolumeID
	layers := 0
	for _, in := range all {
		if in.Kind != snapshot.KindView {
			volumes = append(volumes, in.Volume.ID)
		}
		if in.Kind == snapshot.KindLayer && !in.NoTar {
			layers++
		}
	}
	if ids := e.volumes(); ids != nil {
		require.ElementsMatch(e.t, volumes, ids, "volumes in the kernel, %s", where)
	}
	require.Len(e.t, e.entries(filepath.Join(e.root, "tar")), layers, "tar files, %s", where)
	require.Empty(e.t, e.entries(filepath.Join(e.root, "work")), "directories in work, %s", where)
}

func (e *env) has(name string) bool {
	e.t.Helper()
	_, err := e.s.Stat(e.ctx(), name)
	if !errors.Is(err, snapshot.ErrNotFound) {
		e.ok(err)
	}
	return err == nil
}

// hasImage says whether an image is there, with all its layers and their content.
func (e *env) hasImage(ref string, tars ...[]byte) bool {
	e.t.Helper()
	im, err := e.s.Image(e.ctx(), ref)
	names, chainErr := snapshotChain(tars...)
	e.ok(chainErr)
	if errors.Is(err, snapshot.ErrNotFound) {
		for _, name := range names[1:] {
			require.False(e.t, e.has(name), "a layer without its image %s", ref)
		}
		return false
	}
	e.ok(err)
	require.Equal(e.t, names, im.Layers)
	for i, name := range names {
		require.True(e.t, bytes.Equal(tars[i], e.layerTar(name)), "layer %d of %s", i, ref)
	}
	return true
}

func (e *env) hasCommitted() bool {
	e.t.Helper()
	im, err := e.s.Image(e.ctx(), "committed:1")
	if errors.Is(err, snapshot.ErrNotFound) {
		children, err := e.s.Children(e.ctx(), baseLayers()[1])
		e.ok(err)
		for _, in := range children {
			require.NotEqual(e.t, snapshot.KindLayer, in.Kind, "a layer without its image")
		}
		return false
	}
	e.ok(err)
	require.Len(e.t, im.Layers, 3)
	e.ok(e.s.WriteLayer(e.ctx(), im.Layers[2], io.Discard))
	return true
}

func (e *env) removeImage(ref string) {
	e.t.Helper()
	_, _, err := e.s.RemoveImage(e.ctx(), ref, false)
	require.NoError(e.t, err)
}

// unmountLeft ends a mount that outlived its process, as mounts do, and says
// whether there was one.
func (e *env) unmountLeft(name string) bool {
	e.t.Helper()
	in, err := e.s.Stat(e.ctx(), name)
	e.ok(err)
	if in.Mounted != "" {
		e.unmount(name)
	}
	return true
}

func (e *env) hasNot(ref string) bool {
	e.t.Helper()
	_, err := e.s.Image(e.ctx(), ref)
	require.ErrorIs(e.t, err, snapshot.ErrNotFound)
	return true
}
