package btrfs

import (
	"context"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/drivertest"
)

// BenchmarkStore is a container's life through the store, against the driver's
// calls, the bare ioctls, and btrfs-progs.
func BenchmarkStore(b *testing.B) {
	needBtrfs(b)
	f := factory()
	f.Floors = map[string]drivertest.Floor{"ioctls": ioctlFloor}
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

func ioctlFloor(_ testing.TB, s *snapshot.Store, layer snapshot.Info, target string) drivertest.Round {
	fs := s.Driver().(loopDriver).fs
	return func(_ context.Context, i int) error {
		path := pathOf(floorID + snapshot.VolumeID(i))
		if err := fs.Snapshot(pathOf(layer.Volume.ID), path, noOptions); err != nil {
			return err
		}
		if err := mountBriefly(filepath.Join(fs.Dir(), path), target); err != nil {
			return err
		}
		id, _, err := fs.Lookup(path)
		if err != nil {
			return err
		}
		_, err = fs.Delete(id)
		return err
	}
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
