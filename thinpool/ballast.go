package thinpool

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/dm"
)

const (
	// ballastRoom is how many blocks are free in a pool that takes ballast: a writer must not fill it meanwhile, or the
	// ballast would wait for space itself.
	ballastRoom dm.Blocks = 64
	// stuckTick is how often a growth is looked at, and stuckAfter for how long the pool has been out of space then, in one
	// go, for the ballast to be freed. Earlier the kernel may still be at work on what is to wait, with the pool's mode in
	// its hand, and would fail it with EIO ("bio unserviceable, yet pool is in PM_WRITE mode").
	stuckTick  = 250 * time.Millisecond
	stuckAfter = 2 * time.Second
)

// ballast is a block of a pool whose writers wait for space (Config.Ballast), to be freed where its growth is stuck.
//
// To grow a pool the kernel suspends its thin devices one after the other, and takes back what waits for space in them.
// What a writer hands over at that very moment, when the pool is full, comes too late for that: it is put aside to wait
// for space, and the suspension waits for it, and so the growth, until no_space_timeout fails what waits, and for ever
// where that is 0 (dm-thin.c: process_thin_deferred_cells does not look at requeue_mode; seen on Linux 7.2 when writers
// filled a pool while it was grown). As soon as a commit finds a free block, all that waits is looked at once more, and
// taken back.
type ballast struct {
	mu           sync.Mutex
	wanted, held bool
}

// KeepBallast has the pool keep a block back from now on, if its Config says so, whenever it is far from full; or gives it
// back. Whoever makes the pool's writers wait calls it; Tune does. It is best effort: few growths need it.
func (p *Pool) KeepBallast(ctx context.Context, keep bool) {
	p.ballast.mu.Lock()
	defer p.ballast.mu.Unlock()
	p.ballast.wanted = keep && p.config.Ballast != 0
	if p.ballast.wanted {
		p.takeBallast(ctx)
	} else {
		p.freeBallast(ctx)
	}
}

// takeBallast makes a device that has one block. The caller has p.ballast.mu.
func (p *Pool) takeBallast(ctx context.Context) {
	if !p.ballast.wanted || p.ballast.held {
		return
	}
	st, err := p.Status(ctx)
	if err != nil || st.Err() != nil || st.DataTotal-min(st.DataUsed, st.DataTotal) < ballastRoom {
		return
	}
	id := p.config.Ballast
	_, err = p.dm.Message(ctx, p.ref, 0, dm.CreateThinMessage(p.config.kernelID(id)))
	if err != nil && !errors.Is(err, unix.EEXIST) { // which a process has left that died
		return
	}
	defer p.devices.lock(id)()
	err = p.borrow(ctx, id, false, func(d Device) error {
		b := make([]byte, markSize)
		copy(b, "blockstore: kept back for the growth of this pool\n")
		return writeMark(d.Path, b)
	})
	p.ballast.held = true
	if err != nil {
		p.freeBallast(context.WithoutCancel(ctx))
	}
}

// freeBallast deletes the device; the commit behind it has the kernel look at what waits for space. Where it fails, the pool
// takes no changes, and whoever takes ballast in it next finds the device. The caller has p.ballast.mu.
func (p *Pool) freeBallast(ctx context.Context) {
	if p.ballast.held {
		_, _ = p.dm.Message(ctx, p.ref, 0, dm.DeleteMessage(p.config.kernelID(p.config.Ballast)))
		p.ballast.held = false
	}
}

// Unstuck calls grow, which has the kernel suspend the pool, and frees the ballast if that does not end while the pool is
// out of space. Then it takes new ballast.
func (p *Pool) Unstuck(ctx context.Context, grow func() error) error {
	over := make(chan struct{})
	var watch sync.WaitGroup
	p.ballast.mu.Lock()
	if p.ballast.held {
		watch.Go(func() { p.unstick(ctx, over) })
	}
	p.ballast.mu.Unlock()
	err := grow()
	close(over)
	watch.Wait()
	p.ballast.mu.Lock()
	defer p.ballast.mu.Unlock()
	p.takeBallast(ctx)
	return err
}

// unstick frees the ballast of a pool that is out of space for long while it grows.
func (p *Pool) unstick(ctx context.Context, over <-chan struct{}) {
	tick := time.NewTicker(stuckTick)
	defer tick.Stop()
	for begun := time.Now(); ; {
		select {
		case <-over:
			return
		case <-tick.C:
		}
		if st, err := p.Status(ctx); err != nil || st.Mode != dm.PoolOutOfDataSpace {
			begun = time.Now()
		}
		if time.Since(begun) > stuckAfter {
			p.ballast.mu.Lock()
			p.freeBallast(context.WithoutCancel(ctx))
			p.ballast.mu.Unlock()
			return
		}
	}
}
