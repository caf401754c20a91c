package dm

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"strings"

	"blockstore.dev/blockstore/ioctl"
)

// StatusOptions are the ways to ask for a status.
type StatusOptions struct {
	// NoFlush tells a thin pool not to commit for the sake of fresh numbers: the
	// status then costs no flushes.
	NoFlush bool
}

// Status asks each target of the active table for its state. Line.Params is in the
// target's own grammar; [ParseThinPoolStatus] and its like read it.
func (c *Client) Status(ctx context.Context, ref Ref, options StatusOptions) (Info, []Line, error) {
	return c.lines(ctx, ref, options.flags(), startBuffer)
}

func (o StatusOptions) flags() uint32 {
	if o.NoFlush {
		return ioctl.DM_NOFLUSH_FLAG
	}
	return 0
}

// TableOptions say which table to read.
type TableOptions struct {
	// Inactive reads the loaded table instead of the active one.
	Inactive bool
}

// Table reads a table back, as lines; [ParseTable] gives the targets. It never flushes.
func (c *Client) Table(ctx context.Context, ref Ref, options TableOptions) (Info, []Line, error) {
	flags := uint32(ioctl.DM_STATUS_TABLE_FLAG | ioctl.DM_NOFLUSH_FLAG)
	if options.Inactive {
		flags |= ioctl.DM_QUERY_INACTIVE_TABLE_FLAG
	}
	return c.lines(ctx, ref, flags, lineBuffer)
}

// ThinPoolStatus asks a device whose only target is a thin pool for its status.
func (c *Client) ThinPoolStatus(ctx context.Context, ref Ref, options StatusOptions) (ThinPoolStatus, error) {
	return statusOf(c, ctx, statusQuery[ThinPoolStatus]{ref, options, ThinPool{}.Type(), ParseThinPoolStatus})
}

// ThinStatus asks a device whose only target is a thin device for its status.
func (c *Client) ThinStatus(ctx context.Context, ref Ref, options StatusOptions) (ThinStatus, error) {
	return statusOf(c, ctx, statusQuery[ThinStatus]{ref, options, Thin{}.Type(), ParseThinStatus})
}

type statusQuery[T any] struct {
	ref     Ref
	options StatusOptions
	kind    string
	parse   func(string) (T, error)
}

func statusOf[T any](c *Client, ctx context.Context, q statusQuery[T]) (T, error) {
	var zero T
	_, lines, err := c.lines(ctx, q.ref, q.options.flags(), lineBuffer)
	if err != nil {
		return zero, err
	}
	if len(lines) != 1 || lines[0].Type != q.kind {
		return zero, fmt.Errorf("status of %s: %w: device is not one %s target", q.ref, ErrSyntax, q.kind)
	}
	status, err := q.parse(lines[0].Params)
	if err != nil {
		return zero, fmt.Errorf("status of %s: %w", q.ref, err)
	}
	return status, nil
}

// lines is a table's state, or the table; size is the buffer to begin with.
func (c *Client) lines(ctx context.Context, ref Ref, flags uint32, size int) (Info, []Line, error) {
	if err := ref.validate(); err != nil {
		return Info{}, nil, err
	}
	r := request{command: ioctl.DM_TABLE_STATUS_CMD, ref: ref, flags: flags, size: size, grow: true}
	reply, err := c.do(ctx, r)
	info, err := c.info(reply, err)
	if err != nil {
		return Info{}, nil, err
	}
	lines, err := decodeLines(replyData(reply), info.Targets)
	if err != nil {
		return Info{}, nil, fmt.Errorf("%s: %w", r.describe(), err)
	}
	return info, lines, nil
}

// Deps lists the devices that the active table uses.
func (c *Client) Deps(ctx context.Context, ref Ref) ([]Number, error) {
	if err := ref.validate(); err != nil {
		return nil, err
	}
	r := request{command: ioctl.DM_TABLE_DEPS_CMD, ref: ref, size: startBuffer, grow: true}
	reply, err := c.do(ctx, r)
	if err != nil {
		return nil, err
	}
	deps, err := decodeDeps(replyData(reply))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.describe(), err)
	}
	return deps, nil
}

// Message sends a target a message and returns its text reply, which most messages
// lack. sector picks the target that maps it. A message whose reply does not fit
// is not sent again: that is [ErrTooLarge], and the message has had its effect.
//
// For a thin pool a nil error does not mean that the change lasts: the pool may have
// rolled it back. Read [Client.ThinPoolStatus] behind it.
func (c *Client) Message(ctx context.Context, ref Ref, sector Sectors, message string) (string, error) {
	if err := ref.validate(); err != nil {
		return "", err
	}
	if message == "" || strings.ContainsRune(message, 0) {
		return "", fmt.Errorf("%w: message %q is empty or has a NUL", ErrInvalid, message)
	}
	payload, _ := binary.Append(nil, binary.NativeEndian, ioctl.DMTargetMsg{Sector: uint64(sector)})
	payload = append(append(payload, message...), 0)
	reply, err := c.do(ctx, request{
		command: ioctl.DM_TARGET_MSG_CMD, ref: ref, payload: payload, size: replyRoom(message), detail: message,
	})
	if err != nil || reply.Header().Flags&ioctl.DM_DATA_OUT_FLAG == 0 {
		return "", err
	}
	return ioctl.CString(replyData(reply)), nil
}

// replyRoom is the least buffer for a message and its reply. The kernel takes as much memory as the buffer has, and a
// thin pool is sent many.
func replyRoom(message string) int {
	command, _, _ := strings.Cut(message, " ")
	switch command {
	case createThin, createSnap, deleteThin, setTransactionID, ReserveMetadataSnapMessage, ReleaseMetadataSnapMessage:
		return smallBuffer
	}
	return messageSize
}

// A TargetVersion is a target that the kernel has.
type TargetVersion struct {
	Name    string
	Version Version
}

// Targets lists the targets whose modules are loaded. A target that is absent here may
// still be loadable: [Client.ProbeTarget] finds out.
func (c *Client) Targets(ctx context.Context) ([]TargetVersion, error) {
	r := request{command: ioctl.DM_LIST_VERSIONS_CMD, size: startBuffer, grow: true}
	return c.targets(ctx, r)
}

// ProbeTarget asks for one target's version and lets the kernel load its module
// "dm-NAME". The error is [ErrNotSupported] if there is none. The thin target lives in
// the module of thin-pool and is probed through it.
func (c *Client) ProbeTarget(ctx context.Context, name string) (Version, error) {
	if name == "" || len(name) >= maxTypeName || strings.ContainsRune(name, 0) {
		return Version{}, fmt.Errorf("%w: target %q is not 1 to %d bytes long", ErrInvalid, name, maxTypeName-1)
	}
	if name == (Thin{}).Type() {
		if _, err := c.probe(ctx, ThinPool{}.Type()); err != nil {
			return Version{}, err
		}
	}
	return c.probe(ctx, name)
}

func (c *Client) probe(ctx context.Context, name string) (Version, error) {
	r := request{command: ioctl.DM_GET_TARGET_VERSION_CMD, ref: Name(name), size: startBuffer, grow: true}
	versions, err := c.targets(ctx, r)
	if err != nil {
		return Version{}, err
	}
	for _, v := range versions {
		if v.Name == name {
			return v.Version, nil
		}
	}
	return Version{}, fmt.Errorf("%s: %w", r.describe(), ErrNotSupported)
}

func (c *Client) targets(ctx context.Context, r request) ([]TargetVersion, error) {
	reply, err := c.do(ctx, r)
	if err != nil {
		return nil, err
	}
	versions, err := decodeTargets(replyData(reply))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.describe(), err)
	}
	return versions, nil
}

// replyData is the payload of a reply, within what the kernel says that it wrote.
func replyData(reply *ioctl.DMBuffer) []byte {
	all := reply.Bytes()
	start := min(int(reply.Header().DataStart), len(all))
	end := min(int(reply.Header().DataSize), len(all))
	if end < start {
		return nil
	}
	return bytes.Clone(all[start:end])
}
