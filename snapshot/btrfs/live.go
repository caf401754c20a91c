package btrfs

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"strconv"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot"
)

var _ snapshot.Meter = (*driver)(nil)

// Live are the volumes that are mounted here. The kernel counts input and output of the file system's disks only, not of
// subvolumes.
func (d *driver) Live(context.Context) (map[snapshot.VolumeID]snapshot.Live, error) {
	uses, err := d.where.uses()
	if err != nil {
		return nil, err
	}
	disks, err := d.disks()
	if err != nil {
		return nil, err
	}
	live := map[snapshot.VolumeID]snapshot.Live{}
	for _, e := range uses {
		id, ok := d.idOf(e.Root)
		if !ok {
			continue
		}
		var stat unix.Stat_t
		err := unix.Stat(d.dirOf(id), &stat)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was removed under its mount
		}
		if err != nil {
			return nil, err
		}
		live[id] = snapshot.Live{Device: stat.Dev, Disks: disks}
	}
	return live, nil
}

// idOf is the volume whose root directory a mount shows.
func (d *driver) idOf(root string) (snapshot.VolumeID, bool) {
	n, err := strconv.ParseUint(path.Base(root), 10, 32)
	id := snapshot.VolumeID(n)
	return id, err == nil && root == path.Join(d.where.path, pathOf(id))
}

// disks are the device numbers of those that are there.
func (d *driver) disks() ([]uint64, error) {
	devices, err := d.fs.Devices()
	if err != nil {
		return nil, translate(err, "btrfs: devices")
	}
	var all []uint64
	for _, device := range devices {
		var stat unix.Stat_t
		if unix.Stat(device.Path, &stat) == nil {
			all = append(all, stat.Rdev)
		}
	}
	return all, nil
}
