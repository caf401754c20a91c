package dm

import (
	"context"
)

// ChangeKind is what has happened to a device.
type ChangeKind int

// The kinds of change.
const (
	// Added: the device is new, or it is the first look at it.
	Added ChangeKind = iota
	// Removed: the device is gone.
	Removed
	// Renamed: the device has another name or uuid; Previous has the old ones.
	Renamed
	// Event: a target of the device has raised one or more events.
	Event
)

// A Change is one device's difference between two looks at the list.
type Change struct {
	Kind ChangeKind
	// Device is as it is now, for Removed as it was last seen.
	Device Device
	// Previous is as it was at the look before; zero for Added.
	Previous Device
}

// A Watcher reports what happens to the devices of a prefix. It is not safe for concurrent
// use: one goroutine calls Next.
type Watcher struct {
	client *Client
	prefix Prefix
	poller poller
	seen   map[Number]Device
}

// Watch opens a watcher with a control file of its own; the caller closes it.
func (c *Client) Watch(prefix Prefix) (*Watcher, error) {
	poller, err := c.control.events()
	if err != nil {
		return nil, err
	}
	return &Watcher{client: c, prefix: prefix, poller: poller, seen: map[Number]Device{}}, nil
}

// Next returns what has changed since the call before, waiting until something has or the
// context ends. The first call reports every device as Added, at once, even if
// there is none. No event is lost between calls; several of one device may be
// reported as one.
func (w *Watcher) Next(ctx context.Context) ([]Change, error) {
	return nil, nil
}

// Close releases the control file. A Next that waits in another goroutine returns [ErrClosed].
func (w *Watcher) Close() error { return w.poller.Close() }
