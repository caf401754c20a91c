package thinpool

import (
	"context"
	"errors"

	"blockstore.dev/blockstore/thinpool/metadata"
)

// DeviceDetails is what the metadata say of a thin device, active or not.
type DeviceDetails = metadata.Device

// Devices lists all thin devices of the pool in order of their numbers, from its metadata as of a commit that it
// makes. It reads them beside the running kernel, see Glance.
func (p *Pool) Devices(ctx context.Context) ([]DeviceDetails, error) {
	all, err := p.allDevices(ctx)
	return p.config.ours(all), err
}

// allDevices is Devices with those of others, by the pool's numbers.
func (p *Pool) allDevices(ctx context.Context) ([]DeviceDetails, error) {
	if _, err := p.Commit(ctx); err != nil && !errors.Is(err, ErrReadOnly) {
		return nil, err
	}
	var all []DeviceDetails
	err := p.Glance(ctx, func(v *metadata.View) (err error) {
		all, err = v.Devices(ctx)
		return err
	})
	return all, err
}
