package lvm

import (
	"context"
	"fmt"
	"strings"

	"blockstore.dev/blockstore/thinpool"
)

// Lookup finds a thin pool by VG/LV, or by the path of its device below /dev. What is no thin pool is thinpool.ErrInvalid.
func (t *Tool) Lookup(ctx context.Context, path string) (Volume, error) {
	path = strings.TrimPrefix(path, "/dev/")
	return t.pick(ctx, path, func(v Volume) bool { return v.Path() == path })
}

// Find finds a thin pool by LVM's uuids, whatever it is called now.
func (t *Tool) Find(ctx context.Context, groupUUID, uuid string) (Volume, error) {
	return t.pick(ctx, uuid, func(v Volume) bool { return v.GroupUUID == groupUUID && v.UUID == uuid })
}

// Owner finds the thin pool that a device-mapper device is one of LVM's layers of, by the device's uuid.
func (t *Tool) Owner(ctx context.Context, deviceUUID string) (Volume, error) {
	return t.pick(ctx, deviceUUID, func(v Volume) bool {
		return strings.HasPrefix(deviceUUID, strings.TrimSuffix(v.DeviceUUID(), poolLayer))
	})
}

func (t *Tool) pick(ctx context.Context, name string, is func(Volume) bool) (Volume, error) {
	all, err := t.Volumes(ctx)
	if err != nil {
		return Volume{}, err
	}
	for _, v := range all {
		switch {
		case !is(v):
		case !v.Pool:
			return Volume{}, fmt.Errorf("logical volume %s is no thin pool: %w", v.Path(), thinpool.ErrInvalid)
		default:
			return v, nil
		}
	}
	return Volume{}, fmt.Errorf("thin pool %s: %w", name, ErrNotFound)
}

// Activate makes a volume's devices.
func (t *Tool) Activate(ctx context.Context, v Volume) error {
	_, err := t.run(ctx, "lvchange", "--activate", "y", "--ignoreactivationskip", v.Path())
	return err
}
