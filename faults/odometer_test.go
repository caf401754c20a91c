package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/thin"
	"blockstore.dev/blockstore/thinpool"
)

// level is what must not rise while snapshots come and go.
type level struct {
	metadata dm.MetadataBlocks
	data     dm.Blocks
	catalog  int64
	heap     uint64
	tasks    int
}

// TestSnapshotsLeaveNothing makes and removes containers in great number: what the pool, the catalog and the process
// hold stays as it was. How long each took is printed, not asserted.
func TestSnapshotsLeaveNothing(t *testing.T) {
	r := newRig(t)
	where(t)
	total := number(t, "SNAPSHOTS", 600)
	root := filepath.Join(r.dir, "store")
	r.ok(snapshot.Init(r.ctx(), thin.Kind{}, snapshot.InitOptions{Root: root, BaseSize: 64 << 20, Loopback: 512 << 20}, "the fault programme"))
	t.Cleanup(func() { r.destroy(root) })
	s, err := snapshot.Open(r.ctx(), options(root))
	r.ok(err)
	base := loadBase(t, s)
	const alive = 16 // containers that are there at a time
	at := func() level {
		t.Helper()
		st := r.poolStatus(s)
		info, err := os.Stat(filepath.Join(root, "catalog.db"))
		r.ok(err)
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return level{st.MetadataUsed, st.DataUsed, info.Size(), m.HeapAlloc, runtime.NumGoroutine()}
	}
	stretch := func(from, n int) time.Duration {
		begun := time.Now()
		var times []time.Duration
		for i := from; i < from+n; i++ {
			one := time.Now()
			_, err := s.Create(r.ctx(), fmt.Sprint("c", i), snapshot.CreateRequest{Parent: base.Layers[1]})
			r.ok(err)
			if i >= alive {
				r.ok(s.Remove(r.ctx(), fmt.Sprint("c", i-alive)))
			}
			times = append(times, time.Since(one))
		}
		slices.Sort(times)
		t.Logf("%d created and removed: %v in all, median %v, 99th of a hundred %v, longest %v", from+n,
			time.Since(begun).Round(time.Millisecond), times[n/2], times[n*99/100], times[n-1])
		return times[n/2]
	}
	const stretches = 10
	n := total / stretches
	first := stretch(0, n)
	before := at()
	last, half := first, before
	for i := 1; i < stretches; i++ {
		last = stretch(i*n, n)
		if i+1 == stretches/2 {
			half = at()
		}
	}
	after := at()
	t.Logf("after %d: %+v; after %d: %+v; after %d: %+v; median %v and %v", n, before, total/2, half, total, after, first, last)
	require.LessOrEqual(t, after.metadata, before.metadata+8, "metadata blocks")
	require.LessOrEqual(t, after.data, before.data+1, "data blocks")
	// The pages that a commit frees are used again from the next checkpoint on: by the half there were some. Until then the
	// file grows twice, by a MiB more than it needs.
	require.LessOrEqual(t, half.catalog, before.catalog+9<<18, "the catalog's bytes until then")
	require.Equal(t, half.catalog, after.catalog, "the catalog's bytes")
	require.LessOrEqual(t, after.heap, before.heap+4<<20, "bytes of heap")
	require.LessOrEqual(t, after.tasks, before.tasks+2, "goroutines")
	for i := total - alive; i < total; i++ {
		r.ok(s.Remove(r.ctx(), fmt.Sprint("c", i)))
	}
	report, err := s.Check(r.ctx(), snapshot.CheckOptions{Content: true})
	r.ok(err)
	require.Empty(t, report.Findings)
	r.ok(s.Close(r.ctx()))
}

// poolStatus commits a store's pool, the only one there is, and reads its state.
func (r *rig) poolStatus(s *snapshot.Store) dm.ThinPoolStatus {
	r.t.Helper()
	st, err := s.Status(r.ctx())
	r.ok(err)
	devices, err := r.dm.List(r.ctx(), dm.Prefix{Name: "blockstore-" + st.StoreID[:8] + "-pool"})
	r.ok(err)
	require.Len(r.t, devices, 1)
	status, err := r.dm.ThinPoolStatus(r.ctx(), dm.Name(devices[0].Name), dm.StatusOptions{})
	r.ok(err)
	return status
}

// TestPoolSnapshotsLeaveNothing is the same for the pool alone, which is faster, so that the soak makes more.
func TestPoolSnapshotsLeaveNothing(t *testing.T) {
	r := newRig(t)
	where(t)
	total := number(t, "POOL_SNAPSHOTS", 2000)
	p, err := thinpool.Create(r.ctx(), r.dm, thinpool.CreateOptions{
		Config:   thinpool.Config{Name: "bstest-faults", Loopback: true, Data: filepath.Join(r.dir, "data"), Metadata: filepath.Join(r.dir, "metadata")},
		DataSize: 64 << 20, MetadataSize: 4 << 20,
	})
	r.ok(err)
	t.Cleanup(func() { r.ok(thinpool.Destroy(r.ctx(), r.dm, p.Config())) })
	r.ok(p.CreateThin(r.ctx(), 0))
	const stretches, ids = 10, 64
	var before thinpool.Status
	for i := range stretches {
		begun := time.Now()
		for n := range dm.DeviceID(total / stretches) {
			id := 1 + n%ids
			if n >= ids || i > 0 {
				r.ok(p.Delete(r.ctx(), id))
			}
			r.ok(p.CreateSnapshot(r.ctx(), id, thinpool.SnapshotOptions{Origin: 0, Quiet: true}))
		}
		st, err := p.Commit(r.ctx())
		r.ok(err)
		t.Logf("%d snapshots: %v, %v each; %d metadata blocks", st.Snapshots, time.Since(begun).Round(time.Millisecond),
			time.Since(begun)/time.Duration(total/stretches), st.MetadataUsed)
		if i == 0 {
			before = st
			continue
		}
		require.LessOrEqual(t, st.MetadataUsed, before.MetadataUsed+4, "metadata blocks after %d snapshots", st.Snapshots)
		require.Zero(t, st.DataUsed)
	}
	st, err := p.Status(r.ctx())
	r.ok(err)
	require.GreaterOrEqual(t, int(st.Snapshots), total/stretches*stretches, "all of them are counted")
	r.ok(p.Close(r.ctx()))
}
