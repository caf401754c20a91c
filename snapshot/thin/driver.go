package thin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/gauge"
	"blockstore.dev/blockstore/snapshot/mount"
	"blockstore.dev/blockstore/thinpool"
)

// driver is an open store on a thin pool.
type driver struct {
	kind   Kind
	client *dm.Client
	pool   *thinpool.Pool
	config config
	// keep keeps another config in the catalog.
	keep func(json.RawMessage) error
	// reserve is what stays free for those volumes that there are.
	reserve atomic.Pointer[thinpool.Reserve]
	// active are the volumes (VolumeID) whose devices this process has made and not taken away again. Others may have.
	active sync.Map

	gauge *gauge.Gauge
}

var (
	_ snapshot.Driver   = (*driver)(nil)
	_ snapshot.Epoched  = (*driver)(nil)
	_ snapshot.Grower   = (*driver)(nil)
	_ snapshot.Extender = (*driver)(nil)
	_ snapshot.Trimmer  = (*driver)(nil)
	_ snapshot.Roomy    = (*driver)(nil)
	_ snapshot.Stacker  = (*driver)(nil)
	_ snapshot.Readier  = (*driver)(nil)
	_ snapshot.Settler  = (*driver)(nil)
	_ snapshot.Gauger   = (*driver)(nil)
)

// parallel bounds the removals under way: each waits for the kernel's grace periods, not for the processor.
const parallel = 8

func deviceID(id snapshot.VolumeID) dm.DeviceID { return dm.DeviceID(id) }

// inMetadata is the number by which the pool's metadata know a volume.
func (d *driver) inMetadata(id snapshot.VolumeID) dm.DeviceID { return d.pool.InMetadata(deviceID(id)) }

// Name is "devicemapper".
func (*driver) Name() string { return Name }

// Create sends one message to the pool and reads its status; only a volume larger than its origin is activated and
// mounted, to grow its file system.
func (d *driver) Create(ctx context.Context, id snapshot.VolumeID, o snapshot.CreateOptions) error {
	size, err := d.sizeFor(o.Origin, o.Size)
	if err == nil {
		err = d.create(ctx, id, o.Origin, size)
	}
	if err != nil {
		return translate(fmt.Errorf("creating volume %d: %w", id, err))
	}
	return nil
}

// sizeFor is a new volume's device size.
func (d *driver) sizeFor(origin snapshot.Volume, size int64) (int64, error) {
	from := d.sizeOf(origin)
	if size == 0 {
		return from, nil
	}
	if size = deviceSize(size); size < from {
		return 0, fmt.Errorf("%d bytes are less than the %d of its origin %d: %w", size, from, origin.ID, snapshot.ErrInvalid)
	}
	return size, nil
}

func (d *driver) sizeOf(v snapshot.Volume) int64 {
	if v.Size == 0 {
		return d.config.BaseSize
	}
	return deviceSize(v.Size)
}

func (d *driver) create(ctx context.Context, id snapshot.VolumeID, origin snapshot.Volume, size int64) error {
	if err := d.hostRoom(); err != nil {
		return err
	}
	err := d.pool.CreateSnapshot(ctx, deviceID(id), thinpool.SnapshotOptions{
		Origin: deviceID(origin.ID), Quiet: origin.Sealed || origin.ID == snapshot.Base, Reclaim: true, Reserve: *d.reserve.Load(),
	})
	if err != nil || size == d.sizeOf(origin) {
		return err
	}
	if err = d.growFileSystem(ctx, id, size); err != nil {
		return errors.Join(err, d.pool.Delete(context.WithoutCancel(ctx), deviceID(id)))
	}
	return nil
}

func (d *driver) growFileSystem(ctx context.Context, id snapshot.VolumeID, size int64) error {
	return d.borrow(ctx, id, size, func(dev thinpool.Device) error {
		return d.config.FileSystem.grow(dev.Path, size)
	})
}

// borrow activates an inactive volume for the length of use and makes what use did durable.
func (d *driver) borrow(ctx context.Context, id snapshot.VolumeID, size int64, use func(thinpool.Device) error) error {
	dev, err := d.pool.Activate(ctx, deviceID(id), thinpool.ActivateOptions{Size: uint64(size)})
	if err != nil {
		return err
	}
	if err = use(dev); err == nil {
		_, err = d.pool.Commit(ctx)
	}
	return errors.Join(err, d.pool.Deactivate(context.WithoutCancel(ctx), dev.ID))
}

// Seal takes the volume's device away and commits the pool's metadata. A journal that a crash has left in the volume is
// replayed, since sealed volumes are mounted from read-only devices. From then on the store asks for the volume as sealed.
func (d *driver) Seal(ctx context.Context, v snapshot.Volume) error {
	if err := d.seal(ctx, v); err != nil {
		return translate(fmt.Errorf("sealing volume %d: %w", v.ID, err))
	}
	return nil
}

func (d *driver) seal(ctx context.Context, v snapshot.Volume) error {
	if err := d.settle(ctx, v); err != nil {
		return err
	}
	_, err := d.pool.Commit(ctx)
	return err
}

// SealBelow has the message that makes the snapshot commit what sealing would.
func (d *driver) SealBelow(ctx context.Context, v snapshot.Volume, next snapshot.VolumeID, _ int64) error {
	err := d.settle(ctx, v)
	if err == nil {
		v.Sealed = true
		err = d.create(ctx, next, v, d.sizeOf(v))
	}
	if err != nil {
		return translate(fmt.Errorf("sealing volume %d below volume %d: %w", v.ID, next, err))
	}
	return nil
}

// settle leaves a volume inactive, or about to be, and without a journal to replay. The device that is there is looked at before
// it goes: to make it again would cost another of the kernel's grace periods. Nor is its going waited for.
func (d *driver) settle(ctx context.Context, v snapshot.Volume) error {
	dev, err := d.activate(ctx, v, false)
	if err != nil {
		return err
	}
	whole, err := d.config.FileSystem.whole(dev.Path)
	d.active.Delete(v.ID)
	ctx = context.WithoutCancel(ctx)
	if err == nil && whole {
		return d.pool.Retire(ctx, dev.ID)
	}
	if offErr := d.pool.TryDeactivate(ctx, dev.ID); err != nil || offErr != nil {
		return errors.Join(err, offErr)
	}
	return d.borrow(ctx, v.ID, d.sizeOf(v), func(dev thinpool.Device) error {
		return d.config.FileSystem.recover(dev.Path)
	})
}

// Remove discards and deletes volumes, some at a time.
func (d *driver) Remove(ctx context.Context, ids ...snapshot.VolumeID) error {
	var (
		wg   sync.WaitGroup
		errs = make([]error, len(ids))
		slot = make(chan struct{}, parallel)
	)
	for i, id := range ids {
		slot <- struct{}{}
		wg.Go(func() {
			defer func() { <-slot }()
			if err := d.remove(ctx, id); err != nil {
				errs[i] = translate(fmt.Errorf("removing volume %d: %w", id, err))
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (d *driver) remove(ctx context.Context, id snapshot.VolumeID) error {
	if id == snapshot.Base {
		return fmt.Errorf("the base is never removed: %w", snapshot.ErrInvalid)
	}
	d.active.Delete(id)
	if err := d.pool.TryDeactivate(ctx, deviceID(id)); err != nil {
		return err
	}
	// A pool without room for the changes of a discard still has room to delete: the volume goes in any case.
	discardErr := d.pool.Discard(ctx, deviceID(id))
	if err := d.pool.Delete(ctx, deviceID(id)); err != nil {
		return errors.Join(err, discardErr)
	}
	return nil
}

// Settle commits, since of a pool that fails a Delete may have believed that there was nothing to delete.
func (d *driver) Settle(ctx context.Context) error {
	_, err := d.pool.Commit(ctx)
	return translate(err)
}

// Activate makes the volume's block device and says how it is mounted.
func (d *driver) Activate(ctx context.Context, v snapshot.Volume, readOnly bool) ([]mount.Mount, error) {
	readOnly = readOnly || v.Sealed || v.ID == snapshot.Base
	dev, err := d.activate(ctx, v, readOnly)
	if err != nil {
		return nil, translate(err)
	}
	return []mount.Mount{d.config.FileSystem.mount(dev.Path, readOnly)}, nil
}

// Ready makes the block device, for which the kernel waits for several of its grace periods.
func (d *driver) Ready(ctx context.Context, v snapshot.Volume) error {
	_, err := d.activate(ctx, v, false)
	return translate(err)
}

func (d *driver) activate(ctx context.Context, v snapshot.Volume, readOnly bool) (thinpool.Device, error) {
	_, made := d.active.Load(v.ID)
	dev, err := d.pool.Activate(ctx, deviceID(v.ID), thinpool.ActivateOptions{Size: uint64(d.sizeOf(v)), ReadOnly: readOnly, Made: made})
	if err == nil {
		d.active.Store(v.ID, nil)
	}
	return dev, err
}

// Deactivate takes the block device away; one that is in use goes at its last close, and is ErrBusy now.
func (d *driver) Deactivate(ctx context.Context, id snapshot.VolumeID) error {
	d.active.Delete(id)
	return translate(d.pool.Deactivate(ctx, deviceID(id)))
}

// deactivateIdle takes away the devices that nobody has open, and says how many are left.
func (d *driver) deactivateIdle(ctx context.Context) (left int, err error) {
	active, err := d.pool.Active(ctx)
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, a := range active {
		if a.OpenCount > 0 {
			left++
			continue
		}
		err := d.pool.TryDeactivate(ctx, a.ID)
		if errors.Is(err, thinpool.ErrBusy) {
			left++
		} else if err != nil {
			errs = append(errs, err)
		}
	}
	return left, errors.Join(errs...)
}

// CatchUp waits for the devices of volumes that were sealed to be gone, for tests: see drivertest.Deferrer.
func (d *driver) CatchUp() { d.pool.WaitRetired() }

// Close takes idle devices and the pool away. While a volume is in use the pool stays for it, and Open takes over.
// Somebody else's pool stays in any case, and is let go.
func (d *driver) Close(ctx context.Context) error {
	gaugeErr := d.gauge.Close()
	left, err := d.deactivateIdle(ctx)
	if err == nil && (left == 0 || d.config.Pool.Share != nil) {
		if err = d.pool.Close(ctx); errors.Is(err, thinpool.ErrBusy) {
			err = nil
		}
	}
	return translate(errors.Join(err, gaugeErr, d.client.Close()))
}
