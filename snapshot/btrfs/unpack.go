package btrfs

import (
	"context"
	"fmt"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/failpoint"
)

// unpacker writes a chain of layers. Each boundary is a snapshot that becomes the
// next layer and is gone on with, so that each layer keeps the subvolume that its
// bytes were written to: the snapshot's commit writes the finished layer out, and
// the flag then closes it. The last one has no such commit and is synced.
type unpacker struct {
	driver *driver
	o      snapshot.UnpackOptions
	size   int64
	layers int64 // bytes of the layers below the one being written
	next   int   // index of the one being written
}

func (d *driver) Unpack(ctx context.Context, o snapshot.UnpackOptions) (snapshot.Unpacker, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(o.Volumes) == 0 {
		return nil, fmt.Errorf("btrfs: unpack: %w: no layers", snapshot.ErrInvalid)
	}
	size, err := o.Origin.LimitFor(o.Size)
	if err != nil {
		return nil, fmt.Errorf("btrfs: %w", err)
	}
	if err := d.Room(ctx); err != nil {
		return nil, err
	}
	u := &unpacker{driver: d, o: o, size: size, layers: o.OriginBytes}
	if err := d.snapshot(ctx, o.Origin.ID, o.Volumes[0], limitOf(size, u.layers)); err != nil {
		return nil, translate(err, "btrfs: unpack volume %d onto %d", o.Volumes[0], o.Origin.ID)
	}
	return u, nil
}

// Dir is the subvolume itself: it needs no mount.
func (u *unpacker) Dir() string {
	if u.next >= len(u.o.Volumes) {
		return ""
	}
	return u.driver.dirOf(u.o.Volumes[u.next])
}

func (u *unpacker) Seal(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if u.next >= len(u.o.Volumes) {
		return fmt.Errorf("btrfs: seal: %w: all layers are sealed", snapshot.ErrInvalid)
	}
	id := u.o.Volumes[u.next]
	if err := u.seal(ctx, id); err != nil {
		return translate(err, "btrfs: seal volume %d", id)
	}
	u.next++
	return nil
}

func (u *unpacker) seal(ctx context.Context, id snapshot.VolumeID) error {
	d := u.driver
	if u.next == len(u.o.Volumes)-1 {
		return d.seal(id)
	}
	// Nobody else writes here, so the snapshot's commit holds all of the layer.
	after := u.o.Volumes[u.next+1]
	if err := d.snapshot(ctx, id, after, limitOf(u.size, u.layers)); err != nil {
		return err
	}
	failpoint.Hit("btrfs: next layer begun, last one writable")
	err := d.fs.SetReadOnly(pathOf(id), true)
	if err != nil {
		return err
	}
	u.layers, err = d.limitAbove(id, after, u.size, u.layers)
	return err
}

// Close has nothing to release.
func (u *unpacker) Close() error {
	u.next = len(u.o.Volumes)
	return nil
}
