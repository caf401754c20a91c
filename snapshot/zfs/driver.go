package zfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/failpoint"
	"blockstore.dev/blockstore/snapshot/gauge"
	"blockstore.dev/blockstore/snapshot/mount"
	"blockstore.dev/blockstore/zfsds"
)

// driver is a backing store that is up.
type driver struct {
	config config
	places places
	zfs    *zfsds.Handle
	root   dataset
	gauge  *gauge.Gauge
	tidy   tidiness
	// instants counts the snapshots that volumes were looked at by.
	instants atomic.Uint64
}

// loopDriver is one on a pool of our own, which can grow and be trimmed.
type loopDriver struct{ *driver }

var (
	_ snapshot.Driver  = (*driver)(nil)
	_ snapshot.Roomy   = (*driver)(nil)
	_ snapshot.Locator = (*driver)(nil)
	_ snapshot.Gauger  = (*driver)(nil)
	_ snapshot.Prober  = (*driver)(nil)
	_ snapshot.Grower  = loopDriver{}
	_ snapshot.Trimmer = loopDriver{}
)

// Open imports the pool, if it is the store's own, makes sure that the dataset is the store's, and
// clears away what a crash left of creations and removals.
func (k Kind) Open(ctx context.Context, o snapshot.OpenOptions) (_ snapshot.Driver, err error) {
	c, err := parseConfig(o.Config)
	if err != nil {
		return nil, err
	}
	p, err := placesOf(o.Root)
	if err != nil {
		return nil, err
	}
	h, err := zfsds.Open(ctx, zfsds.Options{Access: k.Access})
	if err != nil {
		return nil, translate(err, "zfs: open")
	}
	d := &driver{config: c, places: p, zfs: h, root: dataset(c.Dataset), gauge: gauge.At(p.gauge), tidy: tidiness{note: p.tidy, doubt: true}}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close(context.WithoutCancel(ctx)))
		}
	}()
	if err := gauge.Clear(p.gauge); err != nil {
		return nil, err
	}
	if err := d.bringUp(ctx); err != nil {
		return nil, err
	}
	if err := d.identify(ctx, o.StoreID); err != nil {
		return nil, err
	}
	if err := d.sweepUntidy(ctx); err != nil {
		return nil, translate(err, "zfs: open")
	}
	if c.Loopback {
		return loopDriver{d}, nil
	}
	return d, nil
}

// identify compares the dataset with what the catalog knows of it.
func (d *driver) identify(ctx context.Context, storeID string) error {
	details, err := d.zfs.Get(ctx, string(d.root))
	if errors.Is(err, zfsds.ErrNotFound) {
		return fmt.Errorf("zfs: the store's dataset %s: %w: import its pool (zpool import)", d.root, errors.Join(snapshot.ErrNotFound, err))
	}
	if err != nil {
		return translate(err, "zfs: open")
	}
	if details.GUID != d.config.GUID || details.User[storeProperty].Value != storeID {
		return fmt.Errorf("zfs: %s: %w: the catalog knows a dataset with GUID %d of store %s, here is %d of %q: put the right one there",
			d.root, snapshot.ErrCorrupt, d.config.GUID, storeID, details.GUID, details.User[storeProperty].Value)
	}
	return keyLoaded(details)
}

func (*driver) Name() string { return name }

// Close exports a pool of the store's own, unless something of it is mounted.
func (d *driver) Close(ctx context.Context) error {
	d.tidy.end()
	err := d.gauge.Close()
	if d.config.Loopback {
		err = errors.Join(err, d.takeDown(ctx))
	}
	return errors.Join(err, d.zfs.Close())
}

// Create makes a clone of the origin's seal: two transaction groups, for the clone and for its
// limit, which concurrent creations share. It costs the same however many volumes there are. An
// origin that is not sealed is given a snapshot first, which is one instant of it and goes with the
// new volume.
func (d *driver) Create(ctx context.Context, id snapshot.VolumeID, o snapshot.CreateOptions) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	size, err := o.Origin.LimitFor(o.Size)
	if err != nil {
		return fmt.Errorf("zfs: %w", err)
	}
	if err := d.Room(ctx); err != nil {
		return err
	}
	return translate(d.create(ctx, id, o.Origin, size), "zfs: create volume %d from %d", id, o.Origin.ID)
}

func (d *driver) create(ctx context.Context, id snapshot.VolumeID, origin snapshot.Volume, size int64) (err error) {
	defer d.tidy.leftIf(&err)
	if origin.Sealed {
		return d.clone(ctx, d.root.seal(origin.ID), id, size)
	}
	from := d.root.made(origin.ID, id)
	if err := d.writeOut(origin.ID); err != nil {
		return err
	}
	err = d.snapshot(ctx, from)
	if errors.Is(err, zfsds.ErrDependents) { // a left-over of that id was made of it
		if err := d.remove(ctx, id); err != nil {
			return err
		}
		err = d.snapshot(ctx, from)
	}
	if err != nil {
		return err
	}
	failpoint.Hit("zfs: origin's snapshot made, volume not")
	err = d.clone(ctx, from, id, size)
	failpoint.Hit("zfs: volume made of a snapshot that is to go with it")
	// With a clone it is marked only; without, it goes at once.
	return errors.Join(err, d.zfs.DestroySnapshots(context.WithoutCancel(ctx), true, from))
}

// writeOut writes what processes have changed through memory mappings of an active volume, which
// a snapshot would miss.
func (d *driver) writeOut(id snapshot.VolumeID) error {
	uses, err := d.root.uses()
	if err != nil {
		return err
	}
	for _, e := range d.root.mountsOf(uses, id) {
		f, err := os.Open(e.Target)
		if err != nil { // hidden by another mount, or gone meanwhile
			continue
		}
		if err := errors.Join(unix.Syncfs(int(f.Fd())), f.Close()); err != nil {
			return fmt.Errorf("syncfs %s: %w", e.Target, err)
		}
		return nil
	}
	return nil
}

// snapshot makes one that may be there from a crash: then it is of another instant.
func (d *driver) snapshot(ctx context.Context, s string) (err error) {
	defer d.tidy.leftIf(&err)
	if err := d.tidy.begin(); err != nil {
		return err
	}
	err = d.zfs.Snapshot(ctx, nil, s)
	if !errors.Is(err, zfsds.ErrExists) {
		return err
	}
	if err := d.zfs.DestroySnapshots(ctx, false, s); err != nil {
		return err
	}
	return d.zfs.Snapshot(ctx, nil, s)
}

// clone makes the volume id. A left-over of that id goes first.
func (d *driver) clone(ctx context.Context, from string, id snapshot.VolumeID, size int64) (err error) {
	defer d.tidy.leftIf(&err)
	if err := d.tidy.begin(); err != nil {
		return err
	}
	var p zfsds.Properties
	if size > 0 {
		p = zfsds.Properties{"refquota": strconv.FormatInt(size, 10)}
	}
	err = d.zfs.Clone(ctx, from, d.root.volume(id), p)
	if !errors.Is(err, zfsds.ErrExists) {
		return err
	}
	if err := d.remove(ctx, id); err != nil {
		return err
	}
	return d.zfs.Clone(ctx, from, d.root.volume(id), p)
}

// Seal takes the snapshot that the volume is from now on. What a crash left of an earlier
// attempt is replaced.
func (d *driver) Seal(ctx context.Context, v snapshot.Volume) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	uses, err := d.root.uses()
	if err != nil {
		return err
	}
	if err := d.root.busy(uses, v.ID); err != nil {
		return err
	}
	err = d.snapshot(ctx, d.root.seal(v.ID))
	failpoint.Hit("zfs: seal made")
	return translate(err, "zfs: seal volume %d", v.ID)
}

// Activate has nothing to do but to name the mount: of the seal, or of the file system.
func (d *driver) Activate(ctx context.Context, v snapshot.Volume, readOnly bool) ([]mount.Mount, error) {
	source, access := d.root.volume(v.ID), "rw"
	if v.Sealed {
		source = d.root.seal(v.ID)
	}
	if readOnly || v.Sealed {
		access = "ro"
	}
	if _, err := d.zfs.Stat(ctx, source); err != nil {
		return nil, translate(err, "zfs: activate volume %d", v.ID)
	}
	return []mount.Mount{{Type: name, Source: source, Options: []string{access}}}, nil
}

// Deactivate looks whether the volume is still mounted.
func (d *driver) Deactivate(_ context.Context, id snapshot.VolumeID) error {
	uses, err := d.root.uses()
	if err != nil {
		return err
	}
	return d.root.busy(uses, id)
}

// Locate takes the volume from the source's name, which means one volume as long as it exists.
func (d *driver) Locate(ctx context.Context, m mount.Mount) (snapshot.VolumeID, error) {
	id, ok := d.root.volumeID(m.Source)
	if m.Type != name || !ok || m.Source != d.root.volume(id) && m.Source != d.root.seal(id) {
		return 0, fmt.Errorf("zfs: %s: %w: it is no volume of this store", m.Source, snapshot.ErrNotFound)
	}
	_, err := d.zfs.Stat(ctx, m.Source)
	return id, translate(err, "zfs: looking for the volume of a mount")
}
