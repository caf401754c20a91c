package thin

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/mount"
	"blockstore.dev/blockstore/thinpool"
)

var (
	_ snapshot.Devicer   = (*driver)(nil)
	_ snapshot.Publisher = (*driver)(nil)
	_ snapshot.Scratcher = (*driver)(nil)
)

// Device looks among the pool's active devices.
func (d *driver) Device(ctx context.Context, id snapshot.VolumeID) (string, error) {
	active, err := d.pool.Active(ctx)
	if err != nil {
		return "", translate(err)
	}
	for _, a := range active {
		if a.ID == deviceID(id) {
			return a.Path, nil
		}
	}
	return "", fmt.Errorf("volume %d is not active: %w", id, snapshot.ErrNotFound)
}

// Who looks at every new device, as udev and blkid do, has it open for a moment.
const (
	glance     = 200 * time.Millisecond
	glanceStep = 5 * time.Millisecond
)

// MayMount compares the device's openers with the file systems that the kernel knows, in all mount namespaces. It is one ioctl for a
// device that was published, and none for others.
func (d *driver) MayMount(ctx context.Context, id snapshot.VolumeID) error {
	for deadline := time.Now().Add(glance); ; {
		dev, err := d.pool.Published(ctx, deviceID(id))
		if errors.Is(err, thinpool.ErrNotFound) {
			return nil
		}
		if err != nil {
			return translate(err)
		}
		if dev.OpenCount == 0 || d.config.FileSystem.mounted(dev.Path) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("volume %d: %w: its device %s is open, as by a virtual machine, and mounted nowhere here: end what has it first",
				id, snapshot.ErrBusy, dev.Path)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(glanceStep):
		}
	}
}

// mounted says whether the kernel has the file system of a device mounted, in whatever mount namespace.
func (fs fileSystem) mounted(device string) bool {
	_, err := os.Stat(filepath.Join("/sys/fs", string(fs), filepath.Base(device)))
	return err == nil
}

// Publish names the device by /dev/mapper: minor numbers are used again.
func (d *driver) Publish(ctx context.Context, id snapshot.VolumeID, ms []mount.Mount) ([]mount.Mount, error) {
	path, err := d.pool.Publish(ctx, deviceID(id))
	if err != nil {
		return nil, translate(err)
	}
	ms = slices.Clone(ms)
	for i := range ms {
		ms[i].Source = path
	}
	return ms, nil
}

// Scratch leaves the flushes of ext4's journal out. To a thin pool each of them is a commit of its metadata, as often as
// something was written for the first time. Later kernels' xfs has no such option.
func (d *driver) Scratch(ms []mount.Mount) []mount.Mount {
	if d.config.FileSystem != ext4 {
		return ms
	}
	ms = slices.Clone(ms)
	for i := range ms {
		ms[i].Options = append(slices.Clone(ms[i].Options), "barrier=0")
	}
	return ms
}

// Flush commits the pool's metadata, which flushes the data first.
func (d *driver) Flush(ctx context.Context) error {
	_, err := d.pool.Commit(ctx)
	return translate(err)
}
