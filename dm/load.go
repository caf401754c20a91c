package dm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"blockstore.dev/blockstore/ioctl"
)

// LoadOptions are the properties of a table.
type LoadOptions struct {
	// ReadOnly makes the device read-only while this table is active, and opens the
	// devices below it read-only.
	ReadOnly bool
	// SecureData wipes the kernel's copy of the request, for tables that hold keys.
	SecureData bool
}

// Load loads a table into a device's inactive slot, in place of one that is there. The active
// table keeps working until [Client.Resume]. A failed load changes nothing. The
// kernel's reason for a refusal is in its log only.
func (c *Client) Load(ctx context.Context, ref Ref, table Table, options LoadOptions) (Info, error) {
	if err := table.Validate(); err != nil {
		return Info{}, err
	}
	flags := uint32(0)
	if options.ReadOnly {
		flags |= ioctl.DM_READONLY_FLAG
	}
	if options.SecureData {
		flags |= ioctl.DM_SECURE_DATA_FLAG
	}
	return c.about(ctx, request{
		command: ioctl.DM_TABLE_LOAD_CMD, ref: ref, flags: flags,
		count: uint32(len(table)), payload: encodeTable(table), detail: table[0].Target.Type(),
	})
}

// Clear drops the table in the inactive slot, if there is one.
func (c *Client) Clear(ctx context.Context, ref Ref) (Info, error) {
	return c.about(ctx, request{command: ioctl.DM_TABLE_CLEAR_CMD, ref: ref})
}

// CreateLoaded makes a device with an active table: DEV_CREATE, TABLE_LOAD, resume,
// three ioctls. If a step fails the device is removed again, and a failure of that is
// joined to the error.
func (c *Client) CreateLoaded(ctx context.Context, name, uuid string, table Table, options LoadOptions) (Info, error) {
	if err := table.Validate(); err != nil {
		return Info{}, err
	}
	if _, err := c.Create(ctx, name, uuid); err != nil {
		return Info{}, err
	}
	_, err := c.Load(ctx, Name(name), table, options)
	if err == nil {
		var info Info
		if info, err = c.Resume(ctx, Name(name)); err == nil {
			return info, nil
		}
	}
	// The undo must run even when it is the context that ended.
	if _, undo := c.Remove(context.WithoutCancel(ctx), Name(name), RemoveOptions{}); undo != nil {
		err = errors.Join(err, fmt.Errorf("undoing the creation of %s: %w", name, undo))
	}
	return Info{}, err
}

// encodeTable is the payload of TABLE_LOAD: specs, each followed by its parameters,
// aligned to 8 and linked relative to itself.
func encodeTable(table Table) []byte {
	var payload []byte
	for _, row := range table {
		params := row.Target.Params()
		next := align8(ioctl.DMTargetSpecSize + len(params) + 1)
		spec := ioctl.DMTargetSpec{SectorStart: uint64(row.Start), Length: uint64(row.Length), Next: uint32(next)}
		copy(spec.TargetType[:], row.Target.Type())
		end := len(payload) + next
		payload, _ = binary.Append(payload, binary.NativeEndian, spec) // fixed size: cannot fail
		payload = append(payload, params...)
		payload = append(payload, make([]byte, end-len(payload))...)
	}
	return payload
}

func align8(n int) int { return (n + 7) &^ 7 }
