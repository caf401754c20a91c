package thin

import (
	"context"
	"fmt"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/thinpool"
)

var _ snapshot.Repairer = Kind{}

// Repair has the pool's metadata checked, and rebuilt where they are damaged, by thin-provisioning-tools. The metadata of
// a pool on devices are kept, and made anew, below the store's root.
func (k Kind) Repair(ctx context.Context, at snapshot.OpenOptions, o snapshot.RepairOptions) (snapshot.Repaired, error) {
	c, err := parseConfig(at)
	if err != nil {
		return snapshot.Repaired{}, err
	}
	client, err := k.client()
	if err != nil {
		return snapshot.Repaired{}, err
	}
	defer client.Close()
	if !o.Yes && c.Pool.Share == nil {
		return snapshot.Repaired{}, fmt.Errorf("the thin pool %s (%s) would be taken down, and its metadata in %s checked (thin_check); "+
			"what is damaged would be made anew of what can be found (thin_repair), and the old metadata kept in %s: %w",
			c.Pool.PoolName(), stateOf(ctx, client, c), c.Pool.Metadata, driverDir(at.Root), snapshot.ErrUnconfirmed)
	}
	found, err := thinpool.Repair(ctx, client, c.Pool, thinpool.RepairOptions{
		Dir: driverDir(at.Root), TransactionID: dm.TransactionID(o.Epoch), Say: o.Say,
	})
	r := snapshot.Repaired{Damage: found.Damage, Rebuilt: found.Rebuilt, Kept: found.Kept, Volumes: []snapshot.VolumeID{}}
	for _, id := range found.After {
		r.Volumes = append(r.Volumes, snapshot.VolumeID(id))
	}
	return r, translate(err)
}

// stateOf is the pool's state in the kernel's words.
func stateOf(ctx context.Context, client *dm.Client, c config) string {
	st, err := client.ThinPoolStatus(ctx, dm.UUID(c.Pool.PoolUUID()), dm.StatusOptions{NoFlush: true})
	switch {
	case err != nil:
		return "which is down"
	case st.NeedsCheck:
		return st.Mode.String() + ", needs_check"
	}
	return st.Mode.String()
}
