package snapshot

import (
	"context"
	"fmt"
	"maps"
	"sync"

	"blockstore.dev/blockstore/snapshot/failpoint"
)

// idBlock is how many volume ids one catalog commit reserves: the price of a
// reservation is shared by as many creations, and start-up asks the kernel about
// at most as many volumes.
const idBlock = 128

// idAllocator hands out volume ids from the reserved block. An id is in work
// until its volume is in the catalog or gone from the kernel.
type idAllocator struct {
	cat    *catalog
	driver Driver

	mu     sync.Mutex
	next   VolumeID
	record idRecord
	inWork map[VolumeID]bool
	behind bool // the driver's epoch is one less than record.Epoch
	// unsettled says that of ids which nobody knows any more a volume may come back: see Settler.
	unsettled bool
}

// take returns n ids that nobody had before, reserving further blocks if need
// be.
func (a *idAllocator) take(ctx context.Context, n int) ([]VolumeID, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.catchUp(ctx); err != nil {
		return nil, err
	}
	for int(a.record.End)-int(a.next) < n {
		if err := a.reserve(ctx); err != nil {
			return nil, err
		}
	}
	ids := make([]VolumeID, n)
	for i := range ids {
		ids[i] = a.next
		a.inWork[a.next] = true
		a.next++
	}
	return ids, nil
}

// pass has no id up to this one given out from now on: one that was not given out is in use.
func (a *idAllocator) pass(id VolumeID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.next = max(a.next, id+1)
}

// done says that ids are settled: in the catalog, or without a volume.
func (a *idAllocator) done(ids ...VolumeID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, id := range ids {
		delete(a.inWork, id)
	}
}

// gone is done for an id whose volume was removed again.
func (a *idAllocator) gone(id VolumeID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.inWork, id)
	a.unsettled = true
}

// idStand is how far the ids are at one time.
type idStand struct {
	working map[VolumeID]bool // those in work
	next    VolumeID          // this one and what is behind it was never given out
}

func (a *idAllocator) stand() idStand {
	a.mu.Lock()
	defer a.mu.Unlock()
	return idStand{maps.Clone(a.inWork), a.next}
}

// reserve commits the next block and then raises the driver's epoch. A crash
// between the two leaves the driver one behind, which open mends.
func (a *idAllocator) reserve(ctx context.Context) error {
	if a.record.End+idBlock > MaxVolumeID {
		return fmt.Errorf("the store has used all %d volume ids of its life; save what is needed and init a new one: %w", MaxVolumeID, ErrNoSpace)
	}
	if d, ok := a.driver.(Settler); ok && a.unsettled { // the block that an open looks through is about to be another
		if err := d.Settle(ctx); err != nil {
			return fmt.Errorf("reserving volume ids: %w", noSpace(err))
		}
	}
	a.unsettled = false
	from := a.next
	for id := range a.inWork {
		from = min(from, id)
	}
	var r idRecord
	err := a.cat.update(func(t *tx) error {
		var err error
		if r, err = t.ids(); err != nil {
			return err
		}
		r.PurgeFrom = from
		r.End += idBlock
		r.Epoch++
		if failpoint.Leave("ids.record") {
			return nil
		}
		return t.putIDs(r)
	})
	if err != nil {
		return fmt.Errorf("reserving volume ids: %w", err)
	}
	failpoint.Hit("ids.reserved")
	a.record = r
	a.behind = true
	return a.catchUp(ctx)
}

// catchUp raises the driver's epoch to the catalog's. Until that is done no
// further block may be reserved: two steps apart they are no pair any more.
func (a *idAllocator) catchUp(ctx context.Context) error {
	e, ok := a.driver.(Epoched)
	if !ok || !a.behind {
		return nil
	}
	if err := e.SetEpoch(ctx, a.record.Epoch-1, a.record.Epoch); err != nil {
		if at, readErr := e.Epoch(ctx); readErr != nil || at != a.record.Epoch { // else it was done all the same
			return fmt.Errorf("reserving volume ids: %w", noSpace(err))
		}
	}
	a.behind = false
	return nil
}
