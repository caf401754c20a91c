package main

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/plugins/snapshots/devmapper"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/perf"
)

// openDevmapper makes a pool as containerd's documentation says, and its snapshotter
// with the settings that it takes itself.
func openDevmapper(ctx context.Context, s *site) (snapshots.Snapshotter, error) {
	root, err := s.fileSystem(ctx, "ext4")
	if err != nil {
		return nil, err
	}
	if err := perf.ThinPool(ctx, s.undo, s.dir, s.kernelName, s.o.diskSize); err != nil {
		return nil, err
	}
	s.undo.Add("devmapper's devices", func() error { return removeDevices(s.kernelName + "-snap-") })
	return s.closing(devmapper.NewSnapshotter(ctx, &devmapper.Config{
		RootPath: root, PoolName: s.kernelName, BaseImageSize: strconv.FormatInt(s.o.baseSize, 10) + "b",
	}))
}

// busyWait is how long a device may be busy that is to go.
const busyWait = 10 * time.Second

// removeDevices removes the devices that a snapshotter leaves active. What is in the
// pool goes with the pool's files.
func removeDevices(prefix string) error {
	ctx, cancel := perf.Undoing()
	defer cancel()
	client, err := dm.Open(dm.Options{})
	if err != nil {
		return err
	}
	list, err := client.List(ctx, dm.Prefix{Name: prefix})
	errs := []error{err}
	for _, device := range list {
		_, err := client.Remove(ctx, dm.Name(device.Name), dm.RemoveOptions{Wait: busyWait})
		errs = append(errs, err)
	}
	return errors.Join(append(errs, client.Close())...)
}
