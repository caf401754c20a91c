package thin

import (
	"context"
	"fmt"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/thinpool/metadata"
)

var _ snapshot.Accountant = (*driver)(nil)

// Account counts all thin devices of the pool. It reads each node of their trees at most twice, however many volumes
// share it.
func (d *driver) Account(ctx context.Context) (snapshot.Account, error) {
	var a snapshot.Account
	err := d.pool.Glance(ctx, func(m *metadata.View) (err error) {
		u, err := m.Usage(ctx)
		if err == nil {
			a, err = d.account(ctx, m, u)
		}
		return err
	})
	if err != nil {
		return snapshot.Account{}, translate(fmt.Errorf("counting what volumes share: %w", err))
	}
	return a, nil
}

// account leaves out what is of others in the pool.
func (d *driver) account(ctx context.Context, m *metadata.View, u metadata.Usage) (snapshot.Account, error) {
	a := snapshot.Account{Volumes: map[snapshot.VolumeID]snapshot.Share{}, Used: d.bytes(u.Used)}
	var ours []dm.DeviceID
	var exclusive int64
	for _, dev := range u.Devices {
		if id, ok := d.pool.FromMetadata(dev.ID); ok {
			share := snapshot.Share{Exclusive: d.bytes(dev.Exclusive), Shared: d.bytes(dev.Shared())}
			a.Volumes[snapshot.VolumeID(id)] = share
			exclusive += share.Exclusive
			ours = append(ours, dev.ID)
		}
	}
	if len(ours) < len(u.Devices) {
		g, err := m.Group(ctx, ours...)
		if err != nil {
			return a, err
		}
		a.Used = d.bytes(g.Exclusive)
	}
	a.Shared = a.Used - exclusive
	return a, nil
}

// Usages reads what the volumes share with their origins once.
func (d *driver) Usages(ctx context.Context, volumes []snapshot.Volume) ([]snapshot.Usage, error) {
	var all []snapshot.Usage
	err := d.pool.Glance(ctx, func(m *metadata.View) error {
		all = all[:0]
		for _, v := range volumes {
			u, err := d.usage(ctx, m, v)
			if err != nil {
				return fmt.Errorf("usage of volume %d: %w", v.ID, err)
			}
			all = append(all, u)
		}
		return nil
	})
	if err != nil {
		return nil, translate(err)
	}
	return all, nil
}

// Freed walks all trees once.
func (d *driver) Freed(ctx context.Context, ids ...snapshot.VolumeID) (int64, error) {
	devices := make([]dm.DeviceID, len(ids))
	for i, id := range ids {
		devices[i] = d.inMetadata(id)
	}
	var g metadata.GroupUsage
	err := d.pool.Glance(ctx, func(m *metadata.View) (err error) {
		g, err = m.Group(ctx, devices...)
		return err
	})
	if err != nil {
		return 0, translate(fmt.Errorf("counting what removing volumes frees: %w", err))
	}
	return d.bytes(g.Exclusive), nil
}
