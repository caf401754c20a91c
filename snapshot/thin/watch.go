package thin

import (
	"context"
	"errors"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/thinpool"
	"blockstore.dev/blockstore/thinpool/lvm"
	"blockstore.dev/blockstore/thinpool/monitor"
)

var _ snapshot.Watcher = (*driver)(nil)

// Watch watches the pool. A pool that is somebody else's is looked at and told of, and its owner extends it.
func (d *driver) Watch(ctx context.Context, o snapshot.WatchOptions) error {
	policy := monitor.Policy{
		ExtendAt: o.ExtendAt, ExtendBy: o.ExtendBy, ExtendBytes: uint64(max(o.ExtendBytes, 0)), MaxData: uint64(max(o.MaxData, 0)),
		WhenFull: monitor.WhenFull(o.WhenFull), Interval: o.Interval,
	}
	var pool monitor.Pool = monitor.Own{Pool: d.pool}
	switch {
	case d.config.LVM != nil && d.config.LVM.Made:
		pool = &grouped{told: told{Pool: d.pool}, driver: d}
	case d.config.Pool.Share != nil:
		pool, policy.ExtendAt = &lent{told{Pool: d.pool}}, 100
	}
	options := monitor.Options{Policy: policy, Repair: o.Repair, Tell: func(e monitor.Event) {
		if e.Kind == monitor.Extended {
			d.refreshReserve(ctx)
		}
		if o.Tell != nil {
			o.Tell(snapshot.BackingEvent(e))
		}
	}}
	events, err := d.pool.Events()
	switch {
	case err == nil:
		options.Waker = events
		err = errors.Join(monitor.Run(ctx, pool, options), events.Close())
	case errors.Is(err, dm.ErrNotSupported):
		err = monitor.Run(ctx, pool, options)
	}
	return translate(err)
}

// told is a pool whose table is not ours: what it is like is known by its status. One goroutine uses it.
type told struct {
	*thinpool.Pool
	tuning thinpool.Tuning
}

func (p *told) Status(ctx context.Context) (thinpool.Status, error) {
	st, err := p.Pool.Status(ctx)
	if err == nil && st.Mode == dm.PoolReadWrite { // else it may be the kernel that has changed it
		p.tuning.QueueIfFull = st.Full == dm.QueueIfNoSpace
	}
	return st, err
}

// Tuning has the low-water mark that was asked for; the owner's own stays.
func (p *told) Tuning() thinpool.Tuning { return p.tuning }

func (*told) Beneath(context.Context) error { return nil }

// lent is a pool that its owner extends.
type lent struct{ told }

func (l *lent) Limit(ctx context.Context, s monitor.Space) (uint64, error) {
	st, err := l.Status(ctx)
	_, total := st.DataBytes()
	if s == monitor.Metadata {
		_, total = st.MetadataBytes()
	}
	return total, err
}

func (*lent) Extend(context.Context, monitor.Space, uint64) error { return thinpool.ErrForeign }

// grouped is a pool of LVM's in the volume group that the store made: LVM's tools extend and change it, and run for
// nothing else.
type grouped struct {
	told
	driver *driver
}

func (g *grouped) volume(ctx context.Context) (*lvm.Tool, lvm.Volume, error) {
	tool, err := g.driver.kind.lvm(ctx)
	if err != nil {
		return nil, lvm.Volume{}, err
	}
	l := g.driver.config.LVM
	v, err := tool.Find(ctx, l.GroupUUID, l.UUID)
	return tool, v, err
}

func (g *grouped) Tune(ctx context.Context, t thinpool.Tuning) error {
	if t.QueueIfFull != g.tuning.QueueIfFull {
		tool, v, err := g.volume(ctx)
		if err == nil {
			err = tool.ErrorWhenFull(ctx, v, !t.QueueIfFull)
		}
		if err != nil {
			return err
		}
	}
	g.tuning = t
	g.KeepBallast(ctx, t.QueueIfFull)
	return nil
}

// Limit is what the group has room for.
func (g *grouped) Limit(ctx context.Context, s monitor.Space) (uint64, error) {
	tool, v, err := g.volume(ctx)
	if err != nil {
		return 0, err
	}
	room, err := tool.Room(ctx, g.driver.config.Pool.Identity)
	if s == monitor.Metadata {
		return min(v.MetadataSize+room.Metadata, thinpool.MaxMetadataSize), err
	}
	return v.Size + room.Data, err
}

func (g *grouped) Extend(ctx context.Context, s monitor.Space, to uint64) error {
	return g.Unstuck(ctx, func() error { return g.extend(ctx, s, to) })
}

func (g *grouped) extend(ctx context.Context, s monitor.Space, to uint64) error {
	d := g.driver
	if s == monitor.Data {
		return d.extendLVM(ctx, snapshot.ExtendOptions{Size: int64(to)})
	}
	tool, v, err := g.volume(ctx)
	if err != nil {
		return err
	}
	return tool.ExtendMetadata(ctx, d.config.Pool.Identity, v, to)
}
