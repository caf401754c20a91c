package zfs

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/drivertest"
	"blockstore.dev/blockstore/zfsds"
)

// BenchmarkStore is a container's life through the store, against the driver's calls, the same
// requests to /dev/zfs without bookkeeping, and zfs(8).
func BenchmarkStore(b *testing.B) {
	needZFS(b)
	f := factory()
	f.Floors = map[string]drivertest.Floor{"ioctls": ioctlFloor, "zfs": commandFloor}
	drivertest.Bench(b, f)
}

// floorID keeps the floors' volumes apart from the store's.
const floorID snapshot.VolumeID = 1 << 21

func mountBriefly(name, target string) error {
	if err := zfsds.Mount(name, target, false); err != nil {
		return err
	}
	return unix.Unmount(target, 0)
}

func ioctlFloor(_ testing.TB, s *snapshot.Store, layer snapshot.Info, target string) drivertest.Round {
	d := s.Driver().(loopDriver).driver
	limit := zfsds.Properties{"refquota": strconv.FormatInt(layer.Volume.Size, 10)}
	return func(ctx context.Context, i int) error {
		name := d.root.volume(floorID + snapshot.VolumeID(i))
		if err := d.zfs.Clone(ctx, d.root.seal(layer.Volume.ID), name, limit); err != nil {
			return err
		}
		if err := mountBriefly(name, target); err != nil {
			return err
		}
		return d.zfs.Destroy(ctx, name)
	}
}

func commandFloor(_ testing.TB, s *snapshot.Store, layer snapshot.Info, target string) drivertest.Round {
	d := s.Driver().(loopDriver).driver
	return func(ctx context.Context, i int) error {
		name := d.root.volume(2*floorID + snapshot.VolumeID(i))
		limit := fmt.Sprintf("refquota=%d", layer.Volume.Size)
		if err := exec.CommandContext(ctx, "zfs", "clone", "-o", limit, d.root.seal(layer.Volume.ID), name).Run(); err != nil {
			return err
		}
		if err := mountBriefly(name, target); err != nil {
			return err
		}
		return exec.CommandContext(ctx, "zfs", "destroy", name).Run()
	}
}
