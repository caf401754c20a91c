package thin

import (
	"context"
	"fmt"
	"slices"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/mount"
)

var (
	_ snapshot.Devicer   = (*driver)(nil)
	_ snapshot.Publisher = (*driver)(nil)
)

// Device looks among the pool's active devices.
func (d *driver) Device(ctx context.Context, id snapshot.VolumeID) (string, error) {
	active, err := d.pool.Active(ctx)
	if err != nil {
		return "", translate(err)
	}
	for _, a := range active {
		if a.ID == deviceID(id) {
			return a.Path, nil
		}
	}
	return "", fmt.Errorf("volume %d is not active: %w", id, snapshot.ErrNotFound)
}

// Publish names the device by /dev/mapper: minor numbers are used again.
func (d *driver) Publish(ctx context.Context, id snapshot.VolumeID, ms []mount.Mount) ([]mount.Mount, error) {
	path, err := d.pool.Publish(ctx, deviceID(id))
	if err != nil {
		return nil, translate(err)
	}
	ms = slices.Clone(ms)
	for i := range ms {
		ms[i].Source = path
	}
	return ms, nil
}
