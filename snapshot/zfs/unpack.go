package zfs

import (
	"context"
	"fmt"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/failpoint"
	"blockstore.dev/blockstore/snapshot/mount"
	"blockstore.dev/blockstore/zfsds"
)

// unpacker writes a chain of layers, each in a volume of its own that is made of the seal of
// the one before.
type unpacker struct {
	driver  *driver
	o       snapshot.UnpackOptions
	size    int64
	next    int // index of the one being written
	mounted bool
}

func (d *driver) Unpack(ctx context.Context, o snapshot.UnpackOptions) (snapshot.Unpacker, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(o.Volumes) == 0 {
		return nil, fmt.Errorf("zfs: unpack: %w: no layers", snapshot.ErrInvalid)
	}
	size, err := o.Origin.LimitFor(o.Size)
	if err != nil {
		return nil, fmt.Errorf("zfs: %w", err)
	}
	if err := d.Room(ctx); err != nil {
		return nil, err
	}
	u := &unpacker{driver: d, o: o, size: size}
	if err := u.begin(ctx, d.root.seal(o.Origin.ID)); err != nil {
		return nil, translate(err, "zfs: unpack volume %d onto %d", o.Volumes[0], o.Origin.ID)
	}
	return u, nil
}

// begin makes and mounts the volume that is next.
func (u *unpacker) begin(ctx context.Context, origin string) error {
	d, id := u.driver, u.o.Volumes[u.next]
	if err := d.clone(ctx, origin, id, u.size); err != nil {
		return err
	}
	failpoint.Hit("zfs: layer begun")
	if err := zfsds.Mount(d.root.volume(id), u.o.Target, false); err != nil {
		return err
	}
	u.mounted = true
	return mount.Private(u.o.Target)
}

// Dir is where the volume is mounted.
func (u *unpacker) Dir() string {
	if !u.mounted {
		return ""
	}
	return u.o.Target
}

// Seal unmounts, so that nobody writes to what was sealed, and goes on in a clone.
func (u *unpacker) Seal(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if u.next >= len(u.o.Volumes) {
		return fmt.Errorf("zfs: seal: %w: all layers are sealed", snapshot.ErrInvalid)
	}
	id := u.o.Volumes[u.next]
	return translate(u.seal(ctx, id), "zfs: seal volume %d", id)
}

func (u *unpacker) seal(ctx context.Context, id snapshot.VolumeID) error {
	if err := u.unmount(); err != nil {
		return err
	}
	seal := u.driver.root.seal(id)
	if err := u.driver.snapshot(ctx, seal); err != nil {
		return err
	}
	failpoint.Hit("zfs: layer sealed")
	if u.next++; u.next == len(u.o.Volumes) {
		return nil
	}
	return u.begin(ctx, seal)
}

func (u *unpacker) unmount() error {
	if !u.mounted {
		return nil
	}
	err := mount.Unmount(u.o.Target)
	u.mounted = u.mounted && err != nil
	return err
}

// Close unmounts the volume that was being written.
func (u *unpacker) Close() error {
	u.next = len(u.o.Volumes)
	return translate(u.unmount(), "zfs: end unpacking")
}
