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
	_ snapshot.Scratcher = (*driver)(nil)
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

// Scratch leaves the flushes of ext4's journal out. To a thin pool each of them is a commit of its metadata, as often as
// something was written for the first time. Later kernels' xfs has no such option.
func (d *driver) Scratch(ms []mount.Mount) []mount.Mount {
	if d.config.FileSystem != ext4 {
		return ms
	}
	ms = slices.Clone(ms)
	for i := range ms {
		ms[i].Options = append(slices.Clone(ms[i].Options), "barrier=0")
	}
	return ms
}

// Flush commits the pool's metadata, which flushes the data first.
func (d *driver) Flush(ctx context.Context) error {
	_, err := d.pool.Commit(ctx)
	return translate(err)
}
