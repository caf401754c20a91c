package thinpool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"blockstore.dev/blockstore/dm"
)

// Pool is an open pool: its device is active. It is safe for concurrent use; operations on different thin devices run
// in parallel, and only a reload (growth, Close) waits for the others and keeps them out.
type Pool struct {
	dm     *dm.Client
	config Config
	ref    dm.Ref
	number dm.Number
	// reload is held shared by messages, so that a change of the pool's table cannot come between a message and
	// the status that judges it.
	reload sync.RWMutex
	// devices are locked one by one while they are activated, deactivated, borrowed or suspended.
	devices deviceLocks
	// retired are devices that are deactivated in the background.
	retired retirement
	// tuning is how the pool's table is, and what the next one will be; set under reload.
	tuning atomic.Pointer[Tuning]
	// further are the data devices since one was added; else they are config's.
	further atomic.Pointer[[]Further]
	// snapshots is the superblock's time: snapshots taken in the pool's life, at least.
	snapshots atomic.Uint32
	// reading is held by who has the pool's one metadata snapshot. noteLost, below it: see loseNote.
	reading  sync.Mutex
	noteLost bool
	pace     pace
	// metadataMeter is of the metadata device.
	metadataMeter meter
	ballast       ballast
	// held keeps the owner of somebody else's pool from deactivating it.
	held   []*os.File
	closed bool
}

// Config is what the pool was opened with, and the devices that were added since.
func (p *Pool) Config() Config {
	c := p.config
	if f := p.further.Load(); f != nil {
		c.Further = *f
	}
	return c
}

// Number is the pool device's number.
func (p *Pool) Number() dm.Number { return p.number }

// Open brings a pool up, or takes over one that a dead process left up: it resumes what is suspended, removes devices of
// the pool that never got a table, and releases the metadata snapshot that the dead process held (see Metadata), also one
// that a power cut met half taken or half released. Thin
// devices that are active stay so (see Active).
//
// It refuses with ErrNotFormatted, ErrCorrupt or ErrForeign, and changes nothing, when the metadata device does not
// hold the pool of this identity. A pool that needs a check opens; its Status tells. Somebody else's pool must be active,
// else ErrInactive, and stays as it is: Open holds it until Close.
func Open(ctx context.Context, client *dm.Client, c Config) (*Pool, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	if c.Share != nil {
		return openShare(ctx, client, c)
	}
	p := newPool(client, c)
	backing, err := c.open(ctx, client)
	if err != nil {
		return nil, err
	}
	defer backing.close()
	sb, err := c.verify(backing)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening pool %s: %w", c.Name, err), p.partIdle(ctx))
	}
	p.snapshots.Store(sb.Time)
	clean, err := c.takeNote(sb)
	var adopted bool
	if err == nil {
		adopted, err = p.bringUp(ctx, backing, clean)
	}
	if err == nil {
		err = p.settle(ctx)
	}
	if err == nil {
		err = p.letGo(ctx, !adopted)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening pool %s: %w", c.Name, err), p.partIdle(ctx))
	}
	return p, nil
}

// partIdle is for an Open that failed: a pool that is up stays so.
func (p *Pool) partIdle(ctx context.Context) error {
	err := p.config.part(context.WithoutCancel(ctx), p.dm)
	if errors.Is(err, dm.ErrBusy) {
		return nil
	}
	return err
}

// newPool is a pool of our own that is not up.
func newPool(client *dm.Client, c Config) *Pool {
	p := &Pool{dm: client, config: c, ref: dm.UUID(c.PoolUUID())}
	p.tuning.Store(&Tuning{QueueIfFull: c.QueueIfFull})
	return p
}

// verify reads the superblock before the kernel does: to the kernel a zero block is an order to format.
func (c Config) verify(backing *disks) (Superblock, error) {
	sb, err := ReadSuperblock(backing.metadata.path)
	if err != nil {
		return sb, err
	}
	if sb.Identity != c.Identity {
		return sb, fmt.Errorf("metadata in %s is of pool %s, not %s: %w", c.Metadata, sb.Identity, c.Identity, ErrForeign)
	}
	if sb.BlockSize != c.BlockSize {
		return sb, fmt.Errorf("%w: pool has blocks of %d sectors, not %d", ErrCorrupt, sb.BlockSize, c.BlockSize)
	}
	size, err := backing.data.size()
	if err != nil {
		return sb, err
	}
	if have := dm.Blocks(dm.SectorsOf(size) / c.BlockSize); have < sb.DataBlocks {
		return sb, fmt.Errorf("%w: %s holds %d blocks, the pool has %d: is it the right one?", ErrCorrupt, c.Data, have, sb.DataBlocks)
	}
	return sb, nil
}

// bringUp adopts the pool device or makes it, of metadata as a clean stop left them or others.
func (p *Pool) bringUp(ctx context.Context, backing *disks, clean bool) (adopted bool, err error) {
	info, err := p.dm.Info(ctx, p.ref)
	switch {
	case errors.Is(err, dm.ErrNotFound):
		return false, p.start(ctx, backing, clean)
	case err != nil:
		return false, err
	case info.HasActive:
		return true, p.adopt(ctx, info, backing)
	}
	// A process died between making the device and loading its table; nobody can use it yet.
	if _, err := p.dm.Remove(ctx, p.ref, dm.RemoveOptions{}); err != nil {
		return false, err
	}
	return false, p.start(ctx, backing, clean)
}

// start activates a pool that was down.
func (p *Pool) start(ctx context.Context, backing *disks, clean bool) error {
	if !clean {
		if err := undoTorn(ctx, backing.metadata.path); err != nil {
			return err
		}
	}
	return p.activatePool(ctx, backing)
}

func (p *Pool) activatePool(ctx context.Context, backing *disks) error {
	table, err := p.table(backing)
	if err != nil {
		return err
	}
	info, err := p.dm.CreateLoaded(ctx, p.config.PoolName(), p.config.PoolUUID(), table, dm.LoadOptions{})
	if errors.Is(err, dm.ErrExists) {
		return fmt.Errorf("a device named %s: %w: %w", p.config.PoolName(), ErrForeign, err)
	}
	if err != nil {
		return err
	}
	p.number = info.Dev
	return nil
}

// adopt takes over an active pool device after making sure that it lies on our disks.
func (p *Pool) adopt(ctx context.Context, info dm.Info, backing *disks) error {
	p.number = info.Dev
	deps, err := p.dm.Deps(ctx, p.ref)
	if err != nil {
		return err
	}
	for _, d := range deps {
		if d != backing.data.number && d != backing.metadata.number {
			return fmt.Errorf("active pool device uses %s, which is neither %s nor %s: %w", d, p.config.Data, p.config.Metadata, ErrForeign)
		}
	}
	if info.DeferredRemove {
		if err := p.dm.CancelRemove(ctx, p.ref); err != nil {
			return err
		}
	}
	if info.Suspended {
		if _, err := p.dm.Resume(ctx, p.ref); err != nil {
			return err
		}
	}
	target, err := p.target(ctx)
	if err == nil { // a process that tuned it may have died
		p.tuning.Store(&Tuning{QueueIfFull: !target.ErrorIfNoSpace})
	}
	return err
}

// table is the pool's table over the whole of the data device.
func (p *Pool) table(backing *disks) (dm.Table, error) {
	c, t := p.config, p.tuning.Load()
	size, err := backing.data.size()
	if err != nil {
		return nil, err
	}
	length := dm.SectorsOf(size) / c.BlockSize * c.BlockSize
	if length == 0 {
		return nil, fmt.Errorf("%s is smaller than one block: %w", c.Data, ErrInvalid)
	}
	return dm.NewTable(length, dm.ThinPool{
		Metadata: backing.metadata.number, Data: backing.data.number, BlockSize: c.BlockSize, LowWater: t.lowWater(c, dm.Blocks(length/c.BlockSize)),
		ErrorIfNoSpace: !t.QueueIfFull,
	}), nil
}

// settle brings the thin devices that a dead process left into a usable state.
func (p *Pool) settle(ctx context.Context) error {
	active, err := p.list(ctx)
	if err != nil {
		return err
	}
	for _, d := range active {
		ref := dm.UUID(p.config.ThinUUID(d.ID))
		switch {
		case !d.info.HasActive:
			_, err = p.dm.Remove(ctx, ref, dm.RemoveOptions{})
		case d.info.Suspended:
			// Between suspending an origin and resuming it: whatever waits for it would wait for ever.
			_, err = p.dm.Resume(ctx, ref)
		}
		if err != nil && !errors.Is(err, dm.ErrNotFound) {
			return fmt.Errorf("recovering thin device %d: %w", d.ID, err)
		}
	}
	return nil
}

// Close takes the pool down; the loop devices of a loopback pool go with it. While thin devices are active it fails
// with ErrBusy and leaves all as it is: Open takes over later. After it succeeded the Pool is of no more use. Somebody
// else's pool stays up.
func (p *Pool) Close(ctx context.Context) error {
	p.retired.wait()
	p.reading.Lock()
	defer p.reading.Unlock()
	p.reload.Lock()
	defer p.reload.Unlock()
	p.metadataMeter.close()
	p.pace.meter.close()
	if p.closed {
		return nil
	}
	p.KeepBallast(ctx, false)
	if p.config.Share != nil {
		p.leave()
		p.closed = true
		return nil
	}
	clean := p.takesChanges(ctx)
	_, err := p.dm.Remove(ctx, p.ref, dm.RemoveOptions{Wait: removeWait})
	switch {
	case err == nil && clean:
		p.config.leaveNote()
	case errors.Is(err, dm.ErrBusy):
		return fmt.Errorf("closing pool %s: %w: %w", p.config.Name, ErrBusy, err)
	case err != nil && !errors.Is(err, dm.ErrNotFound):
		return fmt.Errorf("closing pool %s: %w", p.config.Name, err)
	}
	if err := p.config.part(ctx, p.dm); err != nil {
		return fmt.Errorf("closing pool %s: %w", p.config.Name, err)
	}
	p.closed = true
	return nil
}
