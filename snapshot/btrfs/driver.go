package btrfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/btrfsvol"
	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/failpoint"
	"blockstore.dev/blockstore/snapshot/mount"
)

// shards is the number of directories that volumes are spread over. It is part of
// the layout on disk.
const shards = 64

func shardName(i int) string { return fmt.Sprintf("%02x", i) }

// pathOf is a volume's path in the volumes' subvolume. Ids that follow each other,
// as concurrent creators have them, lie in different shards.
func pathOf(id snapshot.VolumeID) string {
	return fmt.Sprintf("%s/%d", shardName(int(id%shards)), id)
}

// driver is a backing store that is up.
type driver struct {
	config config
	places places
	fs     *btrfsvol.FS // seen from the volumes' subvolume
	where  location     // of the same
	id     btrfsvol.SubvolumeID
	shards map[uint64]int // by inode
	waker  *waker
	counts counts
}

// loopDriver is one on a file system of our own, which can grow and be trimmed.
type loopDriver struct{ *driver }

var (
	_ snapshot.Driver  = (*driver)(nil)
	_ snapshot.Settler = (*driver)(nil)
	_ snapshot.Roomy   = (*driver)(nil)
	_ snapshot.Stacker = (*driver)(nil)

	_ snapshot.UsageCounter = (*driver)(nil)
	_ snapshot.Grower       = loopDriver{}
	_ snapshot.Trimmer      = loopDriver{}
)

// Open brings the file system up and makes sure that it is the store's.
func (Kind) Open(ctx context.Context, o snapshot.OpenOptions) (_ snapshot.Driver, err error) {
	c, err := parseConfig(o.Config)
	if err != nil {
		return nil, err
	}
	p, err := placesOf(o.Root)
	if err != nil {
		return nil, err
	}
	if c.Loopback {
		if err := p.bringUp(ctx); err != nil {
			return nil, translate(err, "btrfs: open")
		}
		defer func() {
			if err != nil {
				err = errors.Join(err, p.takeDown())
			}
		}()
	}
	d, err := open(c, p)
	if err != nil {
		return nil, err
	}
	if c.Loopback {
		return loopDriver{d}, nil
	}
	return d, nil
}

func open(c config, p places) (_ *driver, err error) {
	dir := filepath.Join(p.top(c.Loopback), volumesName)
	fs, err := btrfsvol.Open(dir)
	if err != nil {
		return nil, translate(err, "btrfs: open")
	}
	d := &driver{config: c, places: p, fs: fs, shards: map[uint64]int{}, waker: &waker{fs: fs}}
	defer func() {
		if err != nil {
			err = errors.Join(err, fs.Close())
		}
	}()
	s, err := fs.Stat("")
	if err != nil {
		return nil, translate(err, "btrfs: open")
	}
	d.id = s.ID
	if fs.FSID() != c.FSID || s.UUID != c.Volumes {
		return nil, fmt.Errorf("btrfs: %s: %w: the catalog knows subvolume %s of file system %s, here is %s of %s: put the right one there",
			dir, snapshot.ErrCorrupt, c.Volumes, c.FSID, s.UUID, fs.FSID())
	}
	if d.where, err = locate(dir); err != nil {
		return nil, err
	}
	for i := range shards {
		var stat unix.Stat_t
		if err := unix.Stat(filepath.Join(dir, shardName(i)), &stat); err != nil {
			return nil, translate(err, "btrfs: shard %s of %s", shardName(i), dir)
		}
		d.shards[stat.Ino] = i
	}
	return d, d.sweepGroups()
}

func (*driver) Name() string { return name }

// Close gives the file system up. Volumes in use stay usable.
func (d *driver) Close(context.Context) error {
	err := errors.Join(d.waker.close(), d.fs.Close())
	if d.config.Loopback {
		err = errors.Join(err, d.places.takeDown())
	}
	return err
}

// Create makes a snapshot: one commit, which concurrent creations share. It forks
// nothing and costs the same however many volumes there are.
//
// An origin that is written to meanwhile gives what a power cut would leave: all that
// was synced before, and each file at some instant, but not all files at the same one.
// The kernel writes dirty files out one after the other, and can freeze the whole file
// system only, in which no snapshot can be made then. Who needs one instant stops the
// container's processes, as Docker's commit does.
func (d *driver) Create(ctx context.Context, id snapshot.VolumeID, o snapshot.CreateOptions) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	size, err := o.Origin.LimitFor(o.Size)
	if err != nil {
		return fmt.Errorf("btrfs: %w", err)
	}
	if err := d.Room(ctx); err != nil {
		return err
	}
	return translate(d.snapshot(ctx, o.Origin.ID, id, limitOf(size, o.OriginBytes)), "btrfs: create volume %d from %d", id, o.Origin.ID)
}

// snapshot makes the volume id of what origin holds. A left-over of that id goes
// first; space that was deleted and not freed yet is waited for.
func (d *driver) snapshot(ctx context.Context, origin, id snapshot.VolumeID, limit btrfsvol.Bytes) error {
	err := d.snapshotOnce(origin, id, limit)
	switch {
	case errors.Is(err, btrfsvol.ErrExists):
		if err := d.delete(id); err != nil {
			return err
		}
	case errors.Is(err, unix.ENOSPC):
		if err := d.waker.wait(ctx); err != nil {
			return err
		}
	default:
		return err
	}
	return d.snapshotOnce(origin, id, limit)
}

func (d *driver) snapshotOnce(origin, id snapshot.VolumeID, limit btrfsvol.Bytes) error {
	groups, err := d.makeGroup(id, limit)
	if err != nil {
		return err
	}
	failpoint.Hit("btrfs: group made, snapshot not")
	err = d.fs.Snapshot(pathOf(origin), pathOf(id), btrfsvol.CreateOptions{Qgroups: groups})
	failpoint.Hit("btrfs: snapshot made")
	if err != nil && !errors.Is(err, btrfsvol.ErrExists) {
		err = errors.Join(err, d.dropGroup(id, nil))
	}
	return err
}

// Seal sets the subvolume read-only, which stops writers, and then writes its data
// out: the flag alone does not.
func (d *driver) Seal(ctx context.Context, v snapshot.Volume) error {
	if err := d.idle(ctx, v.ID); err != nil {
		return err
	}
	return translate(d.seal(v.ID), "btrfs: seal volume %d", v.ID)
}

// SealBelow has the snapshot's commit write the data out.
func (d *driver) SealBelow(ctx context.Context, v snapshot.Volume, next snapshot.VolumeID, layers int64) error {
	err := d.idle(ctx, v.ID)
	if err == nil {
		err = d.Room(ctx)
	}
	if err == nil {
		err = translate(d.sealBelow(ctx, v, next, layers), "btrfs: seal volume %d below volume %d", v.ID, next)
	}
	return err
}

func (d *driver) sealBelow(ctx context.Context, v snapshot.Volume, next snapshot.VolumeID, layers int64) error {
	if err := d.fs.SetReadOnly(pathOf(v.ID), true); err != nil {
		return err
	}
	failpoint.Hit("btrfs: read-only, no snapshot of it")
	if err := d.snapshot(ctx, v.ID, next, limitOf(v.Size, layers)); err != nil {
		return err
	}
	_, err := d.limitAbove(v.ID, next, v.Size, layers)
	return err
}

// idle refuses a volume that is mounted.
func (d *driver) idle(ctx context.Context, id snapshot.VolumeID) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	uses, err := d.where.uses()
	if err != nil {
		return err
	}
	return d.where.busy(uses, id)
}

func (d *driver) seal(id snapshot.VolumeID) error {
	if err := d.fs.SetReadOnly(pathOf(id), true); err != nil {
		return err
	}
	failpoint.Hit("btrfs: read-only, not synced")
	return d.fs.Sync()
}

// Remove deletes volumes by their subvolumes' ids, what a container nested in them
// first, and has one commit for all that are removed about then wake the cleaner. A
// power cut before that commit may bring volumes back, as ones that the catalog does
// not know.
func (d *driver) Remove(ctx context.Context, ids ...snapshot.VolumeID) error {
	uses, err := d.where.uses()
	if err != nil {
		return err
	}
	var errs []error
	for _, id := range ids {
		err := ctx.Err()
		if err == nil && id == snapshot.Base {
			err = fmt.Errorf("btrfs: %w: the base is not removed", snapshot.ErrInvalid)
		}
		if err == nil {
			err = d.where.busy(uses, id)
		}
		if err == nil {
			err = translate(d.delete(id), "btrfs: remove volume %d", id)
		}
		failpoint.Hit("btrfs: volume deleted")
		errs = append(errs, err)
	}
	d.waker.noteRemoval()
	return errors.Join(errs...)
}

// delete deletes a volume and its quota group, if they exist.
func (d *driver) delete(id snapshot.VolumeID) error {
	subvolume, isRoot, err := d.fs.Lookup(pathOf(id))
	if errors.Is(err, btrfsvol.ErrNotFound) {
		return d.dropGroup(id, nil)
	}
	if err != nil {
		return err
	}
	if !isRoot {
		return fmt.Errorf("%w: %s is a plain directory: look at it and remove it", snapshot.ErrCorrupt, pathOf(id))
	}
	deleted, err := d.fs.Delete(subvolume)
	if errors.Is(err, unix.EROFS) { // a sealed volume lets go of none of the subvolumes in it
		var rest []btrfsvol.SubvolumeID
		if err = d.fs.SetReadOnly(pathOf(id), false); err == nil {
			rest, err = d.fs.Delete(subvolume)
		}
		deleted = append(deleted, rest...)
	}
	failpoint.Hit("btrfs: subvolume deleted, group not")
	if err != nil {
		return err
	}
	return d.dropGroup(id, deleted)
}

// Activate has nothing to do but to name the bind mount.
func (d *driver) Activate(ctx context.Context, v snapshot.Volume, readOnly bool) ([]mount.Mount, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	dir := d.dirOf(v.ID)
	if _, err := os.Lstat(dir); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			err = errors.Join(snapshot.ErrNotFound, err)
		}
		return nil, fmt.Errorf("btrfs: activate volume %d: %w", v.ID, err)
	}
	access := "rw"
	if readOnly || v.Sealed {
		access = "ro"
	}
	return []mount.Mount{{Type: "bind", Source: dir, Options: []string{"bind", access}}}, nil
}

func (d *driver) dirOf(id snapshot.VolumeID) string { return filepath.Join(d.fs.Dir(), pathOf(id)) }

// Deactivate looks whether the volume is still mounted.
func (d *driver) Deactivate(ctx context.Context, id snapshot.VolumeID) error {
	return d.idle(context.WithoutCancel(ctx), id)
}
