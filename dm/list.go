package dm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"blockstore.dev/blockstore/ioctl"
)

// A Device is one entry of the kernel's list.
type Device struct {
	Name string
	// UUID may be empty.
	UUID string
	Dev  Number
	// EventNr counts the events that the device's targets raised; 0 on kernels
	// before interface 4.37.
	EventNr uint32
}

// A Prefix selects devices whose name and uuid begin with the given texts; an empty text
// selects all.
type Prefix struct {
	Name, UUID string
}

// Matches says whether a device is selected.
func (p Prefix) Matches(device Device) bool {
	return strings.HasPrefix(device.Name, p.Name) && strings.HasPrefix(device.UUID, p.UUID)
}

func (p Prefix) validate() error {
	if len(p.Name) > MaxName || len(p.UUID) > MaxUUID || strings.ContainsRune(p.Name+p.UUID, 0) {
		return fmt.Errorf("%w: list prefix %q %q is too long or has a NUL", ErrInvalid, p.Name, p.UUID)
	}
	return nil
}

// List lists the devices that match the prefix, sorted by name. One ioctl on kernels that return
// uuids with the list; on older ones one more per device. The kernel filters since
// interface 4.45; List filters again.
func (c *Client) List(ctx context.Context, prefix Prefix) ([]Device, error) {
	if err := prefix.validate(); err != nil {
		return nil, err
	}
	r := request{
		command: ioctl.DM_LIST_DEVICES_CMD, ref: Ref{name: prefix.Name, uuid: prefix.UUID},
		flags: ioctl.DM_UUID_FLAG, size: startBuffer, grow: true,
	}
	reply, err := c.do(ctx, r)
	if err != nil {
		return nil, err
	}
	entries, err := decodeList(replyData(reply), c.version.Minor)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.describe(), err)
	}
	devices := make([]Device, 0, len(entries))
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name, prefix.Name) {
			continue
		}
		device, err := c.complete(ctx, entry)
		if errors.Is(err, ErrNotFound) {
			continue // removed since it was listed
		}
		if err != nil {
			return nil, err
		}
		if prefix.Matches(device) {
			devices = append(devices, device)
		}
	}
	slices.SortFunc(devices, func(a, b Device) int { return strings.Compare(a.Name, b.Name) })
	return devices, nil
}

// complete asks for the uuid that an old kernel's list lacks.
func (c *Client) complete(ctx context.Context, entry listEntry) (Device, error) {
	if entry.knowsUUID {
		return entry.Device, nil
	}
	info, err := c.Info(ctx, Dev(entry.Dev))
	if err != nil {
		return Device{}, err
	}
	entry.UUID = info.UUID
	return entry.Device, nil
}
