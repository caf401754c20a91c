package metrics

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"blockstore.dev/blockstore/snapshot"
)

// reading is what was read of a store at one time.
type reading struct {
	at     time.Time
	took   time.Duration
	status snapshot.StoreStatus
	// account is nil where the driver cannot tell cheaply.
	account *account
}

// account is what the store's snapshots hold, by kind.
type account struct {
	exclusive    map[snapshot.SnapshotKind]int64
	used, shared int64
}

// state reads the store, seldom.
type state struct {
	store Store
	log   *slog.Logger
	now   func() time.Time

	mu      sync.Mutex
	last    *reading
	tried   time.Time     // when the last reading began
	pause   time.Duration // from then to the next
	busy    chan struct{} // closed when the one under way ends, nil if none is
	errors  float64
	closed  bool
	readers sync.WaitGroup
	life    context.Context
	end     context.CancelFunc
}

func newState(store Store, log *slog.Logger) *state {
	s := &state{store: store, log: log, now: time.Now, pause: stateEvery}
	s.life, s.end = context.WithCancel(context.Background())
	return s
}

// get gives the last reading, nil if there is none, and begins another if that is old. It waits for one that is under
// way, but not long.
func (s *state) get() (last *reading, failures float64) {
	s.mu.Lock()
	if s.busy == nil && !s.closed && (s.tried.IsZero() || s.now().Sub(s.tried) >= s.pause) {
		s.tried, s.busy = s.now(), make(chan struct{})
		s.readers.Go(s.read)
	}
	busy := s.busy
	s.mu.Unlock()
	if busy != nil {
		late := time.NewTimer(stateWait)
		defer late.Stop()
		select {
		case <-busy:
		case <-late.C:
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last, s.errors
}

// read is one reading.
func (s *state) read() {
	r := &reading{at: s.now()}
	var err error
	r.status, err = s.store.Status(s.life)
	if err == nil {
		r.account, err = s.count(s.life)
	}
	r.took = s.now().Sub(r.at)
	if err != nil && s.life.Err() == nil {
		s.log.Warn("reading the store's state for its metrics", "error", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.errors++
	} else {
		s.last = r
	}
	s.pause = max(stateEvery, stateShare*r.took)
	close(s.busy)
	s.busy = nil
}

// count asks drivers that can tell for all volumes at once.
func (s *state) count(ctx context.Context) (*account, error) {
	accountant, ok := s.store.Driver().(snapshot.Accountant)
	if !ok {
		return nil, nil
	}
	all, err := accountant.Account(ctx)
	if errors.Is(err, snapshot.ErrNotSupported) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	list, err := s.store.List(ctx)
	if err != nil {
		return nil, err
	}
	a := &account{used: all.Used, shared: all.Shared, exclusive: map[snapshot.SnapshotKind]int64{}}
	for _, in := range list {
		if in.Kind != snapshot.KindView { // which shows a layer's volume
			a.exclusive[in.Kind] += all.Volumes[in.Volume.ID].Exclusive
		}
	}
	return a, nil
}

// close ends the reading that is under way, if the backing store lets it.
func (s *state) close() {
	s.mu.Lock()
	s.closed = true
	busy := s.busy
	s.mu.Unlock()
	s.end()
	if busy == nil {
		return
	}
	late := time.NewTimer(stopWait)
	defer late.Stop()
	select {
	case <-busy:
		s.readers.Wait()
	case <-late.C:
	}
}
