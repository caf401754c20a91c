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
	of := d.root.seal(v.ID)
	if !v.Sealed {
		of = d.root.volume(v.ID)
		if err := d.writeOut(v.ID); err != nil {
			return snapshot.Usage{}, err
		}
		if err := d.zfs.Sync(ctx, string(d.root)); err != nil {
			return snapshot.Usage{}, err
		}
	}
	details, err := d.zfs.Get(ctx, of)
	if err != nil {
		return snapshot.Usage{}, err
	}
	added, err := d.added(ctx, v, of)
	return snapshot.Usage{Referenced: int64(details.Referenced), Added: int64(added), Exact: true}, err
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
