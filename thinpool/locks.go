package thinpool

import (
	"sync"

	"blockstore.dev/blockstore/dm"
)

// deviceLocks keep those apart who activate, deactivate, borrow or suspend the same thin device:
// nobody takes over a device that is about to go again.
type deviceLocks struct {
	mu   sync.Mutex
	held map[dm.DeviceID]*deviceLock
}

type deviceLock struct {
	sync.Mutex
	users int // who hold it or wait; guarded by deviceLocks.mu
}

// lock locks a device for one; the returned function unlocks it.
func (l *deviceLocks) lock(id dm.DeviceID) (unlock func()) {
	l.mu.Lock()
	if l.held == nil {
		l.held = map[dm.DeviceID]*deviceLock{}
	}
	d := l.held[id]
	if d == nil {
		d = &deviceLock{}
		l.held[id] = d
	}
	d.users++
	l.mu.Unlock()
	d.Lock()
	return func() {
		d.Unlock()
		l.mu.Lock()
		defer l.mu.Unlock()
		if d.users--; d.users == 0 {
			delete(l.held, id)
		}
	}
}
