package snapshot

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// sweepPause lies at least between two removals in the background. On btrfs the kernel's cleaner works for each; with
	// 1,000 at once a writer's fdatasync took ten times as long at the 99th percentile, with this pause less than twice.
	sweepPause = 5 * time.Millisecond
	// sweepYield is how many times as long as a removal took the pause behind it is: a thin pool's is several commits of
	// its metadata, and a hundred writes beside it must meet less than one.
	sweepYield = 20
	// longestSweepPause bounds that.
	longestSweepPause = 500 * time.Millisecond
)

// sweeping is held by who does the removals that are pending, so that nobody does the same.
type sweeping struct {
	sync.Mutex
	later sync.WaitGroup // sweeps in the background
	under atomic.Int32   // how many those are
	hurry atomic.Int32   // who waits for their end, and wants them without pauses
	wake  chan struct{}  // ends the pause in which somebody comes to wait
}

// hurried has sweeps in the background go on without pauses, until done is called.
func (w *sweeping) hurried() (done func()) {
	w.hurry.Add(1)
	select {
	case w.wake <- struct{}{}:
	default: // one is there, for the pause to find
	}
	return func() { w.hurry.Add(-1) }
}

// pause leaves the store to others for so long, or until somebody is in a hurry.
func (w *sweeping) pause(long time.Duration) {
	if w.hurry.Load() > 0 {
		return
	}
	select {
	case <-w.wake:
	case <-time.After(long):
	}
}

// pauseAfter is how long others come first after a removal that took so long.
func pauseAfter(took time.Duration) time.Duration {
	return min(max(took*sweepYield, sweepPause), longestSweepPause)
}

// end waits for who sweeps now.
func (w *sweeping) end() {
	w.Lock()
	defer w.Unlock()
}

// sweepLater does in the background what was committed until now, and slowly: whoever
// works beside it comes first. A Sweep has it done at once, and so does Close. That it is done is
// written down with whatever is committed next, or, of many, at its end.
func (s *Store) sweepLater(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	locked := s.sweeping.TryLock() // a Sweep that comes now finds it begun
	s.sweeping.under.Add(1)
	s.sweeping.later.Go(func() {
		if !locked {
			s.sweeping.Lock()
		}
		defer s.sweeping.Unlock()
		defer s.sweeping.under.Add(-1)
		_ = s.sweep(ctx, s.sweeping.pause) // what fails stays pending
		s.flushMany(ctx)
	})
}

// sweepNow is Sweep, and says whether there was anything to do.
func (s *Store) sweepNow(ctx context.Context) (bool, error) {
	if pending, err := s.pending(); len(pending) == 0 || err != nil {
		return false, err
	}
	return true, s.Sweep(ctx)
}

// Sweep does now the removals that were committed and are not done yet: those of RemoveAll
// and Drop, and what was in use. What is in use still stays for the next time.
func (s *Store) Sweep(ctx context.Context) error {
	defer s.sweeping.hurried()()
	s.sweeping.Lock()
	defer s.sweeping.Unlock()
	return errors.Join(s.sweep(ctx, func(time.Duration) {}), s.flushSwept(ctx))
}

// WaitSwept waits until what RemoveAll and Discard have left to the background is done, at its own pace.
func (s *Store) WaitSwept() {
	for s.sweeping.under.Load() > 0 {
		s.sweeping.end()
	}
}

func (s *Store) sweep(ctx context.Context, pause func(time.Duration)) error {
	pending, err := s.pending()
	if err != nil {
		return err
	}
	for _, id := range pending {
		begin := time.Now()
		s.collectOne(ctx, id) // all of them are settled together, by who calls
		pause(pauseAfter(time.Since(begin)))
	}
	return nil
}

// pending are the volumes whose removal is committed and not done.
func (s *Store) pending() (ids []VolumeID, err error) {
	err = s.cat.view(func(t *tx) error { ids = t.garbage(); return nil })
	done := s.swept.list()
	return slices.DeleteFunc(ids, func(id VolumeID) bool { return slices.Contains(done, id) }), err
}
