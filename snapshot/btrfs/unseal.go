package btrfs

import (
	"context"

	"blockstore.dev/blockstore/snapshot"
)

var _ snapshot.Unsealer = (*driver)(nil)

// Unseal finds those that are read-only by one walk of the tree of roots. One that is
// missing is Check's to tell.
func (d *driver) Unseal(_ context.Context, ids ...snapshot.VolumeID) error {
	if len(ids) == 0 {
		return nil
	}
	here, err := d.present()
	if err != nil {
		return err
	}
	asked := map[snapshot.VolumeID]bool{}
	for _, id := range ids {
		asked[id] = true
	}
	for _, p := range here {
		if !p.known || !p.subvolume.ReadOnly || !asked[p.id] {
			continue
		}
		if err := d.fs.SetReadOnly(pathOf(p.id), false); err != nil {
			return translate(err, "btrfs: unseal volume %d", p.id)
		}
	}
	return nil
}
