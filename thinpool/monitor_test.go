package thinpool_test

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/thinpool"
	"blockstore.dev/blockstore/thinpool/monitor"
)

// watch is a monitor of a pool that runs until the test's end, or until it is ended.
type watch struct {
	t      *testing.T
	events chan monitor.Event
	told   map[string]int
	end    func()
}

func (w *world) watch(p *thinpool.Pool, policy monitor.Policy) *watch {
	w.t.Helper()
	events, err := p.Events()
	require.NoError(w.t, err)
	// Looks begin once the kernel's events are watched.
	m := &watch{t: w.t, events: make(chan monitor.Event, 1000), told: map[string]int{}}
	ctx, cancel := context.WithCancel(contextOf())
	ended := make(chan error, 1)
	go func() {
		ended <- monitor.Run(ctx, monitor.Own{Pool: p}, monitor.Options{
			Policy: policy, Waker: events, Repair: "repair it",
			Tell: func(e monitor.Event) { m.events <- e },
		})
	}()
	m.end = sync.OnceFunc(func() {
		cancel()
		require.NoError(w.t, <-ended)
		require.NoError(w.t, events.Close())
	})
	w.t.Cleanup(m.end)
	m.await(monitor.Watching)
	return m
}

// await waits for an event of a kind, and counts those before it.
func (m *watch) await(kind string) monitor.Event {
	m.t.Helper()
	limit := time.After(eventually)
	for {
		select {
		case e := <-m.events:
			m.told[e.Kind]++
			m.t.Logf("%s %s %s: %s", e.Level, e.Kind, e.Space, e.Text)
			if e.Kind == kind {
				return e
			}
		case <-limit:
			m.t.Fatalf("no event %s", kind)
		}
	}
}

// rest counts what else was told; the monitor has ended.
func (m *watch) rest() {
	for {
		select {
		case e := <-m.events:
			m.told[e.Kind]++
			m.t.Logf("%s %s %s: %s", e.Level, e.Kind, e.Space, e.Text)
		default:
			return
		}
	}
}

// TestMonitorExtendsUnderWriters: a pool that is filled four times over by writers that never pause is extended by the
// kernel's events alone, and none of them sees an error.
func TestMonitorExtendsUnderWriters(t *testing.T) {
	w := newWorld(t)
	p := w.pool(func(o *thinpool.CreateOptions) { o.DataSize = 32 << 20 })
	const writers, blocks = 4, 32 << 20 >> 16
	for id := range dm.DeviceID(writers) {
		require.NoError(t, p.CreateThin(t.Context(), id))
	}
	m := w.watch(p, monitor.Policy{ExtendBytes: 32 << 20, Interval: time.Hour})
	m.await(monitor.Queueing)
	require.True(t, p.Tuning().QueueIfFull)
	errs := make(chan error, writers)
	for id := range dm.DeviceID(writers) {
		f := w.activate(p, id)
		go func() {
			for i := range blocks {
				if _, err := f.WriteAt(bytes.Repeat([]byte{byte(i)}, 1<<16), int64(i)<<16); err != nil {
					errs <- err
					return
				}
			}
			errs <- f.Sync()
		}()
	}
	for range writers {
		require.NoError(t, <-errs)
	}
	for _, f := range w.files {
		for i := range blocks {
			require.Equal(t, byte(i), w.first(f, i))
		}
	}
	m.end()
	m.rest()
	require.GreaterOrEqual(t, m.told[monitor.Extended], 3)
	require.LessOrEqual(t, m.told[monitor.Extended], 5, "in few steps")
	require.Zero(t, m.told[monitor.QueueTimeout])
	st, err := p.Status(t.Context())
	require.NoError(t, err)
	require.NoError(t, st.Err())
	require.EqualValues(t, writers*blocks, st.DataUsed)
	require.Equal(t, dm.ErrorIfNoSpace, st.Full, "as configured, when nobody watches")
	w.closeAll()
}

// TestMonitorExtendsMetadata: as many devices as the metadata have no room for.
func TestMonitorExtendsMetadata(t *testing.T) {
	w := newWorld(t)
	p := w.pool(func(o *thinpool.CreateOptions) { o.MetadataSize = 2 << 20 })
	m := w.watch(p, monitor.Policy{Interval: 10 * time.Millisecond})
	m.await(monitor.Queueing)
	const devices = 2 << 20 / 4096
	for id := range dm.DeviceID(devices) {
		require.NoError(t, p.CreateThin(t.Context(), id))
	}
	e := m.await(monitor.Extended)
	require.Equal(t, monitor.Metadata, e.Space)
	require.EqualValues(t, 18<<20, e.To)
	st, err := p.Status(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 18<<20/4096, st.MetadataTotal)
	require.Greater(t, st.MetadataUsed, dm.MetadataBlocks(devices))
}

// TestMonitorAtTheEnd: a pool that may not be extended gives ENOSPC soon, deletion works in it, and both are told of.
func TestMonitorAtTheEnd(t *testing.T) {
	w := newWorld(t)
	p := w.pool(func(o *thinpool.CreateOptions) { o.DataSize, o.QueueIfFull = 8<<20, true })
	for id := range dm.DeviceID(2) {
		require.NoError(t, p.CreateThin(t.Context(), id))
	}
	m := w.watch(p, monitor.Policy{MaxData: 8 << 20, Interval: 100 * time.Millisecond})
	m.await(monitor.Failing)
	f := w.activate(p, 0)
	start := time.Now()
	require.ErrorIs(t, w.fill(f, 0, 200, 'f'), unix.ENOSPC)
	require.Less(t, time.Since(start), eventually)
	require.Equal(t, monitor.Data, m.await(monitor.ExtendFailed).Space)
	require.Equal(t, monitor.Data, m.await(monitor.Full).Space)
	w.closeAll()
	require.NoError(t, p.Deactivate(t.Context(), 0))
	require.NoError(t, p.Delete(t.Context(), 0))
	m.await(monitor.Enough)
	require.NoError(t, w.fill(w.activate(p, 1), 0, 50, 'f'))
	w.closeAll()
	m.end()
	st, err := p.Status(t.Context())
	require.NoError(t, err)
	require.Equal(t, dm.QueueIfNoSpace, st.Full, "as configured")
}

// TestMonitorSeesDamage: what a pool has become is told of when it happens, not at the interval.
func TestMonitorSeesDamage(t *testing.T) {
	w := newWorld(t)
	if _, err := w.dm.ProbeTarget(t.Context(), "flakey"); err != nil {
		t.Skipf("no dm-flakey in this kernel: %v", err)
	}
	p, metadata := w.slicedPool()
	m := w.watch(p, monitor.Policy{WhenFull: monitor.Fail, Interval: time.Hour})
	metadata.swap(dm.NewTable(8, dm.Linear{Device: metadata.under}).
		Append(metadata.length-8, dm.Flakey{Device: metadata.under, Offset: 8, Down: 600, ErrorWrites: true}))
	require.ErrorIs(t, p.CreateSnapshot(t.Context(), 2, thinpool.SnapshotOptions{Origin: 1}), thinpool.ErrNeedsCheck)
	e := m.await(monitor.NeedsCheck)
	require.Equal(t, "repair it", e.Mend)
	require.Equal(t, monitor.Error, e.Level)
	metadata.swap(metadata.whole())
}

// TestTune: the running pool's table, through growth and for who takes the pool over.
func TestTune(t *testing.T) {
	w := newWorld(t)
	p := w.pool()
	full := func() (dm.FullPolicy, string) {
		st, err := p.Status(t.Context())
		require.NoError(t, err)
		_, lines, err := w.dm.Table(t.Context(), dm.UUID(p.Config().PoolUUID()), dm.TableOptions{})
		require.NoError(t, err)
		return st.Full, lines[0].Params
	}
	policy, before := full()
	require.Equal(t, dm.ErrorIfNoSpace, policy)
	require.NoError(t, p.Tune(t.Context(), thinpool.Tuning{QueueIfFull: true, LowWaterPercent: 25}))
	policy, table := full()
	require.Equal(t, dm.QueueIfNoSpace, policy)
	require.Contains(t, table, " 128 257", "a quarter of 1024 blocks, and one")
	calls := w.called(func() {
		require.NoError(t, p.Tune(t.Context(), thinpool.Tuning{QueueIfFull: true, LowWaterPercent: 25}))
	})
	require.NotContains(t, calls, "TABLE_LOAD", "nothing is different")
	require.NoError(t, p.GrowData(t.Context(), 128<<20))
	_, table = full()
	require.Contains(t, table, " 128 513")
	q, err := thinpool.Open(t.Context(), w.dm, p.Config())
	require.NoError(t, err)
	require.True(t, q.Tuning().QueueIfFull, "as a dead process left it")
	require.NoError(t, q.Tune(t.Context(), thinpool.Tuning{}))
	_, table = full()
	require.Equal(t, before, table)
	require.ErrorIs(t, q.Tune(t.Context(), thinpool.Tuning{LowWaterPercent: 101}), thinpool.ErrInvalid)
}
