package thinpool

import (
	"context"
	"fmt"

	"blockstore.dev/blockstore/dm"
)

// shareEpochs are the numbers at the end of a share that count epochs. There is one for each 128 devices, twice over.
const shareEpochs = 1 << 15

// epochID is the pool's number that stands for an epoch.
func (p *Pool) epochID(epoch uint64) dm.DeviceID {
	return p.config.Share.First + ShareDevices + dm.DeviceID(epoch)
}

// Epoch is a counter in the pool's metadata that belongs to the pool's user, and changes with them: metadata that are put
// back from a copy have an older one. It is the transaction id of a pool of our own. That of others' pools is theirs (LVM
// refuses a pool whose id it did not set); there it is the highest number among the share's last ones that has a thin
// device, an empty one.
func (p *Pool) Epoch(ctx context.Context) (uint64, error) {
	if p.config.Share == nil {
		st, err := p.Status(ctx)
		if err == nil && (st.Mode == dm.PoolFail || st.Mode == dm.PoolError) {
			err = st.Err() // it cannot say
		}
		return uint64(st.TransactionID), err
	}
	all, err := p.epochs(ctx)
	if err != nil {
		return 0, fmt.Errorf("reading the epoch: %w", err)
	}
	return all[len(all)-1], nil
}

// epochs are those that have a device, in ascending order: one, or two after a crash between the making of the new one
// and the removal of the old.
func (p *Pool) epochs(ctx context.Context) ([]uint64, error) {
	devices, err := p.allDevices(ctx)
	if err != nil {
		return nil, err
	}
	var all []uint64
	for _, d := range devices {
		if first := p.epochID(0); d.ID >= first && d.ID < first+shareEpochs {
			all = append(all, uint64(d.ID-first))
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%w: the share has lost its epoch", ErrCorrupt)
	}
	return all, nil
}

// SetEpoch changes the counter from one value to another, durably; ErrTransaction when it is not at from. In a share it
// can only rise.
func (p *Pool) SetEpoch(ctx context.Context, from, to uint64) error {
	if p.config.Share == nil {
		return p.SetTransactionID(ctx, dm.TransactionID(from), dm.TransactionID(to))
	}
	all, err := p.epochs(ctx)
	if err != nil {
		return fmt.Errorf("setting the epoch: %w", err)
	}
	if at := all[len(all)-1]; at != from || to <= from || to >= shareEpochs {
		return fmt.Errorf("setting the epoch from %d to %d: it is %d: %w", from, to, at, ErrTransaction)
	}
	if err := p.message(ctx, dm.CreateThinMessage(p.epochID(to))); err != nil {
		return fmt.Errorf("setting the epoch from %d to %d: %w", from, to, err)
	}
	for _, old := range all {
		if err := p.deleteNumber(ctx, p.epochID(old)); err != nil {
			return fmt.Errorf("setting the epoch from %d to %d: %w", from, to, err)
		}
	}
	return nil
}
