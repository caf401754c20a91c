package thinpool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"blockstore.dev/blockstore/dm"
)

// retireAfter is how long what retires a device has the kernel to itself: a removal holds locks of device-mapper's that what comes
// next, a message to the pool mostly, would wait for.
const retireAfter = 50 * time.Millisecond

// Retire is TryDeactivate for who need not wait until the device is gone, which takes some of the kernel's grace periods: it makes
// sure that nobody has it open, and leaves the rest to the background. Whoever activates the device meanwhile has it as it
// is; whoever deactivates it waits. Close waits for all that were retired. One ioctl.
func (p *Pool) Retire(ctx context.Context, id dm.DeviceID) error {
	busy, err := p.retire(ctx, id)
	if busy { // by a udev that looks at it, perhaps, which does not take long
		return p.TryDeactivate(ctx, id)
	}
	if err != nil {
		return fmt.Errorf("deactivating thin device %d: %w", id, err)
	}
	return nil
}

func (p *Pool) retire(ctx context.Context, id dm.DeviceID) (busy bool, err error) {
	defer p.devices.lock(id)()
	info, err := p.dm.Info(ctx, dm.UUID(p.config.ThinUUID(id)))
	switch {
	case errors.Is(err, dm.ErrNotFound):
		return false, p.unpublish(id)
	case err != nil:
		return false, err
	case info.OpenCount > 0:
		return true, nil
	}
	if err := p.unpublish(id); err != nil {
		return false, err
	}
	p.retired.add(id, p.deactivateRetired)
	return false, nil
}

// deactivateRetired takes a device away unless somebody has activated or deactivated it since. One that somebody outside has opened
// by now stays, for whoever deactivates it next.
func (p *Pool) deactivateRetired(id dm.DeviceID) {
	defer p.devices.lock(id)()
	if p.retired.cancel(id) {
		_, _ = p.dm.Remove(context.Background(), dm.UUID(p.config.ThinUUID(id)), dm.RemoveOptions{Wait: removeWait})
	}
}

// WaitRetired waits until the devices are gone that were retired before.
func (p *Pool) WaitRetired() { p.retired.wait() }

// retirement are the devices that are to go in the background, one after the other.
type retirement struct {
	mu    sync.Mutex
	ids   []dm.DeviceID
	work  chan struct{} // nil while nobody works; closed when there is no more to do
	begin *time.Timer   // of the work
}

// add has do called for a device soon, at once where somebody waits.
func (r *retirement) add(id dm.DeviceID, do func(dm.DeviceID)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Contains(r.ids, id) {
		r.ids = append(r.ids, id)
	}
	if r.work != nil {
		return
	}
	r.work = make(chan struct{})
	r.begin = time.AfterFunc(retireAfter, func() {
		for {
			next, ok := r.next()
			if !ok {
				return
			}
			do(next)
		}
	})
}

// next is the device whose turn it is, which stays in the list until it is canceled; without one the work has ended.
func (r *retirement) next() (dm.DeviceID, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.ids) == 0 {
		close(r.work)
		r.work = nil
		return 0, false
	}
	return r.ids[0], true
}

// cancel takes a device off the list, whose lock the caller has, and says whether it was there.
func (r *retirement) cancel(id dm.DeviceID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.Index(r.ids, id)
	if i < 0 {
		return false
	}
	r.ids = slices.Delete(r.ids, i, i+1)
	return true
}

func (r *retirement) wait() {
	r.mu.Lock()
	work := r.work
	if work != nil && r.begin.Stop() {
		r.begin.Reset(0)
	}
	r.mu.Unlock()
	if work != nil {
		<-work
	}
}
