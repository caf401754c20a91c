package drivertest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/internal/systrace"
	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/mount"
)

// Tally counts an operation's system calls, see package systrace.
type Tally = systrace.Tally

// RunCounts counts the system calls of create, mount, unmount, remove and view, and
// of a creation that freezes its parent, a removal in use, a creation that takes a
// spare, and a chain's layer that is committed and gone on with, on a real kernel with strace(1), in a process of its own: none of them makes a
// process, a creation and a removal wait for the disk as often as one commit of
// the catalog does, the layer as often as one of both, mounting and unmounting never, and none costs a call more with
// a thousand containers than with ten. It returns the tallies for what a driver
// asserts itself. Like RunCrash it must be called before its test does anything else.
func RunCounts(t *testing.T, f Factory) map[string]Tally {
	f = f.withDefaults()
	if os.Getenv(childOperation) != "" {
		countChild(t, f)
		t.SkipNow() // the parent goes on
	}
	if os.Geteuid() != 0 {
		t.Skip("the suite mounts file systems: it needs root")
	}
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("no strace to count system calls with")
	}
	if err := f.Kind.Probe(t.Context()); err != nil {
		t.Skipf("this kernel cannot run the driver %s: %v", f.Kind.Name(), err)
	}
	few := countWith(t, f, 10)
	many := countWith(t, f, f.scaled(1000, 100))
	require.Equal(t, few, many, "system calls with 10 containers and with many")
	for name, calls := range few {
		t.Logf("%s: %v", name, calls)
		require.Zero(t, calls["process"], "%s makes a process", name)
		require.Zero(t, calls["execve"], "%s runs a program", name)
	}
	for name, commits := range map[string]int{
		"create": 1, "freeze": 1, "remove": 1, "drop": 1, "view": 1, "mount": 0, "unmount": 0, "commit": 1, "spare": 1, "layer": 1,
	} {
		require.Contains(t, few, name)
		require.Equal(t, commits, few[name]["fdatasync"], "fdatasyncs of %s: one for each commit of the catalog", name)
	}
	require.Equal(t, Tally{"fdatasync": 1}, few["forget"], "a removal that is done later")
	return few
}

// countWith counts in a store of n containers.
func countWith(t *testing.T, f Factory, n int) map[string]Tally {
	t.Helper()
	e := makeEnv(t, f, f.BaseSize)
	e.load(simpleTar(1), simpleTar(2))
	for i := range n {
		e.create(fmt.Sprintf("crowd-%d", i), baseLayers()[1])
	}
	e.reserve()
	e.close()
	trace := filepath.Join(e.dir, "trace")
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command("strace", append(systrace.Arguments(trace),
		self, "-test.run=^"+topName(t.Name())+"$", "-test.count=1")...)
	cmd.Env = append(os.Environ(), childOperation+"=Count", childRoot+"="+e.root)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(t, cmd.Run(), "strace: %s", &out)
	file, err := os.Open(trace)
	require.NoError(t, err)
	defer file.Close()
	tallies, err := systrace.Read(file)
	require.NoError(t, err)
	for _, calls := range tallies {
		for _, name := range f.Background {
			delete(calls, name)
		}
	}
	e.open()
	e.clear()
	e.end(t)
	return tallies
}

// reserve sees to it that a few volume ids are left of the reserved block, so
// that no reservation falls into the counting.
func (e *env) reserve() {
	e.t.Helper()
	for range 128 {
		in := e.create("filler", "")
		e.remove("filler")
		if left := 128 - int(in.Volume.ID+1-snapshot.FirstVolumeID)%128; left > 16 && left < 128 {
			return
		}
	}
}

// Deferrer is a driver that does afterwards some of what it answers for, and what a crash loses without its being missed. Close has
// all of it done; tests that look or count wait for it.
type Deferrer interface {
	// CatchUp waits until what was answered for before is done.
	CatchUp()
}

// catchUp has what operations leave for afterwards counted as theirs.
func (e *env) catchUp() {
	e.s.WaitSwept()
	if d, ok := e.s.Driver().(Deferrer); ok {
		d.CatchUp()
	}
}

// countChild performs the operations between marks.
func countChild(t *testing.T, f Factory) {
	e := &env{t: t, f: f, root: os.Getenv(childRoot), dir: filepath.Dir(os.Getenv(childRoot))}
	e.open()
	parent := snapshot.CreateRequest{Parent: baseLayers()[1]}
	steps := []struct {
		name string
		do   func() error
	}{
		{"create", func() error { return second(e.s.Create(e.ctx(), "counted", parent)) }},
		{"mount", func() error { return second(e.s.Mount(e.ctx(), "counted")) }},
		{"unmount", func() error { return e.s.Unmount(e.ctx(), "counted") }},
		{"freeze", func() error {
			return second(e.s.Create(e.ctx(), "onto", snapshot.CreateRequest{Parent: "counted", FreezeParent: true}))
		}},
		{"drop", func() error { return e.s.Discard(e.ctx(), "onto") }},
		{"remove", func() error { return e.s.Remove(e.ctx(), "counted") }},
		{"view", func() error { return second(e.s.View(e.ctx(), "counted", parent)) }},
		{"", func() error { return second(e.s.Create(e.ctx(), "active", parent)) }},
		{"commit", func() error {
			return second(e.s.Freeze(e.ctx(), "active", snapshot.FreezeRequest{Name: "committed"}))
		}},
		{"forget", func() error { return e.s.Drop(e.ctx(), "committed") }},
		{"", func() error { return e.s.Sweep(e.ctx()) }},
	}
	for _, warm := range []bool{true, false} { // the first round opens what stays open
		for _, s := range steps {
			if !warm && s.name != "" {
				systrace.Mark(s.name)
			}
			require.NoError(t, s.do())
			e.catchUp()
			systrace.End()
		}
		e.remove("counted")
	}
	e.spareOf(parent.Parent)
	systrace.Mark("spare")
	e.create("counted", parent.Parent)
	systrace.End()
	e.remove("counted")
	rest := func() { // or they are made while it is counted
		waitFor(t, "all spares", func() bool { return e.s.Spares().Ready == 8 })
		if _, ok := e.s.Driver().(snapshot.Readier); ok {
			waitFor(t, "all prepared", func() bool { return e.s.Spares().Prepared == 8 })
		}
	}
	rest()
	e.create("prepared", parent.Parent)
	systrace.Mark("prepared")
	require.NoError(t, second(e.s.Mount(e.ctx(), "prepared")))
	systrace.End()
	require.NoError(t, e.s.Unmount(e.ctx(), "prepared"))
	e.remove("prepared")
	rest()
	e.create("counted", "")
	for i, name := range []string{"", "layer"} {
		e.ok(mount.Unmount(e.lent("counted")))
		if name != "" {
			systrace.Mark(name)
		}
		layer := fmt.Sprint("layer ", i)
		require.NoError(t, second(e.s.Freeze(e.ctx(), "counted", snapshot.FreezeRequest{Name: layer})))
		require.NoError(t, second(e.s.Create(e.ctx(), "counted", snapshot.CreateRequest{Parent: layer, Scratch: true})))
		e.catchUp()
		systrace.End()
	}
	e.remove("counted")
	e.remove("layer 1", "layer 0")
	e.close()
}
