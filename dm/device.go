package dm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"blockstore.dev/blockstore/ioctl"
	"golang.org/x/sys/unix"
)

// Info is what the kernel says about a device with each reply about it.
type Info struct {
	// Name and UUID are the device's; UUID may be empty.
	Name, UUID string
	// Dev is its number; [Path] is its node.
	Dev Number
	// OpenCount is how many openers it has, other devices' tables included.
	OpenCount int
	// EventNr counts the events that its targets raised.
	EventNr uint32
	// Targets is the number of rows of its active table.
	Targets int
	// Suspended: I/O waits until Resume.
	Suspended bool
	// InternalSuspended: another device's reload has suspended it.
	InternalSuspended bool
	// ReadOnly: the active table was loaded read-only.
	ReadOnly bool
	// HasActive: a table maps I/O.
	HasActive bool
	// HasInactive: a table is loaded that the next Resume makes active.
	HasInactive bool
	// DeferredRemove: the device goes when its last opener closes it.
	DeferredRemove bool
}

// Create makes a device without a table; it has no node yet. uuid may be empty and
// cannot be changed once set. The error is [ErrExists] if either is in use.
func (c *Client) Create(ctx context.Context, name, uuid string) (Info, error) {
	if err := validateName(name); err != nil {
		return Info{}, err
	}
	if uuid != "" {
		if err := validateUUID(uuid); err != nil {
			return Info{}, err
		}
	}
	return c.info(c.do(ctx, request{command: ioctl.DM_DEV_CREATE_CMD, ref: Ref{name: name, uuid: uuid}, size: smallBuffer}))
}

// Info asks for a device's state. It takes no part in the device's I/O.
func (c *Client) Info(ctx context.Context, ref Ref) (Info, error) {
	return c.about(ctx, request{command: ioctl.DM_DEV_STATUS_CMD, ref: ref})
}

// SuspendOptions are the ways to suspend; the zero value flushes and freezes.
type SuspendOptions struct {
	// NoFlush leaves queued I/O queued instead of waiting for its end.
	NoFlush bool
	// SkipLockFS does not freeze a file system that is mounted from the device.
	SkipLockFS bool
}

// Suspend lets I/O finish and holds further I/O back until [Client.Resume]. A suspended
// device may be suspended again. It blocks until outstanding I/O is done and, unless SkipLockFS,
// the file system on it is frozen.
func (c *Client) Suspend(ctx context.Context, ref Ref, options SuspendOptions) (Info, error) {
	flags := uint32(ioctl.DM_SUSPEND_FLAG)
	if options.NoFlush {
		flags |= ioctl.DM_NOFLUSH_FLAG
	}
	if options.SkipLockFS {
		flags |= ioctl.DM_SKIP_LOCKFS_FLAG
	}
	return c.about(ctx, request{command: ioctl.DM_DEV_SUSPEND_CMD, ref: ref, flags: flags})
}

// Resume makes a loaded table active and lets I/O go on. On a device that is not suspended
// and has a loaded table it suspends, swaps and resumes in one ioctl.
func (c *Client) Resume(ctx context.Context, ref Ref) (Info, error) {
	return c.announced(ctx, request{command: ioctl.DM_DEV_SUSPEND_CMD, ref: ref})
}

// Rename gives a device another name. The kernel takes the old name only, neither uuid
// nor number. The error is [ErrExists] if the new name is in use.
func (c *Client) Rename(ctx context.Context, oldName, newName string) error {
	if err := validateName(newName); err != nil {
		return err
	}
	_, err := c.announced(ctx, request{
		command: ioctl.DM_DEV_RENAME_CMD, ref: Name(oldName), payload: cString(newName), detail: newName,
	})
	return err
}

// SetUUID gives a device that was created without a uuid one; it cannot be changed later.
func (c *Client) SetUUID(ctx context.Context, name, uuid string) error {
	if err := validateUUID(uuid); err != nil {
		return err
	}
	_, err := c.announced(ctx, request{
		command: ioctl.DM_DEV_RENAME_CMD, ref: Name(name), flags: ioctl.DM_UUID_FLAG, payload: cString(uuid), detail: uuid,
	})
	return err
}

// RemoveOptions are how to deal with a busy device.
type RemoveOptions struct {
	// Wait is how long to try again while the device is busy; 0 tries once. The
	// context bounds it too.
	Wait time.Duration
	// Deferred asks the kernel, once Wait has passed, to remove a device that is still
	// busy when its last opener closes it.
	Deferred bool
}

// Remove removes a device and its tables. deferred says that the device was busy and goes
// later, keeping its name until then. Without Deferred a busy device
// is [ErrBusy], and the [Error] names the holders.
func (c *Client) Remove(ctx context.Context, ref Ref, options RemoveOptions) (deferred bool, err error) {
	r := request{command: ioctl.DM_DEV_REMOVE_CMD, ref: ref}
	if options.Deferred && options.Wait <= 0 {
		r.flags = ioctl.DM_DEFERRED_REMOVE
	}
	info, err := c.removeWithin(ctx, r, options.Wait)
	if errors.Is(err, unix.EBUSY) && options.Deferred && r.flags == 0 {
		r.flags = ioctl.DM_DEFERRED_REMOVE
		info, err = c.announced(ctx, r)
	}
	if errors.Is(err, unix.EBUSY) {
		return false, c.nameHolders(ctx, ref, err)
	}
	return info.DeferredRemove, err
}

// removeWithin repeats the request while the device is busy, for at most limit.
func (c *Client) removeWithin(ctx context.Context, r request, limit time.Duration) (Info, error) {
	deadline := time.Now().Add(limit)
	for pause := time.Millisecond; ; pause = min(2*pause, maxBusyPause) {
		info, err := c.announced(ctx, r)
		left := time.Until(deadline)
		if !errors.Is(err, unix.EBUSY) || left <= 0 {
			return info, err
		}
		if !sleep(ctx, min(pause, left)) {
			return Info{}, fmt.Errorf("%w: %w", err, context.Cause(ctx))
		}
	}
}

// maxBusyPause is the longest pause between two attempts at a busy device.
const maxBusyPause = 100 * time.Millisecond

// CancelRemove takes a deferred removal back. On a device without one it does nothing.
func (c *Client) CancelRemove(ctx context.Context, ref Ref) error {
	_, err := c.Message(ctx, ref, 0, "@cancel_deferred_remove")
	return err
}

// about issues a command that is about one device and whose reply is the header.
func (c *Client) about(ctx context.Context, r request) (Info, error) {
	if err := r.ref.validate(); err != nil {
		return Info{}, err
	}
	r.size = smallBuffer
	return c.info(c.do(ctx, r))
}

// info reads a reply's header.
func (c *Client) info(reply *ioctl.DMBuffer, err error) (Info, error) {
	if err != nil {
		return Info{}, err
	}
	h := reply.Header()
	has := func(flag uint32) bool { return h.Flags&flag != 0 }
	return Info{
		Name: ioctl.CString(h.Name[:]), UUID: ioctl.CString(h.UUID[:]), Dev: NumberOf(h.Dev),
		OpenCount: int(h.OpenCount), EventNr: h.EventNr, Targets: int(h.TargetCount),
		Suspended: has(ioctl.DM_SUSPEND_FLAG), InternalSuspended: has(ioctl.DM_INTERNAL_SUSPEND_FLAG),
		ReadOnly: has(ioctl.DM_READONLY_FLAG), HasActive: has(ioctl.DM_ACTIVE_PRESENT_FLAG),
		HasInactive: has(ioctl.DM_INACTIVE_PRESENT_FLAG), DeferredRemove: has(ioctl.DM_DEFERRED_REMOVE),
	}, nil
}

func cString(text string) []byte { return append([]byte(text), 0) }

// sleep waits for d; it is false when the context ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
