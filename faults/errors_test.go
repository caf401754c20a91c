package faults

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/mount"
	"blockstore.dev/blockstore/snapshot/thin"
	"blockstore.dev/blockstore/thinpool"
)

// clock gives a history's operations their times, there being no log, and knows which containers may be torn: those that an
// operation had mounted at the time that nobody is told of what is lost. One that failed may have synced before, too.
type clock struct {
	tick    atomic.Int64
	untold  atomic.Bool // what is synced now may be lost and nobody told
	pending map[*op]effect
}

// of has the operations of a history take their times.
func (c *clock) of(h *history) {
	c.pending = map[*op]effect{}
	h.mark = func(o *op, what string, e effect) error {
		h.mu.Lock()
		defer h.mu.Unlock()
		now := int(c.tick.Add(1))
		if what == "begun" {
			o.begun, c.pending[o] = now, e
			return nil
		}
		o.done = now
		delete(c.pending, o)
		if e.in != nil && e.made == nil && e.filled == nil && c.untold.Load() {
			e.in.untold = true
		}
		return nil
	}
}

// told ends that time, when nobody works any more.
func (c *clock) told() {
	if !c.untold.Swap(false) {
		return
	}
	for _, e := range c.pending {
		for _, o := range []*object{e.in, e.filled, e.removed} {
			if o != nil {
				o.untold = true
			}
		}
	}
}

// TestClockKnowsWhatMayBeTorn: what an operation had mounted meanwhile, whether it was acknowledged or not; nothing else.
func TestClockKnowsWhatMayBeTorn(t *testing.T) {
	var h history
	var c clock
	c.of(&h)
	objects := map[string]*object{}
	for _, name := range []string{"before", "written", "unacknowledged", "filled", "frozen", "layer", "created"} {
		objects[name] = &object{name: name, files: map[string]content{}}
	}
	fails := func() error { return errors.New("input/output error") }
	works := func() error { return nil }
	require.NoError(t, h.do("write", effect{in: objects["before"], file: "f"}, works))
	c.untold.Store(true)
	require.NoError(t, h.do("write", effect{in: objects["written"], file: "f"}, works))
	require.NoError(t, h.do("create", effect{made: objects["created"]}, works))
	require.Error(t, h.do("write", effect{in: objects["unacknowledged"], file: "f"}, fails))
	require.Error(t, h.do("fill", effect{in: objects["filled"], filled: objects["filled"], file: "f"}, fails))
	require.Error(t, h.do("freeze", effect{made: objects["layer"], removed: objects["frozen"]}, fails))
	c.told()
	var torn []string
	for name, o := range objects {
		if o.untold {
			torn = append(torn, name)
		}
	}
	require.ElementsMatch(t, []string{"written", "unacknowledged", "filled", "frozen"}, torn)
	require.False(t, c.untold.Load())
}

// broken is a way in which a disk breaks.
type broken struct {
	name string
	part string
	how  func(d *disk) dm.Table
	// check: the pool wants its metadata checked afterwards.
	check bool
	// early: the disk works again while some workers have not noticed.
	early bool
	// untold: the kernel does not tell every device of a commit that fails (thinpool: TestFlushAfterFailedCommitIsNotTold), so
	// that nothing is promised of a container that was mounted while the disk was broken.
	untold bool
}

func breakages() []broken {
	whole := func(length func(*disk) dm.Sectors, target dm.Target) func(*disk) dm.Table {
		return func(d *disk) dm.Table { return dm.NewTable(length(d), target) }
	}
	data := func(d *disk) dm.Sectors { return d.data }
	metadata := func(d *disk) dm.Sectors { return d.metadata }
	return []broken{
		{name: "data/error", part: "data", how: whole(data, dm.ErrorTarget{})},
		{name: "data/error and back", part: "data", how: whole(data, dm.ErrorTarget{}), early: true},
		{name: "data/writes fail", part: "data", how: func(d *disk) dm.Table {
			return dm.NewTable(d.data, dm.Flakey{Device: d.under, Offset: d.metadata, Down: 600, ErrorWrites: true})
		}},
		{name: "metadata/error", part: "metadata", how: whole(metadata, dm.ErrorTarget{})},
		{name: "metadata/error and back", part: "metadata", how: whole(metadata, dm.ErrorTarget{}), early: true, untold: true},
		{name: "metadata/writes fail", part: "metadata", check: true, untold: true, how: func(d *disk) dm.Table {
			return dm.NewTable(8, dm.Linear{Device: d.under}). // the superblock can be written, and says what happened
										Append(d.metadata-8, dm.Flakey{Device: d.under, Offset: 8, Down: 600, ErrorWrites: true})
		}},
	}
}

// TestDeviceErrors breaks data or metadata under load, and mends the disk: errors are told, nothing that was
// acknowledged is lost, and unmounting and opening again is all that it takes.
func TestDeviceErrors(t *testing.T) {
	r := newRig(t, "flakey")
	where(t)
	fs := cmp.Or(os.Getenv("BLOCKSTORE_SOAK_ERROR_FS"), "ext4")
	cycles := number(t, "ERROR_CYCLES", 1)
	d, size := r.disk(), int64(64<<20)
	if fs == "xfs" {
		d.data, size = 1024*mib, 320<<20 // mkfs.xfs makes none below 300 MiB, with a log of 64
	}
	d.under = d.loop(filepath.Join(d.dir, "disk"), int64(d.length())*dm.SectorSize)
	t.Cleanup(d.unslice)
	d.slice(d.under)
	root := filepath.Join(d.dir, "store") // its catalog is on a disk that works
	d.ok(snapshot.Init(d.ctx(), thin.Kind{}, snapshot.InitOptions{
		Root: root, FileSystem: fs, BaseSize: size, DataDevice: d.part("data"), MetadataDevice: d.part("metadata"),
	}, "the fault programme"))
	s, err := snapshot.Open(d.ctx(), options(root))
	d.ok(err)
	b := breaking{killing: killing{rig: r, root: root, base: loadBase(t, s), chance: rand.New(rand.NewPCG(uint64(number(t, "SEED", 1)), 3))}, disk: d}
	d.ok(s.Close(d.ctx()))
	t.Cleanup(func() { r.destroy(root) })
	for cycle := range cycles {
		for _, how := range breakages() {
			if !t.Run(how.name, func(t *testing.T) {
				r.t = t
				b.round(how, cycle)
			}) {
				break // what it left is no ground for the next
			}
		}
	}
	r.t = t
}

type breaking struct {
	killing
	disk   *disk
	clock  clock
	worker int
}

// round breaks a disk while workers work, and asks for everything afterwards.
func (b *breaking) round(how broken, cycle int) {
	d, t := b.disk, b.rig.t
	t.Helper()
	s, err := snapshot.Open(b.ctx(), options(b.root))
	b.rig.ok(err)
	before := len(b.h.ops)
	b.clock.of(&b.h)
	const workers, warm, most = 3, 12, 60
	var acknowledged, failures atomic.Int64
	begun, failed := make(chan struct{}), make(chan error, workers)
	var once sync.Once
	var wg sync.WaitGroup
	for range workers {
		b.worker++
		w := &worker{h: &b.h, s: s, base: b.base, number: b.worker, chance: rand.New(rand.NewPCG(b.chance.Uint64(), uint64(cycle)))}
		wg.Go(func() {
			for range most {
				if err := w.step(); err != nil {
					failures.Add(1)
					failed <- err
					return
				}
				if acknowledged.Add(1) == warm {
					once.Do(func() { close(begun) })
				}
			}
			failed <- nil
		})
	}
	<-begun
	b.clock.untold.Store(how.untold)
	d.swap(how.part, how.how(d))
	broke := time.Now()
	first := <-failed
	if how.early {
		d.swap(how.part, d.whole(how.part))
	}
	wg.Wait()
	if !how.early {
		d.swap(how.part, d.whole(how.part))
	}
	t.Logf("%d workers of %d failed, the last after %v; the first said: %v", failures.Load(), workers, time.Since(broke).Round(time.Millisecond), first)
	b.clock.told()
	require.NotZero(t, failures.Load(), "a broken disk goes unnoticed")
	b.letGo(s)
	sb, err := thinpool.ReadSuperblock(d.part("metadata"))
	b.rig.ok(err)
	require.True(t, sb.NeedsCheck || !how.check, "the superblock could be written, and says nothing")
	if sb.NeedsCheck { // a commit failed: for the flush of the data before it, or for the metadata
		t.Log("the pool wants a check of its metadata")
		r, err := snapshot.Repair(b.ctx(), options(b.root), snapshot.RepairOptions{Yes: true})
		b.rig.ok(err)
		require.Empty(t, r.Damage, "metadata that went back to the last commit are whole")
		require.Empty(t, r.Lost)
	}
	// Where all writes failed the superblock cannot say so, and the disk has what a power cut would have left: of a metadata
	// snapshot, too, which opening takes back and thin_check takes for damage.
	s, err = snapshot.Open(b.ctx(), options(b.root))
	b.rig.ok(err, "opening after a disk was broken")
	v := verifier{s: s, h: &b.h, base: b.base, k: int(b.clock.tick.Load()) + 1, chance: b.chance}
	require.Empty(t, v.all(b.ctx()))
	t.Logf("%d operations, %d layers and containers read", len(b.h.ops)-before, v.read)
	b.tidy(s)
	b.rig.ok(s.Close(b.ctx()))
	b.rig.ok(d.thinCheck())
}

// letGo unmounts what the workers had, as an administrator would, and closes the store. Errors are expected of it, and
// that everything is let go.
func (b *breaking) letGo(s *snapshot.Store) {
	t := b.rig.t
	t.Helper()
	mounted, err := mount.Below(b.root)
	b.rig.ok(err)
	for i := len(mounted) - 1; i >= 0; i-- {
		b.rig.ok(mount.Unmount(mounted[i].Target))
	}
	if err := s.Close(b.ctx()); err != nil {
		t.Logf("closing: %v", err)
	}
	devices, err := b.dm.List(b.ctx(), dm.Prefix{Name: "blockstore-"})
	b.rig.ok(err)
	var names []string
	for _, d := range devices {
		names = append(names, d.Name)
	}
	require.Empty(t, names, "a closed store holds devices")
}

func (d *disk) whole(part string) dm.Table {
	if part == "metadata" {
		return dm.NewTable(d.metadata, dm.Linear{Device: d.under})
	}
	return dm.NewTable(d.data, dm.Linear{Device: d.under, Offset: d.metadata})
}

// swap puts another table under a part of the disk.
func (d *disk) swap(part string, table dm.Table) {
	d.t.Helper()
	_, err := d.dm.Load(d.ctx(), dm.Name(sliceName(part)), table, dm.LoadOptions{})
	d.ok(err)
	_, err = d.dm.Resume(d.ctx(), dm.Name(sliceName(part)))
	d.ok(errors.Join(err), fmt.Sprint("swapping ", part))
}
