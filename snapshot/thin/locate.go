package thin

import (
	"context"
	"fmt"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/mount"
)

var _ snapshot.Locator = (*driver)(nil)

// Locate asks the kernel which device the source is: its uuid names pool and volume.
func (d *driver) Locate(ctx context.Context, m mount.Mount) (snapshot.VolumeID, error) {
	if m.Type != string(d.config.FileSystem) {
		return 0, fmt.Errorf("a mount of type %q, not %s: %w", m.Type, d.config.FileSystem, snapshot.ErrNotFound)
	}
	id, err := d.pool.Find(ctx, m.Source)
	if err != nil {
		return 0, translate(err)
	}
	return snapshot.VolumeID(id), nil
}
