package thin

import (
	"context"
	"fmt"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/layertar"
	"blockstore.dev/blockstore/thinpool/metadata"
)

var _ snapshot.Tracker = (*driver)(nil)

// Track knows only whether anything at all was written: two sealed volumes that map the same blocks are the same, file
// for file. On xfs sealing a volume mounts it and so writes to it, and that is enough to differ. Which files the differing
// blocks belong to it cannot tell: neither file system leads from a block or an inode to a name.
func (d *driver) Track(ctx context.Context, lower snapshot.Volume, above []snapshot.Volume) (layertar.Lineage, error) {
	if len(above) == 0 {
		return nil, fmt.Errorf("there is nothing above volume %d: %w", lower.ID, snapshot.ErrNotSupported)
	}
	upper := above[len(above)-1]
	if !lower.Sealed && lower.ID != snapshot.Base || !upper.Sealed {
		return nil, fmt.Errorf("volume %d or %d may be written to: %w", lower.ID, upper.ID, snapshot.ErrNotSupported)
	}
	equal := false
	err := d.pool.Glance(ctx, func(m *metadata.View) error {
		equal = true
		for _, err := range m.Delta(ctx, metadata.DeltaOptions{Left: d.inMetadata(lower.ID), Right: d.inMetadata(upper.ID)}) {
			equal = false
			return err
		}
		return nil
	})
	if err != nil {
		return nil, translate(fmt.Errorf("comparing volumes %d and %d: %w", lower.ID, upper.ID, err))
	}
	if !equal {
		return nil, fmt.Errorf("volumes %d and %d differ somewhere: %w", lower.ID, upper.ID, snapshot.ErrNotSupported)
	}
	return unchanged{}, nil
}

// unchanged is the lineage of a volume that is what its origin is.
type unchanged struct{}

func (unchanged) Same(uint64) bool { return true }

func (unchanged) Reveal(inode uint64) error {
	return fmt.Errorf("inode %d is to be looked at in a volume that is the same as another: %w", inode, snapshot.ErrCorrupt)
}
