package btrfs

import (
	"context"
	"errors"
	"sync"
	"time"

	"blockstore.dev/blockstore/btrfsvol"
)

// cleanDelay is how long removals are gathered before a commit for all of them
// wakes the kernel's cleaner, which would else sleep for up to half a minute. A
// commit for each would slow down the creations that come between them, and ten a
// second whoever writes durably beside them.
const cleanDelay = time.Second

// cleanerWait bounds the waiting for it.
const cleanerWait = 3 * time.Second

// What was removed longer ago than removedLately has given its space back; until then it is looked for every emptyPoll.
const (
	removedLately = 15 * time.Second
	emptyPoll     = 100 * time.Millisecond
)

// A waker starts that commit, by a timer.
type waker struct {
	fs *btrfsvol.FS

	mu      sync.Mutex
	timer   *time.Timer // nil while no commit is due
	removed bool        // something was removed since the driver opened
	last    time.Time   // the last removal
	running sync.WaitGroup
}

// noteRemoval has a commit started soon.
func (w *waker) noteRemoval() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.removed, w.last = true, time.Now()
	if w.timer == nil {
		w.running.Add(1)
		w.timer = time.AfterFunc(cleanDelay, w.wake)
	}
}

// recent says whether something was removed lately.
func (w *waker) recent() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.removed && time.Since(w.last) < removedLately
}

func (w *waker) wake() {
	defer w.running.Done()
	w.mu.Lock()
	w.timer = nil
	w.mu.Unlock()
	// It only hastens what the kernel does anyway. An error means that the file
	// system has become read-only, which Status tells.
	_ = w.fs.StartCommit()
}

// close ends the timer. What was removed is freed before the file system goes, or
// it would stay occupied until somebody opens it again; but no longer than a moment.
func (w *waker) close() error {
	w.mu.Lock()
	if w.timer != nil && w.timer.Stop() {
		w.timer = nil
		w.running.Done()
	}
	removed := w.removed
	w.mu.Unlock()
	w.running.Wait()
	if !removed {
		return nil
	}
	return w.wait(context.Background())
}

// wait gives the cleaner a moment: what was removed just now may still hold space.
func (w *waker) wait(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, cleanerWait)
	defer cancel()
	err := w.fs.WaitCleaned(limited)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return nil
	}
	return translate(err, "btrfs: wait for the cleaner")
}

// Settle makes the removals so far survive a power cut: destroying a subvolume
// commits nothing by itself.
func (d *driver) Settle(context.Context) error {
	return translate(d.fs.Sync(), "btrfs: settling removals")
}
