package thinpool

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/dm"
)

const (
	// removeWait is for those who look at every new device for a moment (udev, blkid). A mount does not go in that time.
	removeWait = 200 * time.Millisecond
	// adoptTries bounds the races with a deferred removal that happens while the device is looked at.
	adoptTries = 4
	// probeLength is the length of a device that is activated only to be discarded or measured, 1 PiB: the pool does
	// not know how large its devices were made, and a table's length costs nothing.
	probeLength dm.Sectors = 1 << 41
)

// ActivateOptions say how a thin device becomes a block device.
type ActivateOptions struct {
	// Size in bytes, a multiple of 512. The pool does not remember it: keep it.
	Size uint64
	// ReadOnly makes a device that refuses writes, whoever opens it.
	ReadOnly bool
	// Made says that the device was made active before, with these options: it is looked for first. Where it is gone, or
	// another one, it is made.
	Made bool
}

// Device is an active thin device.
type Device struct {
	ID     dm.DeviceID
	Number dm.Number
	// Path is the device's node.
	Path string
}

// ActiveDevice is what the kernel says of an active thin device.
type ActiveDevice struct {
	Device
	// OpenCount is the number of its users: mounts, open files, devices above.
	OpenCount int
	ReadOnly  bool
	// Leaving says that it goes at its last close.
	Leaving bool
	info    dm.Info
}

// Activate makes a block device of a thin device: three ioctls, no disk access. One that is active already is used, if
// need be made larger; one that is active read-only and wanted for writing, or the other way round, is made anew unless
// somebody uses it: ErrBusy. ErrNotFound when the pool has no such device.
func (p *Pool) Activate(ctx context.Context, id dm.DeviceID, o ActivateOptions) (Device, error) {
	if o.Size == 0 || o.Size%dm.SectorSize != 0 {
		return Device{}, fmt.Errorf("activating thin device %d: size of %d bytes: %w", id, o.Size, ErrInvalid)
	}
	defer p.devices.lock(id)()
	return p.activateLocked(ctx, id, o)
}

func (p *Pool) activateLocked(ctx context.Context, id dm.DeviceID, o ActivateOptions) (Device, error) {
	p.retired.cancel(id)
	d, err := p.activate(ctx, id, o)
	if err != nil {
		return Device{}, fmt.Errorf("activating thin device %d: %w", id, err)
	}
	return d, nil
}

func (p *Pool) activate(ctx context.Context, id dm.DeviceID, o ActivateOptions) (Device, error) {
	table := dm.NewTable(dm.SectorsOf(o.Size), dm.Thin{Pool: p.number, ID: p.config.kernelID(id)})
	for try := 0; ; try++ {
		var info dm.Info
		err := error(dm.ErrExists)
		if try > 0 || !o.Made {
			info, err = p.dm.CreateLoaded(ctx, p.config.ThinName(id), p.config.ThinUUID(id), table, dm.LoadOptions{ReadOnly: o.ReadOnly})
		}
		if errors.Is(err, dm.ErrExists) {
			info, err = p.reuse(ctx, id, o)
			if errors.Is(err, errGone) && try < adoptTries {
				continue
			}
		}
		if err != nil && try < adoptTries && p.paused(ctx, err) {
			continue
		}
		if err != nil {
			return Device{}, p.explainLoad(err)
		}
		return newDevice(id, info.Dev), nil
	}
}

func newDevice(id dm.DeviceID, number dm.Number) Device {
	return Device{ID: id, Number: number, Path: dm.Path(number)}
}

// explainLoad turns the kernel's answer to a thin device's table: it looks the device up in the metadata.
func (p *Pool) explainLoad(err error) error {
	if errors.Is(err, unix.ENODATA) {
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return err
}

// errGone says that the device went away while it was looked at: try again from the start.
var errGone = errors.New("device went away")

// reuse takes an active device over if it is what was asked for, or makes it so.
func (p *Pool) reuse(ctx context.Context, id dm.DeviceID, o ActivateOptions) (dm.Info, error) {
	ref := dm.UUID(p.config.ThinUUID(id))
	info, err := p.dm.Info(ctx, ref)
	if errors.Is(err, dm.ErrNotFound) {
		return info, p.goneOrForeign(ctx, id)
	}
	if err != nil {
		return info, err
	}
	if !info.HasActive || info.ReadOnly != o.ReadOnly {
		// Nobody can use one without a table; one of the other kind must be made anew.
		if _, err := p.dm.Remove(ctx, ref, dm.RemoveOptions{Wait: removeWait}); err != nil && !errors.Is(err, dm.ErrNotFound) {
			return info, fmt.Errorf("%w as a device of the other kind (read-only or writable): %w", ErrBusy, err)
		}
		return info, errGone
	}
	if info.DeferredRemove {
		if err := p.dm.CancelRemove(ctx, ref); err != nil {
			return info, errGone
		}
	}
	_, lines, err := p.dm.Table(ctx, ref, dm.TableOptions{})
	if errors.Is(err, dm.ErrNotFound) {
		return info, errGone
	}
	if err != nil || len(lines) != 1 {
		return info, errors.Join(err, fmt.Errorf("%w: its table has %d lines", ErrForeign, len(lines)))
	}
	if lines[0].Length < dm.SectorsOf(o.Size) {
		table := dm.NewTable(dm.SectorsOf(o.Size), dm.Thin{Pool: p.number, ID: p.config.kernelID(id)})
		if _, err := p.dm.Load(ctx, ref, table, dm.LoadOptions{ReadOnly: o.ReadOnly}); err != nil {
			return info, err
		}
		return p.dm.Resume(ctx, ref)
	}
	if info.Suspended {
		return p.dm.Resume(ctx, ref)
	}
	return info, nil
}

// goneOrForeign tells why a name is taken that our uuid is not.
func (p *Pool) goneOrForeign(ctx context.Context, id dm.DeviceID) error {
	info, err := p.dm.Info(ctx, dm.Name(p.config.ThinName(id)))
	if errors.Is(err, dm.ErrNotFound) {
		return errGone
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("a device named %s with uuid %q: %w", info.Name, info.UUID, ErrForeign)
}

// publishWait is for udev to make a link that was asked for when the device was made.
const publishWait = 5 * time.Second

// Publish gives the path by which an active device can be named to others,
// /dev/mapper/NAME: it leads to this device or, once that is inactive, nowhere, while the
// number in a Device's path is soon another's. A udev that runs and does not make the link
// within five seconds is waited for no longer. ErrNotFound for a device that is not active.
func (p *Pool) Publish(ctx context.Context, id dm.DeviceID) (string, error) {
	info, err := p.dm.Info(ctx, dm.UUID(p.config.ThinUUID(id)))
	if errors.Is(err, dm.ErrNotFound) {
		return "", fmt.Errorf("publishing thin device %d: it is not active: %w", id, ErrNotFound)
	}
	if err != nil {
		return "", fmt.Errorf("publishing thin device %d: %w", id, err)
	}
	name := p.config.ThinName(id)
	link, err := p.dm.Publish(name, info.Dev)
	if err != nil {
		return "", fmt.Errorf("publishing thin device %d: %w", id, err)
	}
	for deadline := time.Now().Add(publishWait); !leadsTo(link, info.Dev); {
		if time.Now().After(deadline) {
			if link, err = p.dm.Link(name, info.Dev); err != nil {
				return "", fmt.Errorf("publishing thin device %d, since udev does not within %s: %w", id, publishWait, err)
			}
			return link, nil
		}
		select {
		case <-ctx.Done():
			return "", context.Cause(ctx)
		case <-time.After(time.Millisecond):
		}
	}
	return link, nil
}

// Published is the active device that others know by a name from Publish. ErrNotFound where there is none; without a name no ioctl is
// needed to tell.
func (p *Pool) Published(ctx context.Context, id dm.DeviceID) (ActiveDevice, error) {
	named, err := p.dm.Published(p.config.ThinName(id))
	if err != nil {
		return ActiveDevice{}, fmt.Errorf("looking at thin device %d: %w", id, err)
	}
	if !named {
		return ActiveDevice{}, fmt.Errorf("thin device %d has no name: %w", id, ErrNotFound)
	}
	info, err := p.dm.Info(ctx, dm.UUID(p.config.ThinUUID(id)))
	if errors.Is(err, dm.ErrNotFound) {
		return ActiveDevice{}, fmt.Errorf("thin device %d is not active: %w", id, ErrNotFound)
	}
	if err != nil {
		return ActiveDevice{}, fmt.Errorf("looking at thin device %d: %w", id, err)
	}
	return activeDevice(id, info), nil
}

func activeDevice(id dm.DeviceID, info dm.Info) ActiveDevice {
	return ActiveDevice{
		Device: newDevice(id, info.Dev), OpenCount: info.OpenCount, ReadOnly: info.ReadOnly,
		Leaving: info.DeferredRemove, info: info,
	}
}

func leadsTo(link string, dev dm.Number) bool {
	var st unix.Stat_t
	return unix.Stat(link, &st) == nil && dm.NumberOf(st.Rdev) == dev
}

// unpublish takes the name away from a device that is inactive or about to be.
func (p *Pool) unpublish(id dm.DeviceID) error { return p.dm.Unpublish(p.config.ThinName(id)) }

// Deactivate takes a thin device's block device away; an inactive one is no error. One that is in use goes when its
// last user closes it; that is ErrBusy, and the error names the users.
func (p *Pool) Deactivate(ctx context.Context, id dm.DeviceID) error {
	defer p.devices.lock(id)()
	return p.deactivateLocked(ctx, id)
}

func (p *Pool) deactivateLocked(ctx context.Context, id dm.DeviceID) error {
	p.retired.cancel(id)
	ref := dm.UUID(p.config.ThinUUID(id))
	_, busy := p.dm.Remove(ctx, ref, dm.RemoveOptions{Wait: removeWait})
	if busy == nil || errors.Is(busy, dm.ErrNotFound) {
		return p.unpublish(id)
	}
	if !errors.Is(busy, dm.ErrBusy) {
		return fmt.Errorf("deactivating thin device %d: %w", id, busy)
	}
	deferred, err := p.dm.Remove(ctx, ref, dm.RemoveOptions{Deferred: true})
	switch {
	case errors.Is(err, dm.ErrNotFound), err == nil && !deferred:
		return p.unpublish(id) // its user left just now
	case err != nil:
		return fmt.Errorf("deactivating thin device %d: %w", id, err)
	}
	err = fmt.Errorf("deactivating thin device %d: %w; it goes at its last close: %w", id, ErrBusy, busy)
	return errors.Join(err, p.unpublish(id))
}

// TryDeactivate is Deactivate without the kernel's promise to remove the device later: one that is in use stays.
func (p *Pool) TryDeactivate(ctx context.Context, id dm.DeviceID) error {
	defer p.devices.lock(id)()
	p.retired.cancel(id)
	_, err := p.dm.Remove(ctx, dm.UUID(p.config.ThinUUID(id)), dm.RemoveOptions{Wait: removeWait})
	switch {
	case err == nil, errors.Is(err, dm.ErrNotFound):
		return p.unpublish(id)
	case errors.Is(err, dm.ErrBusy):
		return fmt.Errorf("deactivating thin device %d: %w: %w", id, ErrBusy, err)
	}
	return fmt.Errorf("deactivating thin device %d: %w", id, err)
}

// busyError says who uses an active device.
func (p *Pool) busyError(ctx context.Context, id dm.DeviceID) error {
	err := fmt.Errorf("thin device %d: %w", id, ErrBusy)
	holders, herr := p.dm.Holders(ctx, dm.UUID(p.config.ThinUUID(id)))
	if herr != nil {
		return err
	}
	for _, h := range holders {
		err = fmt.Errorf("%w, by %s", err, h)
	}
	return err
}

// Active lists the pool's active thin devices, in no order. Two ioctls for each.
func (p *Pool) Active(ctx context.Context) ([]ActiveDevice, error) {
	all, err := p.list(ctx)
	if err != nil {
		return nil, err
	}
	active := all[:0]
	for _, d := range all {
		if d.info.HasActive {
			active = append(active, d)
		}
	}
	return active, nil
}

// list is Active with the devices that have no table.
func (p *Pool) list(ctx context.Context) ([]ActiveDevice, error) {
	devices, err := p.dm.List(ctx, dm.Prefix{UUID: p.config.UUIDPrefix()})
	if err != nil {
		return nil, fmt.Errorf("listing devices of pool %s: %w", p.config.Name, err)
	}
	var active []ActiveDevice
	for _, d := range devices {
		id, ok := p.config.thinID(d.UUID)
		if !ok {
			continue
		}
		info, err := p.dm.Info(ctx, dm.UUID(d.UUID))
		if errors.Is(err, dm.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("listing devices of pool %s: %w", p.config.Name, err)
		}
		active = append(active, activeDevice(id, info))
	}
	return active, nil
}

// Find says which thin device of the pool a path leads to: by the uuid of the block device that is there now, since
// nodes are used again; or by the name that Publish gave to one that is inactive now, whether or not it exists. ErrNotFound
// for everything else.
func (p *Pool) Find(ctx context.Context, path string) (dm.DeviceID, error) {
	if dir, name := filepath.Split(path); dir == "/dev/mapper/" && name != "" {
		return p.found(ctx, path, dm.Name(name)) // whether there is a link now or not
	}
	var st unix.Stat_t
	err := unix.Stat(path, &st)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || err == nil && st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return 0, fmt.Errorf("%s is no active thin device: %w", path, ErrNotFound)
	}
	if err != nil {
		return 0, fmt.Errorf("looking at %s: %w", path, err)
	}
	return p.found(ctx, path, dm.Dev(dm.Number{Major: unix.Major(st.Rdev), Minor: unix.Minor(st.Rdev)}))
}

func (p *Pool) found(ctx context.Context, path string, ref dm.Ref) (dm.DeviceID, error) {
	info, err := p.dm.Info(ctx, ref)
	if err != nil && !errors.Is(err, dm.ErrNotFound) {
		return 0, fmt.Errorf("looking at %s: %w", path, err)
	}
	id, ok := p.config.thinID(info.UUID)
	if err != nil {
		id, ok = p.config.idOfName(filepath.Base(path))
	}
	if !ok {
		return 0, fmt.Errorf("%s is not a device of pool %s: %w", path, p.config.Name, ErrNotFound)
	}
	return id, nil
}

// Mapped gives the bytes that a thin device maps, shared ones included. An inactive device is activated for it.
func (p *Pool) Mapped(ctx context.Context, id dm.DeviceID) (uint64, error) {
	defer p.devices.lock(id)()
	st, err := p.dm.ThinStatus(ctx, dm.UUID(p.config.ThinUUID(id)), dm.StatusOptions{NoFlush: true})
	if errors.Is(err, dm.ErrNotFound) {
		err = p.borrow(ctx, id, true, func(Device) error {
			st, err = p.dm.ThinStatus(ctx, dm.UUID(p.config.ThinUUID(id)), dm.StatusOptions{NoFlush: true})
			return err
		})
	}
	if err == nil && st.State != dm.ThinOK {
		err = fmt.Errorf("%w: thin device reads %s", ErrFailed, st.State)
	}
	if err != nil {
		return 0, fmt.Errorf("measuring thin device %d: %w", id, err)
	}
	return st.Mapped.Bytes(), nil
}

// borrow activates an inactive device for the length of use. The caller has it locked: who
// wants it activated for himself waits until it is inactive again.
func (p *Pool) borrow(ctx context.Context, id dm.DeviceID, readOnly bool, use func(Device) error) error {
	d, err := p.activateLocked(ctx, id, ActivateOptions{Size: probeLength.Bytes(), ReadOnly: readOnly})
	if err != nil {
		return err
	}
	return errors.Join(use(d), p.deactivateLocked(context.WithoutCancel(ctx), id))
}
