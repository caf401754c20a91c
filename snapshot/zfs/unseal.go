package zfs

import (
	"context"
	"errors"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/zfsds"
)

var _ snapshot.Unsealer = (*driver)(nil)

// Unseal takes away seals of volumes that are not sealed. They would keep nobody from writing, but
// hold what is deleted later.
func (d *driver) Unseal(ctx context.Context, ids ...snapshot.VolumeID) (err error) {
	if d.tidy.untouched() { // as when a store with a thousand containers is opened
		return nil
	}
	defer d.tidy.leftIf(&err)
	var drop []string
	for _, id := range ids {
		_, err := d.zfs.Stat(ctx, d.root.seal(id))
		if err == nil {
			drop = append(drop, d.root.seal(id))
		} else if !errors.Is(err, zfsds.ErrNotFound) {
			return translate(err, "zfs: unseal volume %d", id)
		}
	}
	if len(drop) == 0 {
		return nil
	}
	if err := d.tidy.begin(); err != nil {
		return err
	}
	return translate(d.zfs.DestroySnapshots(ctx, true, drop...), "zfs: unseal volumes")
}
