package thin

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/failpoint"
	"blockstore.dev/blockstore/snapshot/mount"
	"blockstore.dev/blockstore/thinpool"
)

// unpacker writes a chain on its topmost volume, the working volume, which stays active and mounted: each boundary
// below is a snapshot of it, and at the end it is the last layer itself.
type unpacker struct {
	driver  *driver
	work    snapshot.VolumeID
	volumes []snapshot.VolumeID
	target  string
	device  string
	next    int
	mounted bool
}

// Unpack makes, activates and mounts the working volume.
func (d *driver) Unpack(ctx context.Context, o snapshot.UnpackOptions) (snapshot.Unpacker, error) {
	if len(o.Volumes) == 0 {
		return nil, fmt.Errorf("unpacking no layers: %w", snapshot.ErrInvalid)
	}
	u := &unpacker{driver: d, volumes: o.Volumes, work: o.Volumes[len(o.Volumes)-1], target: o.Target}
	if err := u.begin(ctx, o); err != nil {
		return nil, translate(fmt.Errorf("unpacking on volume %d: %w", u.work, errors.Join(err, u.Close())))
	}
	return u, nil
}

func (u *unpacker) begin(ctx context.Context, o snapshot.UnpackOptions) error {
	d := u.driver
	size, err := d.sizeFor(o.Origin, o.Size)
	if err != nil {
		return err
	}
	if err := d.create(ctx, u.work, o.Origin, size); err != nil {
		return err
	}
	failpoint.Hit("thin.unpack.created")
	dev, err := d.pool.Activate(ctx, deviceID(u.work), thinpool.ActivateOptions{Size: uint64(size)})
	if err != nil {
		return err
	}
	if err := mount.At(d.config.FileSystem.mount(dev.Path, false), u.target); err != nil {
		return err
	}
	u.mounted, u.device = true, dev.Path
	failpoint.Hit("thin.unpack.mounted")
	return nil
}

// Dir is the mount point, until the last layer is sealed.
func (u *unpacker) Dir() string {
	if !u.mounted {
		return ""
	}
	return u.target
}

// Seal keeps what is there as the next layer.
func (u *unpacker) Seal(ctx context.Context) error {
	if u.next >= len(u.volumes) || !u.mounted {
		return fmt.Errorf("sealing more layers than the chain has: %w", snapshot.ErrInvalid)
	}
	id := u.volumes[u.next]
	seal := u.boundary
	if id == u.work {
		seal = u.finish
	}
	if err := seal(ctx, id); err != nil {
		return translate(fmt.Errorf("sealing layer volume %d: %w", id, err))
	}
	u.next++
	failpoint.Hit("thin.unpack.sealed")
	return nil
}

// boundary takes a snapshot of the frozen working volume. Writing out beforehand keeps the freeze short; the message
// makes data and mappings durable.
func (u *unpacker) boundary(ctx context.Context, id snapshot.VolumeID) error {
	if err := syncfs(u.target); err != nil {
		return err
	}
	return u.driver.pool.CreateSnapshot(ctx, deviceID(id), thinpool.SnapshotOptions{Origin: deviceID(u.work), Reclaim: true})
}

// finish makes the working volume the last layer.
func (u *unpacker) finish(ctx context.Context, id snapshot.VolumeID) error {
	d := u.driver
	if err := u.unmount(); err != nil {
		return err
	}
	if err := d.config.FileSystem.written(u.device); err != nil {
		return err
	}
	if _, err := d.pool.Commit(ctx); err != nil {
		return err
	}
	return d.pool.Deactivate(ctx, deviceID(id))
}

// unmount writes everything out first: unmounting itself reports no error of the disk's.
func (u *unpacker) unmount() error {
	err := syncfs(u.target)
	if uerr := mount.Unmount(u.target); uerr != nil {
		return errors.Join(err, uerr)
	}
	u.mounted = false
	return err
}

// Close unmounts and deactivates what a chain that was not finished left.
func (u *unpacker) Close() error {
	ctx := context.Background()
	var err error
	if u.mounted {
		if err = mount.Unmount(u.target); err == nil {
			u.mounted = false
		}
	}
	return translate(errors.Join(err, u.driver.pool.Deactivate(ctx, deviceID(u.work))))
}

func syncfs(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("writing out: %w", err)
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return fmt.Errorf("writing out %s: %w", dir, err)
	}
	return nil
}
