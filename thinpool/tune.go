package thinpool

import (
	"context"
	"errors"
	"fmt"

	"blockstore.dev/blockstore/dm"
)

// Tuning is what of a pool's table may change while it runs.
type Tuning struct {
	// QueueIfFull as in Config.
	QueueIfFull bool
	// LowWaterPercent is how much of the data is free when the kernel sends an event: below it, or at it. 0 is Config's
	// LowWater. It goes with the data's size.
	LowWaterPercent int
}

// lowWater is the mark in a pool of so many blocks.
func (t Tuning) lowWater(c Config, total dm.Blocks) dm.Blocks {
	if t.LowWaterPercent == 0 {
		return c.LowWater
	}
	return total*dm.Blocks(t.LowWaterPercent)/100 + 1 // the kernel tells when less is free
}

// Tuning is how the pool's table is now; of somebody else's pool it is not known, and zero.
func (p *Pool) Tuning() Tuning {
	if t := p.tuning.Load(); t != nil {
		return *t
	}
	return Tuning{}
}

// Tune has the running pool be so, from now on and through all growth, until it is closed: neither its Config nor the
// next Open knows. All I/O on the pool waits meanwhile, as in GrowData; where nothing is different nothing is done. A
// pool that has run full and queues goes on with what waits, or fails it. A pool that needs a check or has failed stays
// as it is, with that error; somebody else's is ErrForeign.
func (p *Pool) Tune(ctx context.Context, t Tuning) error {
	if err := p.tune(ctx, t); err != nil {
		return fmt.Errorf("tuning pool %s: %w", p.config.Name, err)
	}
	p.KeepBallast(ctx, t.QueueIfFull)
	return nil
}

func (p *Pool) tune(ctx context.Context, t Tuning) error {
	if err := p.own(); err != nil {
		return err
	}
	p.reload.Lock()
	defer p.reload.Unlock()
	if t.LowWaterPercent < 0 || t.LowWaterPercent > 100 {
		return fmt.Errorf("low water at %d percent: %w", t.LowWaterPercent, ErrInvalid)
	}
	st, err := p.Status(ctx)
	if err != nil {
		return err
	}
	target, err := p.target(ctx)
	if err != nil {
		return err
	}
	before := p.tuning.Load()
	if target.ErrorIfNoSpace == !t.QueueIfFull && target.LowWater == t.lowWater(p.config, st.DataTotal) {
		p.tuning.Store(&t)
		return nil
	}
	if st.NeedsCheck || st.Mode == dm.PoolFail || st.Mode == dm.PoolError {
		return writable(st.ThinPoolStatus)
	}
	backing, err := p.Config().open(ctx, p.dm)
	if err != nil {
		return err
	}
	defer backing.close()
	p.tuning.Store(&t)
	if err := p.reloaded(ctx, backing); err != nil {
		if !errors.Is(err, ErrReadOnly) { // which it was before, and the table is the new one
			p.tuning.Store(before)
		}
		return err
	}
	return nil
}

// reloaded gives the running pool its table anew. The caller holds reload.
func (p *Pool) reloaded(ctx context.Context, backing *disks) error {
	table, err := p.table(backing)
	if err != nil {
		return err
	}
	// Loading before suspending: a process that dies in between leaves nothing suspended.
	if _, err := p.dm.Load(ctx, p.ref, table, dm.LoadOptions{}); err != nil {
		return err
	}
	err = p.Unstuck(ctx, func() error {
		_, err := p.dm.Resume(context.WithoutCancel(ctx), p.ref)
		return err
	})
	if err != nil {
		return err
	}
	return p.verifyGrown(ctx, backing, table.Length())
}

// Events wait for what the kernel tells of a pool: that its data went below the low-water mark or its metadata below the
// kernel's, that its mode changed, that the time for queueing is over, that its table was changed. It tells nothing when
// space becomes free, nothing when the mark was passed already at the last change of the table, and each mark once until
// then. One goroutine uses them.
type Events struct {
	watcher *dm.Watcher
}

// Events begin at once. ErrNotSupported of package dm on kernels before 4.13. The caller closes them.
func (p *Pool) Events() (*Events, error) {
	prefix := dm.Prefix{UUID: p.config.PoolUUID()}
	if prefix.UUID == "" {
		prefix.Name = p.config.PoolName()
	}
	w, err := p.dm.Watch(prefix)
	if err != nil {
		return nil, fmt.Errorf("watching pool %s: %w", p.config.Name, err)
	}
	return &Events{w}, nil
}

// Next returns when there was an event since it was called last, or the context ends, with its error then. The first
// call returns at once. Waiting holds no thread.
func (e *Events) Next(ctx context.Context) error {
	_, err := e.watcher.Next(ctx)
	return err
}

// Close ends the watching.
func (e *Events) Close() error { return e.watcher.Close() }
