package btrfs

import (
	"context"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/btrfsvol"
	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/drivertest"
)

// BenchmarkStore is a container's life through the store, against the driver's
// calls, the same ioctls without bookkeeping, those without a size limit, and
// btrfs-progs (which sets no limit either).
func BenchmarkStore(b *testing.B) {
	needBtrfs(b)
	f := factory()
	f.Floors = map[string]drivertest.Floor{"ioctls": ioctlFloor(true), "ioctls-no-quota": ioctlFloor(false)}
	if _, err := exec.LookPath("btrfs"); err == nil {
		f.Floors["btrfs-progs"] = progsFloor
	}
	drivertest.Bench(b, f)
}

// floorID keeps the floors' volumes apart from the store's.
const floorID snapshot.VolumeID = 1 << 21

func mountBriefly(path, target string) error {
	if err := unix.Mount(path, target, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	return unix.Unmount(target, 0)
}

func ioctlFloor(quota bool) drivertest.Floor {
	first := floorID
	if quota {
		first *= 4
	}
	return func(_ testing.TB, s *snapshot.Store, layer snapshot.Info, target string) drivertest.Round {
		d := s.Driver().(loopDriver).driver
		return func(_ context.Context, i int) error {
			return d.bareLife(first+snapshot.VolumeID(i), layer, target, quota)
		}
	}
}

func (d *driver) bareLife(volume snapshot.VolumeID, layer snapshot.Info, target string, quota bool) error {
	path, options := pathOf(volume), noOptions
	if quota {
		groups, err := d.makeGroup(volume, btrfsvol.Bytes(layer.Volume.Size))
		if err != nil {
			return err
		}
		options.Qgroups = groups
	}
	if err := d.fs.Snapshot(pathOf(layer.Volume.ID), path, options); err != nil {
		return err
	}
	if err := mountBriefly(filepath.Join(d.fs.Dir(), path), target); err != nil {
		return err
	}
	id, _, err := d.fs.Lookup(path)
	if err != nil {
		return err
	}
	deleted, err := d.fs.Delete(id)
	if err == nil && quota {
		err = d.dropGroup(volume, deleted)
	}
	return err
}

func progsFloor(_ testing.TB, s *snapshot.Store, layer snapshot.Info, target string) drivertest.Round {
	dir := s.Driver().(loopDriver).fs.Dir()
	return func(ctx context.Context, i int) error {
		path := filepath.Join(dir, pathOf(2*floorID+snapshot.VolumeID(i)))
		origin := filepath.Join(dir, pathOf(layer.Volume.ID))
		if err := exec.CommandContext(ctx, "btrfs", "subvolume", "snapshot", origin, path).Run(); err != nil {
			return err
		}
		if err := mountBriefly(path, target); err != nil {
			return err
		}
		return exec.CommandContext(ctx, "btrfs", "subvolume", "delete", path).Run()
	}
}
