package dm

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"blockstore.dev/blockstore/ioctl"
	"golang.org/x/sys/unix"
)

// interfaceMajor is the interface that this package speaks. Minor 0 is sent with
// each request: the kernel refuses a minor above its own, and answers with its own.
const interfaceMajor = 4

// Buffer sizes in bytes. Only commands whose reply has a length of its own grow.
const (
	smallBuffer = 512      // the header alone
	lineBuffer  = 1 << 10  // and one line, as thin devices and their pools have
	startBuffer = 16 << 10 // what libdevmapper starts with, and what follows a smaller one
	messageSize = 64 << 10 // a message cannot be repeated, so its reply gets room at once
	maxBuffer   = 32 << 20 // a list of 200,000 devices with long names and uuids
)

// A request is one command as the client's methods put it.
type request struct {
	command uint32
	ref     Ref
	flags   uint32
	eventNr uint32
	count   uint32
	// payload is copied behind the header.
	payload []byte
	// size is the least buffer; it grows to what the payload needs.
	size int
	// grow repeats the command with a larger buffer while the reply does not fit.
	grow bool
	// detail is for the error: the message, the target, the new name.
	detail string
	// via issues the ioctl instead of the client's control device.
	via func(*ioctl.DMBuffer) error
}

// do issues every ioctl of the package: it builds the header, repeats on EINTR and, with
// more room, on a truncated reply, reports to the observer and wraps the errno.
func (c *Client) do(ctx context.Context, r request) (*ioctl.DMBuffer, error) {
	size := max(r.size, ioctl.DMIoctlSize+len(r.payload))
	for {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("%s: %w", r.describe(), context.Cause(ctx))
		}
		buffer := r.buffer(size)
		err := c.issue(r, buffer)
		switch {
		case errors.Is(err, unix.EINTR):
			// A signal, which may be the Go scheduler's own, ended a wait for I/O;
			// the kernel has undone what it began.
			continue
		case err != nil:
			return nil, r.wrap(err)
		case buffer.Header().Flags&ioctl.DM_BUFFER_FULL_FLAG == 0:
			return buffer, nil
		case !r.grow || size >= maxBuffer:
			return nil, fmt.Errorf("%s: %w of %d bytes", r.describe(), ErrTooLarge, size)
		}
		size = max(2*size, startBuffer)
	}
}

func (c *Client) issue(r request, buffer *ioctl.DMBuffer) error {
	var err error
	if r.via != nil {
		err = r.via(buffer)
	} else {
		err = c.control.ioctl(r.command, buffer)
	}
	if c.options.Observer != nil {
		c.options.Observer(Call{Command: commandName(r.command), Device: r.ref.String(), Err: err})
	}
	return err
}

// buffer is the request on the wire.
func (r request) buffer(size int) *ioctl.DMBuffer {
	buffer := ioctl.NewDMBuffer(size)
	header := buffer.Header()
	header.Version = [3]uint32{interfaceMajor, 0, 0}
	header.DataSize = uint32(len(buffer.Bytes()))
	header.DataStart = uint32(ioctl.DMIoctlSize)
	header.TargetCount = r.count
	header.Flags = r.flags
	header.EventNr = r.eventNr
	header.Dev = 0
	if !r.ref.dev.IsZero() {
		header.Dev = r.ref.dev.Dev()
	}
	copy(header.Name[:], r.ref.name)
	copy(header.UUID[:], r.ref.uuid)
	copy(buffer.Payload(), r.payload)
	return buffer
}

func (r request) describe() string {
	e := Error{Command: commandName(r.command), Device: r.ref.String(), Detail: r.detail}
	return e.subject()
}

// wrap gives an errno its context and its sentinel.
func (r request) wrap(err error) error {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return fmt.Errorf("%s: %w", r.describe(), err)
	}
	return &Error{
		Command: commandName(r.command), Device: r.ref.String(), Detail: r.detail,
		Kind: r.kind(errno), Errno: errno,
	}
}

// kind is the sentinel for an errno, which depends on the command: DEV_CREATE and
// DEV_RENAME answer EBUSY where others mean EEXIST.
func (r request) kind(errno unix.Errno) error {
	creates := slices.Contains([]uint32{ioctl.DM_DEV_CREATE_CMD, ioctl.DM_DEV_RENAME_CMD}, r.command)
	switch {
	case errno == unix.ENXIO:
		return ErrNotFound
	case errno == unix.EEXIST, errno == unix.EBUSY && creates:
		return ErrExists
	case errno == unix.EBUSY:
		return ErrBusy
	case errno == unix.EACCES, errno == unix.EPERM:
		return ErrPermission
	case errno == unix.ENOTTY, errno == unix.ENOSYS:
		return ErrNotSupported
	case errno == unix.EINVAL && r.command == ioctl.DM_GET_TARGET_VERSION_CMD:
		return ErrNotSupported
	}
	return nil
}

// commandName is the kernel's name of a command, without the DM_ in front.
func commandName(command uint32) string {
	names := [...]string{
		"VERSION", "REMOVE_ALL", "LIST_DEVICES", "DEV_CREATE", "DEV_REMOVE", "DEV_RENAME", "DEV_SUSPEND", "DEV_STATUS",
		"DEV_WAIT", "TABLE_LOAD", "TABLE_CLEAR", "TABLE_DEPS", "TABLE_STATUS", "LIST_VERSIONS", "TARGET_MSG",
		"DEV_SET_GEOMETRY", "DEV_ARM_POLL", "GET_TARGET_VERSION",
	}
	if int(command) >= len(names) {
		return fmt.Sprintf("command %d", command)
	}
	return names[command]
}
