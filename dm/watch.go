package dm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"blockstore.dev/blockstore/ioctl"
)

// ChangeKind is what has happened to a device.
type ChangeKind int

// The kinds of change.
const (
	// Added: the device is new, or it is the first look at it.
	Added ChangeKind = iota
	// Removed: the device is gone.
	Removed
	// Renamed: the device has another name or got its uuid; Previous has the old ones.
	Renamed
	// Event: a target of the device has raised one or more events.
	Event
)

var changeKinds = []string{"added", "removed", "renamed", "event"}

func (k ChangeKind) String() string { return nameOf(changeKinds, k) }

// A Change is one device's difference between two looks at the list.
type Change struct {
	Kind ChangeKind
	// Device is as it is now, for Removed as it was last seen.
	Device Device
	// Previous is as it was at the look before; zero for Added.
	Previous Device
}

// A Watcher reports what happens to the devices of a prefix. It is not safe for concurrent
// use: one goroutine calls Next. Only Close may be called beside it.
type Watcher struct {
	client *Client
	prefix Prefix
	poller poller
	seen   map[Number]Device
	primed bool
}

// Watch opens a watcher with a control file of its own; the caller closes it. The error is
// [ErrNotSupported] on kernels whose interface is older than 4.37 (Linux 4.13).
func (c *Client) Watch(prefix Prefix) (*Watcher, error) {
	if err := prefix.validate(); err != nil {
		return nil, err
	}
	if c.version.Minor < minorListEvent {
		return nil, fmt.Errorf("watching devices: %w: interface %s, want 4.%d", ErrNotSupported, c.version, minorListEvent)
	}
	poller, err := c.control.events()
	if err != nil {
		return nil, err
	}
	return &Watcher{client: c, prefix: prefix, poller: poller, seen: map[Number]Device{}}, nil
}

// Next returns what has changed since the call before, waiting until something has or the
// context ends. The first call returns at once and reports every device as Added; it may
// return nothing. No event is lost between calls; several of one device may be
// reported as one. Each look at the list costs two ioctls; waiting holds no thread.
func (w *Watcher) Next(ctx context.Context) ([]Change, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("watching devices: %w", context.Cause(ctx))
	}
	if err := w.poller.setDeadline(time.Time{}); err != nil {
		return nil, watchError(ctx, err)
	}
	cancelled := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(cancelled)
		_ = w.poller.setDeadline(time.Unix(1, 0)) // fails only when closed, which ends the wait too
	})
	defer func() {
		if !stop() {
			<-cancelled // or it would end the next call's wait
		}
	}()
	var changes []Change
	var lookErr error
	err := w.poller.wait(func(arm func(*ioctl.DMBuffer) error) bool {
		first := !w.primed
		changes, lookErr = w.look(ctx, arm)
		return first || lookErr != nil || len(changes) > 0
	})
	if err != nil {
		return nil, watchError(ctx, err)
	}
	return changes, lookErr
}

// look arms the poller and then lists: an event after the arming wakes the next wait, one
// before it is in the list.
func (w *Watcher) look(ctx context.Context, arm func(*ioctl.DMBuffer) error) ([]Change, error) {
	r := request{command: ioctl.DM_DEV_ARM_POLL_CMD, size: smallBuffer, via: arm}
	if _, err := w.client.do(ctx, r); err != nil {
		return nil, err
	}
	devices, err := w.client.List(ctx, w.prefix)
	if err != nil {
		return nil, err
	}
	w.primed = true
	changes := compare(w.seen, devices)
	w.seen = make(map[Number]Device, len(devices))
	for _, device := range devices {
		w.seen[device.Dev] = device
	}
	return changes, nil
}

// Close releases the control file. A Next that waits in another goroutine returns [ErrClosed].
func (w *Watcher) Close() error { return w.poller.Close() }

func watchError(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil:
		return fmt.Errorf("watching devices: %w", context.Cause(ctx))
	case errors.Is(err, os.ErrClosed):
		return fmt.Errorf("watching devices: %w", ErrClosed)
	}
	return fmt.Errorf("watching devices: %w", err)
}

// compare is the difference between two looks: removals first, each group by name.
func compare(seen map[Number]Device, now []Device) []Change {
	var removed, changed []Change
	left := make(map[Number]Device, len(seen))
	for number, device := range seen {
		left[number] = device
	}
	for _, device := range now {
		before, ok := left[device.Dev]
		switch {
		case ok && sameDevice(before, device):
			delete(left, device.Dev)
			changed = append(changed, differences(before, device)...)
		default:
			changed = append(changed, Change{Kind: Added, Device: device})
		}
	}
	for _, device := range left {
		removed = append(removed, Change{Kind: Removed, Device: device, Previous: device})
	}
	slices.SortFunc(removed, func(a, b Change) int { return strings.Compare(a.Device.Name, b.Device.Name) })
	return append(removed, changed...)
}

// sameDevice says whether two entries with one number are one device: numbers are used again.
func sameDevice(before, now Device) bool {
	switch {
	case now.EventNr < before.EventNr:
		return false
	case before.UUID != "":
		return now.UUID == before.UUID
	default:
		return now.Name == before.Name
	}
}

func differences(before, now Device) []Change {
	var changes []Change
	if before.Name != now.Name || before.UUID != now.UUID {
		changes = append(changes, Change{Kind: Renamed, Device: now, Previous: before})
	}
	if before.EventNr != now.EventNr {
		changes = append(changes, Change{Kind: Event, Device: now, Previous: before})
	}
	return changes
}
