package thin

import (
	"context"
	"fmt"

	"blockstore.dev/blockstore/snapshot"
)

var _ snapshot.Devicer = (*driver)(nil)

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
