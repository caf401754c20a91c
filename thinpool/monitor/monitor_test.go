package monitor

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/thinpool"
)

const block = 64 << 10

// fakePool is a pool in memory, and the kernel's events of it.
type fakePool struct {
	mu       sync.Mutex
	status   thinpool.Status
	config   thinpool.Config
	tuning   thinpool.Tuning
	limits   map[Space]uint64
	extended []uint64
	tunings  []thinpool.Tuning
	looks    []time.Time

	statusErr, tuneErr, extendErr, beneathErr error
	event                                     chan struct{}
}

func newFake() *fakePool {
	p := &fakePool{limits: map[Space]uint64{Data: 1 << 40, Metadata: 1 << 30}, event: make(chan struct{}, 1)}
	p.status.BlockSize = 128
	p.status.DataTotal, p.status.MetadataTotal = 1<<20, 1<<14 // 64 GiB and 64 MiB
	return p
}

func (p *fakePool) Status(context.Context) (thinpool.Status, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.looks = append(p.looks, time.Now())
	return p.status, p.statusErr
}

func (p *fakePool) Config() thinpool.Config { return p.config }

func (p *fakePool) Tuning() thinpool.Tuning {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tuning
}

func (p *fakePool) Tune(_ context.Context, t thinpool.Tuning) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tuneErr == nil {
		p.tuning = t
		p.tunings = append(p.tunings, t)
	}
	return p.tuneErr
}

func (p *fakePool) Limit(_ context.Context, s Space) (uint64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.limits[s], nil
}

func (p *fakePool) Extend(_ context.Context, s Space, to uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.extendErr != nil {
		return p.extendErr
	}
	p.extended = append(p.extended, to)
	if s == Data {
		p.status.DataTotal, p.status.Mode = dm.Blocks(to/block), dm.PoolReadWrite
	} else {
		p.status.MetadataTotal, p.status.Mode = dm.MetadataBlocks(to/dm.MetadataBlockSize), dm.PoolReadWrite
	}
	return nil
}

func (p *fakePool) Beneath(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.beneathErr
}

func (p *fakePool) Next(ctx context.Context) error {
	select {
	case <-p.event:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// change changes the pool without an event.
func (p *fakePool) change(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

// raise changes the pool and has the kernel tell.
func (p *fakePool) raise(f func()) {
	p.change(f)
	p.event <- struct{}{}
	synctest.Wait()
}

// run watches p in a bubble for as long as f lasts; told gives what was told since it was asked before, by kind.
func run(t *testing.T, p *fakePool, o Options, f func(told func() []string)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p.event = make(chan struct{}, 1)
		var mu sync.Mutex
		var events []Event
		o.Tell = func(e Event) {
			mu.Lock()
			defer mu.Unlock()
			require.NotEmpty(t, e.Text)
			require.NotZero(t, e.Time)
			events = append(events, e)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- Run(ctx, p, o) }()
		synctest.Wait()
		f(func() []string {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			kinds := []string{}
			for _, e := range events {
				kinds = append(kinds, e.Kind+map[bool]string{true: ":" + e.Space}[e.Space != ""])
			}
			events = nil
			return kinds
		})
		cancel()
		require.NoError(t, <-done)
	})
}

// TestExtendsBeforeFull: an event at the threshold is followed by one large step, and what waits is never full.
func TestExtendsBeforeFull(t *testing.T) {
	p := newFake()
	run(t, p, Options{Waker: p}, func(told func() []string) {
		require.Equal(t, []string{Watching, Queueing}, told())
		require.Equal(t, thinpool.Tuning{QueueIfFull: true, LowWaterPercent: 20}, p.Tuning())
		p.raise(func() { p.status.DataUsed = p.status.DataTotal/5*4 + 1 })
		require.Equal(t, []string{Extended + ":data"}, told())
		require.Len(t, p.extended, 1)
		require.InDelta(t, 64<<30*12/10, p.extended[0], 1<<20)
		p.raise(func() { p.status.MetadataUsed = p.status.MetadataTotal / 10 * 9 })
		require.Equal(t, []string{Extended + ":metadata"}, told())
		require.Len(t, p.tunings, 1, "one change of the table, however often it grows")
	})
	require.Equal(t, thinpool.Tuning{LowWaterPercent: 20}, p.Tuning(), "nobody extends it now, so nobody may wait for that")
}

// TestLooksMoreOften: without an event it looks at the interval, and before a pool that fills fast is full.
func TestLooksMoreOften(t *testing.T) {
	p := newFake()
	p.status.DataTotal = 1 << 14 // 1 GiB
	run(t, p, Options{Policy: Policy{WhenFull: Fail, ExtendBytes: 1 << 30}, Waker: p}, func(told func() []string) {
		pass(5 * time.Minute)
		require.Less(t, len(p.looks), 35, "an idle pool at the interval")
		full := false
		for range 600 { // a fiftieth of it each second, for ten minutes: twelve times the pool
			p.change(func() { p.status.DataUsed += 1 << 14 / 50 })
			pass(time.Second)
			p.change(func() { full = full || p.status.DataUsed >= p.status.DataTotal })
		}
		require.False(t, full)
		require.NotEmpty(t, p.extended)
		require.LessOrEqual(t, len(p.extended), 16, "in few steps")
	})
}

// TestCannotExtend: what is said once is not said again, the tries become fewer, and writers are not left waiting.
func TestCannotExtend(t *testing.T) {
	p := newFake()
	p.limits[Data] = 64 << 30
	run(t, p, Options{Waker: p}, func(told func() []string) {
		require.Equal(t, []string{Watching}, told(), "it cannot grow: writers fail, as they do already")
		p.raise(func() { p.status.DataUsed = p.status.DataTotal / 100 * 85 })
		require.Equal(t, []string{ExtendFailed + ":data", Low + ":data"}, told())
		pass(time.Hour)
		require.Empty(t, told())
		p.raise(func() { p.status.DataUsed = p.status.DataTotal / 100 * 96 })
		require.Equal(t, []string{Low + ":data"}, told(), "it has got worse")
		p.raise(func() { p.status.DataUsed, p.status.Mode = p.status.DataTotal, dm.PoolOutOfDataSpace })
		require.Equal(t, []string{Full + ":data"}, told())
		p.change(func() { p.limits[Data] = 1 << 40 })
		pass(longestBackoff + DefaultInterval)
		require.Equal(t, []string{Extended + ":data", Low + ":data", Extended + ":data"}[:1], told()[:1])
		require.True(t, p.Tuning().QueueIfFull, "it can grow again")
	})
}

// TestExtendsNever: whoever wants no extension is warned.
func TestExtendsNever(t *testing.T) {
	p := newFake()
	run(t, p, Options{Policy: Policy{ExtendAt: 100}, Waker: p}, func(told func() []string) {
		p.raise(func() { p.status.DataUsed = p.status.DataTotal / 100 * 85 })
		require.Equal(t, []string{Watching, Low + ":data"}, told())
		p.raise(func() { p.status.DataUsed = 0 })
		require.Equal(t, []string{Enough + ":data"}, told())
		require.Empty(t, p.extended)
		require.Empty(t, p.tunings)
	})
}

// TestWhenFull: queueing and failing as configured.
func TestWhenFull(t *testing.T) {
	for when, queue := range map[WhenFull]bool{Queue: true, Fail: false} {
		p := newFake()
		p.config.QueueIfFull, p.tuning.QueueIfFull = !queue, !queue
		run(t, p, Options{Policy: Policy{WhenFull: when}, Waker: p}, func(told func() []string) {
			require.Equal(t, []string{Watching, map[bool]string{true: Queueing, false: Failing}[queue]}, told())
			require.Equal(t, queue, p.Tuning().QueueIfFull)
		})
		require.Equal(t, !queue, p.Tuning().QueueIfFull, "as it was configured")
	}
	p := newFake()
	p.tuneErr = thinpool.ErrForeign
	run(t, p, Options{Waker: p}, func(told func() []string) {
		require.Equal(t, []string{Watching, TuneFailed}, told())
		pass(time.Hour)
		require.Empty(t, told())
	})
	p = newFake()
	p.tuneErr = errors.New("no memory")
	run(t, p, Options{Waker: p}, func(told func() []string) {
		require.Equal(t, []string{Watching, TuneFailed}, told())
		p.change(func() { p.tuneErr = nil })
		pass(time.Minute)
		require.Equal(t, []string{Queueing}, told(), "it is tried again")
	})
}

// TestTellsWhatItHasBecome: a pool in trouble is left alone, and told of at once.
func TestTellsWhatItHasBecome(t *testing.T) {
	p := newFake()
	run(t, p, Options{Waker: p, Policy: Policy{WhenFull: Fail}}, func(told func() []string) {
		told()
		start := time.Now()
		p.raise(func() { p.status.Mode, p.status.NeedsCheck = dm.PoolReadOnly, true })
		require.Equal(t, []string{NeedsCheck}, told())
		p.raise(func() { p.status.Mode, p.status.NeedsCheck = dm.PoolFail, false })
		require.Equal(t, []string{Failed}, told())
		require.Zero(t, time.Since(start), "by the event, not by the interval")
		p.raise(func() { p.status.Mode = dm.PoolReadWrite })
		require.Equal(t, []string{Healthy}, told())
		p.raise(func() { p.status.Mode = dm.PoolReadOnly })
		require.Equal(t, []string{ReadOnly}, told(), "somebody asked for it: its metadata have room")
		p.raise(func() { p.status.MetadataUsed = p.status.MetadataTotal })
		require.Equal(t, []string{Healthy, Extended + ":metadata"}, told(), "for want of metadata, which it gets")
		p.raise(func() { p.statusErr = errors.New("gone") })
		require.Equal(t, []string{Unseen}, told())
	})
}

// TestTellsWhatSendsNoEvent: snapshots, the file system below, a metadata snapshot that is held, a queue that has timed out.
func TestTellsWhatSendsNoEvent(t *testing.T) {
	p := newFake()
	p.status.DataUsed = p.status.DataTotal / 100 * 85
	p.status.HeldRoot = 7
	run(t, p, Options{Policy: Policy{ExtendAt: 100, WhenFull: Queue}}, func(told func() []string) {
		require.Equal(t, []string{Watching, Blind, Low + ":data", Queueing}, told())
		pass(time.Minute)
		require.Equal(t, []string{Held}, told())
		p.change(func() { p.status.Snapshots = thinpool.SnapshotWarning })
		pass(time.Minute)
		require.Equal(t, []string{Snapshots}, told())
		p.change(func() { p.status.Snapshots = thinpool.SnapshotLimit })
		pass(time.Minute)
		require.Equal(t, []string{Snapshots}, told())
		p.change(func() { p.beneathErr = thinpool.ErrNoSpace })
		pass(time.Minute)
		require.Equal(t, []string{Beneath}, told())
		p.change(func() {
			p.status.Mode, p.status.DataUsed, p.status.QueueTimedOut = dm.PoolOutOfDataSpace, p.status.DataTotal, true
		})
		pass(time.Minute)
		require.Equal(t, []string{Full + ":data", QueueTimeout + ":data"}, told())
	})
}

func TestTarget(t *testing.T) {
	p, err := Policy{}.complete()
	require.NoError(t, err)
	const gib, mib = 1 << 30, 1 << 20
	for name, c := range map[string]struct {
		policy      Policy
		space       Space
		used, total uint64
		limit, want uint64
	}{
		"a fifth":              {p, Data, 80 * gib, 100 * gib, 1 << 50, 120 * gib},
		"1 GiB at least":       {p, Data, 800 * mib, gib, 1 << 50, 2 * gib},
		"a little metadata":    {p, Metadata, 4 * mib, 4 * mib, gib, 20 * mib},
		"to the limit":         {p, Data, 80 * gib, 100 * gib, 101 * gib, 101 * gib},
		"no room":              {p, Data, 80 * gib, 100 * gib, 100 * gib, 0},
		"less room than it is": {p, Data, 80 * gib, 100 * gib, 10 * gib, 0},
		"bytes, thrice":        {Policy{ExtendAt: 80, ExtendBytes: 10 * gib}, Data, 100 * gib, 100 * gib, 1 << 50, 130 * gib},
		"no more than asked":   {Policy{ExtendAt: 80, ExtendBy: 20, MaxData: 110 * gib}, Data, 100 * gib, 100 * gib, 1 << 50, 110 * gib},
		"a byte at a time":     {Policy{ExtendAt: 80, ExtendBytes: 1}, Data, 80 * gib, 100 * gib, 1 << 50, 100*gib + mib},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.want, c.policy.target(c.space, level{c.used, c.total}, c.limit))
		})
	}
	for _, bad := range []Policy{{ExtendAt: -1}, {ExtendAt: 101}, {ExtendBy: -1}, {Interval: -1}, {WhenFull: "wait"}} {
		require.ErrorIs(t, Run(t.Context(), newFake(), Options{Policy: bad}), thinpool.ErrInvalid)
	}
}

// pass lets time pass in the bubble.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}
