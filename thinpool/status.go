package thinpool

import (
	"context"
	"fmt"

	"blockstore.dev/blockstore/dm"
)

// Status is the state of a pool.
type Status struct {
	// ThinPoolStatus is what the kernel says, in blocks.
	dm.ThinPoolStatus
	// BlockSize turns data blocks into bytes; metadata blocks are dm.MetadataBlockSize.
	BlockSize dm.Sectors
	// Snapshots is how many snapshots the pool has taken in its life; SnapshotLimit ends it.
	Snapshots uint32
	// QueueTimedOut says that the pool was to let writers wait for space and has begun to fail them instead.
	QueueTimedOut bool
}

// DataBytes gives the data's size and how much of it is used, in bytes.
func (s Status) DataBytes() (used, total uint64) {
	return uint64(s.DataUsed) * s.BlockSize.Bytes(), uint64(s.DataTotal) * s.BlockSize.Bytes()
}

// MetadataBytes gives the metadata's size and how much of it is used, in bytes. The kernel's reserve, a tenth of at
// most 64 MiB, counts as used.
func (s Status) MetadataBytes() (used, total uint64) {
	return uint64(s.MetadataUsed) * dm.MetadataBlockSize, uint64(s.MetadataTotal) * dm.MetadataBlockSize
}

// Err is nil while the pool takes changes and has space; else ErrFailed, ErrNeedsCheck, ErrReadOnly, ErrNoSpace or
// ErrWornOut, with the way out.
func (s Status) Err() error {
	if err := writable(s.ThinPoolStatus); err != nil {
		return err
	}
	switch {
	case s.Mode == dm.PoolOutOfDataSpace:
		return fmt.Errorf("%w: all %d data blocks are used: grow it or delete something", ErrNoSpace, s.DataTotal)
	case s.Snapshots >= SnapshotLimit:
		return ErrWornOut
	}
	return nil
}

// writable is nil when the pool takes messages.
func writable(s dm.ThinPoolStatus) error {
	switch {
	case s.Mode == dm.PoolFail || s.Mode == dm.PoolError:
		return fmt.Errorf("%w: its mode is %s: take it down and check its metadata with thin_check", ErrFailed, s.Mode)
	case s.NeedsCheck:
		return fmt.Errorf("%w (mode %s): take it down, run thin_check and if need be thin_repair: %w", ErrNeedsCheck, s.Mode, ErrReadOnly)
	case s.Mode == dm.PoolReadOnly:
		return fmt.Errorf("%w: metadata %d of %d blocks used: grow the metadata", ErrReadOnly, s.MetadataUsed, s.MetadataTotal)
	}
	return nil
}

// Status reads the pool's state. It writes nothing: the counters are of the last commit, which is at most a second old.
func (p *Pool) Status(ctx context.Context) (Status, error) {
	return p.status(ctx, dm.StatusOptions{NoFlush: true})
}

// Commit makes all that was written to the pool's devices and has reached them durable, with their mappings, and
// returns the state after it; an error when the pool is not healthy then.
func (p *Pool) Commit(ctx context.Context) (Status, error) {
	p.reload.RLock()
	defer p.reload.RUnlock()
	st, err := p.status(ctx, dm.StatusOptions{})
	if err == nil {
		// The kernel drops the commit's result and prints the mode after it.
		err = writable(st.ThinPoolStatus)
	}
	if err != nil {
		return st, fmt.Errorf("committing pool %s: %w", p.config.Name, err)
	}
	return st, nil
}

func (p *Pool) status(ctx context.Context, o dm.StatusOptions) (Status, error) {
	s, err := p.dm.ThinPoolStatus(ctx, p.ref, o)
	if err != nil {
		return Status{}, fmt.Errorf("reading status of pool %s: %w", p.config.Name, err)
	}
	return p.statusOf(s), nil
}

// statusOf adds what the pool knows itself.
func (p *Pool) statusOf(s dm.ThinPoolStatus) Status {
	t := p.tuning.Load() // nil of a pool that is somebody else's
	return Status{
		ThinPoolStatus: s, BlockSize: p.config.BlockSize, Snapshots: p.snapshots.Load(),
		QueueTimedOut: t != nil && t.QueueIfFull && s.Mode == dm.PoolOutOfDataSpace && s.Full == dm.ErrorIfNoSpace,
	}
}
