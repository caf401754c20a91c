package thin

import (
	"context"
	"fmt"
	"time"

	"blockstore.dev/blockstore/ioctl"
	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/layertar"
	"blockstore.dev/blockstore/thinpool/metadata"
)

var _ snapshot.Tracker = (*driver)(nil)

// Track knows of two sealed volumes that map the same blocks that they are the same, file for file. On xfs sealing a volume
// mounts it and so writes to it, and that is enough to differ; nothing else is known there. On ext4 it compares the inodes
// in the blocks that differ. Those of an upper volume that may be written to it has written out before: until they are, who
// makes, changes or removes a file there waits.
func (d *driver) Track(ctx context.Context, lower snapshot.Volume, above []snapshot.Volume, since time.Time) (layertar.Account, error) {
	if len(above) == 0 {
		return nil, snapshot.CannotTell("there is nothing above volume %d", lower.ID)
	}
	upper := above[len(above)-1]
	if !lower.Sealed && lower.ID != snapshot.Base || !upper.Sealed && d.config.FileSystem != ext4 {
		return nil, snapshot.CannotTell("volume %d or %d may be written to", lower.ID, upper.ID)
	}
	if !upper.Sealed {
		if err := d.checkpoint(ctx, upper); err != nil {
			return nil, snapshot.CannotTell("the inodes of volume %d were not written out: %w", upper.ID, err)
		}
	}
	differ, err := d.differ(ctx, lower.ID, upper.ID)
	if err != nil {
		return nil, translate(fmt.Errorf("comparing volumes %d and %d: %w", lower.ID, upper.ID, err))
	}
	if len(differ) == 0 {
		return unchanged{}, nil
	}
	if d.config.FileSystem != ext4 {
		return nil, snapshot.CannotTell("volumes %d and %d differ somewhere", lower.ID, upper.ID)
	}
	l, err := d.compareInodes(ctx, lower, upper, differ, since)
	if err != nil {
		return nil, translate(fmt.Errorf("comparing the inodes of volumes %d and %d: %w", lower.ID, upper.ID, err))
	}
	return l, nil
}

// differ is where the volumes do not map the same blocks. On xfs the first place is enough.
func (d *driver) differ(ctx context.Context, lower, upper snapshot.VolumeID) (spans []span, err error) {
	block := int64(d.config.Pool.BlockSize.Bytes())
	err = d.pool.Glance(ctx, func(m *metadata.View) error {
		spans = spans[:0]
		for c, err := range m.Delta(ctx, metadata.DeltaOptions{Left: d.inMetadata(lower), Right: d.inMetadata(upper)}) {
			if err != nil {
				return err
			}
			spans = append(spans, span{int64(c.Begin) * block, int64(c.Begin+c.Length) * block})
			if d.config.FileSystem != ext4 {
				return nil
			}
		}
		return nil
	})
	return spans, err
}

func (d *driver) compareInodes(ctx context.Context, lower, upper snapshot.Volume, differ []span, since time.Time) (layertar.Account, error) {
	below, err := d.activate(ctx, lower, true)
	if err != nil {
		return nil, err
	}
	above, err := d.activate(ctx, upper, upper.Sealed)
	if err != nil {
		return nil, err
	}
	return compareInodes(ctx, below.Path, above.Path, differ, since, !upper.Sealed)
}

// checkpoint has the inodes of a volume that is mounted lie in their tables. It fails where that is mounted for reading, on an
// old kernel, and where the pool has no room, which may be needed for a table's copy.
func (d *driver) checkpoint(ctx context.Context, v snapshot.Volume) error {
	if err := d.Room(ctx); err != nil {
		return err
	}
	dev, err := d.activate(ctx, v, false)
	if err != nil {
		return err
	}
	return ext4.with(dev.Path, ioctl.CheckpointExt4)
}

// unchanged is the lineage of a volume that is what its origin is.
type unchanged struct{}

func (unchanged) Same(uint64) bool      { return true }
func (unchanged) Untouched(uint64) bool { return true }
func (unchanged) Exact() bool           { return true }

func (unchanged) Reveal(inode uint64) error {
	return fmt.Errorf("inode %d is to be looked at in a volume that is the same as another: %w", inode, snapshot.ErrCorrupt)
}
