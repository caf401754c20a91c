package btrfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/mount"
)

var _ snapshot.Locator = (*driver)(nil)

// Locate takes the volume's number from the bind mount's source and compares what is
// there with the volume itself. Each subvolume has a device number of its own.
func (d *driver) Locate(_ context.Context, m mount.Mount) (snapshot.VolumeID, error) {
	foreign := fmt.Errorf("btrfs: %s: %w: it shows no volume of this store", m.Source, snapshot.ErrNotFound)
	id, err := strconv.ParseUint(filepath.Base(m.Source), 10, 32)
	if err != nil || !m.Binds() || !filepath.IsAbs(m.Source) || id > uint64(snapshot.MaxVolumeID) {
		return 0, foreign
	}
	there, err := os.Stat(m.Source)
	if err == nil {
		var volume os.FileInfo
		volume, err = os.Stat(d.dirOf(snapshot.VolumeID(id)))
		if err == nil && !os.SameFile(there, volume) {
			return 0, foreign
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return 0, foreign
	}
	if err != nil {
		return 0, fmt.Errorf("btrfs: looking for the volume of a mount: %w", err)
	}
	return snapshot.VolumeID(id), nil
}
