package btrfs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/btrfsvol"
	"blockstore.dev/blockstore/snapshot"
)

// Usage counts extents, which is exact: each once, compressed as it lies on disk,
// metadata left out. A writable volume's dirty data is written out first, for it
// has no extents before.
func (d *driver) Usage(ctx context.Context, v snapshot.Volume) (snapshot.Usage, error) {
	all, err := d.Usages(ctx, []snapshot.Volume{v})
	if err != nil {
		return snapshot.Usage{}, err
	}
	return all[0], nil
}

// Usages is Usage of many, which share one wait for what is dirty.
func (d *driver) Usages(ctx context.Context, volumes []snapshot.Volume) ([]snapshot.Usage, error) {
	usages := make([]snapshot.Usage, len(volumes))
	err := d.eachWrittenOut(ctx, volumes, func(i int, s, origin btrfsvol.Subvolume) error {
		added, err := d.fs.UsageSince(s.ID, since(s, origin))
		usages[i] = snapshot.Usage{Added: int64(added.Total()), Exact: true}
		return err
	})
	return usages, err
}

// Referenced counts extents as Usage does. It costs the time of all the volume's files where these were
// changed since it was last asked, and next to nothing where they were not.
func (d *driver) Referenced(ctx context.Context, volumes ...snapshot.Volume) ([]int64, error) {
	all := make([]int64, len(volumes))
	err := d.eachWrittenOut(ctx, volumes, func(i int, s, origin btrfsvol.Subvolume) (err error) {
		referenced, known := d.counts.of(s, origin)
		if !known {
			referenced, err = d.count(s, origin)
		}
		all[i] = int64(referenced)
		return err
	})
	return all, err
}

// eachWrittenOut hands volumes and their origins to fn, after what was dirty in them was waited for. Only then does the time of
// a volume's last change tell of all changes: two writes within a tick of the kernel's clock have one time.
func (d *driver) eachWrittenOut(ctx context.Context, volumes []snapshot.Volume, fn func(i int, s, origin btrfsvol.Subvolume) error) error {
	if slices.ContainsFunc(volumes, func(v snapshot.Volume) bool { return !v.Sealed }) {
		if err := d.fs.Sync(); err != nil {
			return translate(err, "btrfs: usage")
		}
	}
	for i, v := range volumes {
		if err := ctx.Err(); err != nil {
			return err
		}
		s, err := d.fs.Stat(pathOf(v.ID))
		if err != nil {
			return translate(err, "btrfs: usage of volume %d", v.ID)
		}
		origin, err := d.originOf(v)
		if err == nil {
			err = fn(i, s, origin)
		}
		if err != nil {
			return translate(err, "btrfs: usage of volume %d", v.ID)
		}
	}
	return nil
}

// count goes through all files of a volume, or through its origin's where those are the same: then the next
// volume made of that finds them counted.
func (d *driver) count(s, origin btrfsvol.Subvolume) (btrfsvol.Bytes, error) {
	if sameFiles(s, origin) {
		s = origin
	}
	all, err := d.fs.UsageSince(s.ID, 0)
	if err == nil {
		d.counts.put(s, all.Total())
	}
	return all.Total(), err
}

// originOf is the volume that another was made of, zero where it is not there or can be written to.
func (d *driver) originOf(v snapshot.Volume) (btrfsvol.Subvolume, error) {
	origin, err := d.fs.Stat(pathOf(v.Origin))
	if errors.Is(err, btrfsvol.ErrNotFound) || err == nil && (v.ID == v.Origin || !origin.ReadOnly) {
		return btrfsvol.Subvolume{}, nil
	}
	return origin, err
}

// since is the transaction after which what the volume has was written beyond its
// origin. It is the sealed origin's last change rather than the volume's creation: a
// volume that was made of a container, and whose origin is the container's layer, has
// from that container what was written in between.
func since(s, origin btrfsvol.Subvolume) btrfsvol.TransactionID {
	if origin.ID == 0 {
		return s.Created
	}
	return min(origin.Changed, s.Created)
}

// What has to be free for a new volume to be made, on the file system and, with a
// loopback file, on the host's below it. Below that only deleting goes on.
const (
	leastFree     = 64 << 20
	leastFreePart = 50 // or one part of so many of the file system, if that is less
)

// Room refuses new volumes while there is still room to delete old ones. statfs
// shows nothing available on btrfs also when it is metadata that runs out.
func (d *driver) Room(ctx context.Context) error {
	free, enough, err := d.free()
	if err == nil && !enough {
		if err := d.waker.wait(ctx); err != nil {
			return err
		}
		free, enough, err = d.free()
	}
	// Where metadata are short, btrfs says that it has nothing at all until chunks that are empty now are gone, which is
	// somewhat after their last file (fs/btrfs/super.c, btrfs_statfs).
	for deadline := time.Now().Add(cleanerWait); err == nil && !enough && d.waker.recent() && time.Now().Before(deadline); {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(emptyPoll):
		}
		if err := d.fs.Sync(); err != nil {
			return translate(err, "btrfs: looking for space that was freed")
		}
		free, enough, err = d.free()
	}
	if err == nil && !enough {
		err = fmt.Errorf("btrfs: %w: %s left on the file system of %s: remove containers or images, or make it larger",
			snapshot.ErrNoSpace, humanize.IBytes(free), d.fs.Dir())
	}
	if err != nil || !d.config.Loopback {
		return err
	}
	if err := d.places.file().Room(); err != nil {
		return fmt.Errorf("btrfs: %w", err)
	}
	return nil
}

// free is what the file system has available, and whether a new volume may take of it.
func (d *driver) free() (free uint64, enough bool, err error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(d.fs.Dir(), &stat); err != nil {
		return 0, false, fmt.Errorf("btrfs: statfs %s: %w", d.fs.Dir(), err)
	}
	block := uint64(stat.Bsize)
	free = stat.Bavail * block
	return free, free >= min(leastFree, stat.Blocks*block/leastFreePart), nil
}
