package zfs

import (
	"context"
	"errors"
	"fmt"

	"github.com/dustin/go-humanize"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/zfsds"
)

// Usage is the pool's own account, compressed and with metadata. Before that of a volume that may
// be written to, everything written is waited for.
func (d *driver) Usage(ctx context.Context, v snapshot.Volume) (snapshot.Usage, error) {
	usage, err := d.usage(ctx, v)
	return usage, translate(err, "zfs: usage of volume %d", v.ID)
}

func (d *driver) usage(ctx context.Context, v snapshot.Volume) (snapshot.Usage, error) {
	of, err := d.writtenOut(ctx, v)
	if err != nil {
		return snapshot.Usage{}, err
	}
	added, err := d.added(ctx, v, of)
	return snapshot.Usage{Added: int64(added), Exact: true}, err
}

// Referenced is the pool's own account, as Usage is.
func (d *driver) Referenced(ctx context.Context, volumes ...snapshot.Volume) ([]int64, error) {
	all := make([]int64, len(volumes))
	for i, v := range volumes {
		of, err := d.writtenOut(ctx, v)
		if err != nil {
			return nil, translate(err, "zfs: counting what volume %d refers to", v.ID)
		}
		details, err := d.zfs.Get(ctx, of)
		if err != nil {
			return nil, translate(err, "zfs: counting what volume %d refers to", v.ID)
		}
		all[i] = int64(details.Referenced)
	}
	return all, nil
}

// writtenOut names the dataset or snapshot that has all of a volume, after what was written to it has reached the pool.
func (d *driver) writtenOut(ctx context.Context, v snapshot.Volume) (string, error) {
	if v.Sealed {
		return d.root.seal(v.ID), nil
	}
	if err := d.writeOut(v.ID); err != nil {
		return "", err
	}
	return d.root.volume(v.ID), d.zfs.Sync(ctx, string(d.root))
}

// added is what was written since the origin was sealed. The volume may have been made of a
// container that was made of that origin: what was written there is its, too. Where the
// origin is gone it is counted from what the volume was made of.
func (d *driver) added(ctx context.Context, v snapshot.Volume, of string) (zfsds.Bytes, error) {
	if v.ID != v.Origin {
		added, err := d.zfs.WrittenSince(ctx, of, d.root.seal(v.Origin))
		if err == nil || !errors.Is(err, zfsds.ErrNotFound) && !errors.Is(err, zfsds.ErrInvalid) {
			return added, err
		}
	}
	volume, err := d.zfs.Stat(ctx, d.root.volume(v.ID))
	if err != nil || volume.Origin == "" {
		return 0, err
	}
	return d.zfs.WrittenSince(ctx, of, volume.Origin)
}

// What has to be free for a new volume to be made, on the pool and, with a loopback file, on the
// file system below it. Below that only removing goes on, for which ZFS keeps room itself
// (spa_slop_shift).
const (
	leastFree     = 64 << 20
	leastFreePart = 50 // or one part of so many of the whole, if that is less
)

// Room refuses new volumes while there is still room to remove old ones.
func (d *driver) Room(ctx context.Context) error {
	all, err := d.zfs.Get(ctx, string(d.root))
	if err != nil {
		return translate(err, "zfs: looking for room")
	}
	if all.Available < min(leastFree, (all.Used+all.Available)/leastFreePart) {
		return fmt.Errorf("zfs: %w: %s left in %s: remove containers or images, or give its pool more",
			snapshot.ErrNoSpace, humanize.IBytes(uint64(all.Available)), d.root)
	}
	if !d.config.Loopback {
		return nil
	}
	if err := d.places.file().Room(); err != nil {
		return fmt.Errorf("zfs: %w", err)
	}
	return nil
}
