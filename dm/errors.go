package dm

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// Sentinels for errors.Is. The kernel's errno stays reachable beside them:
// errors.Is(err, unix.ENXIO) holds as well.
var (
	// ErrNotFound says that no device has this name, uuid or number (ENXIO).
	ErrNotFound = errors.New("no such device-mapper device")
	// ErrExists says that the name or uuid is in use (EBUSY of DEV_CREATE and
	// DEV_RENAME), or that a target's message names something that exists (EEXIST).
	ErrExists = errors.New("name or uuid already in use")
	// ErrBusy says that somebody holds the device (EBUSY of any other command).
	ErrBusy = errors.New("device is busy")
	// ErrNotSupported says that the running kernel lacks device-mapper, the
	// command or the target.
	ErrNotSupported = errors.New("not supported by the running kernel")
	// ErrPermission says that the caller lacks CAP_SYS_ADMIN in the initial user
	// namespace, which every device-mapper command needs.
	ErrPermission = errors.New("device-mapper needs root: CAP_SYS_ADMIN in the initial user namespace")
	// ErrInvalid says that a name, uuid, table or message was refused before any
	// ioctl was issued.
	ErrInvalid = errors.New("invalid device-mapper argument")
	// ErrTooLarge says that a reply did not fit the largest buffer that a client uses.
	ErrTooLarge = errors.New("reply exceeds the buffer limit")
	// ErrFailed says that a target printed "Fail", "Error" or "-" instead of its table.
	ErrFailed = errors.New("target has failed")
	// ErrSyntax says that a text of the kernel does not follow its grammar.
	ErrSyntax = errors.New("unknown device-mapper text")
	// ErrClosed says that the client or watcher is closed.
	ErrClosed = errors.New("device-mapper client is closed")
)

// An Error is a command that the kernel refused.
type Error struct {
	// Command is the kernel's name of the command: "DEV_CREATE".
	Command string
	// Device is what was asked for: the name, uuid or major:minor. It is empty
	// for a command that is about no device.
	Device string
	// Detail is the message sent, the target probed or the new name; may be empty.
	Detail string
	// Holders are those who hold a busy device, as far as they were found.
	Holders []Holder
	// Kind is one of the package's sentinels, nil if none fits.
	Kind error
	// Errno is the kernel's.
	Errno unix.Errno
}

// Error reads like "DEV_REMOVE of pool: device is busy (device or resource busy): held by pid 12 (dd)".
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.subject() + ": ")
	if e.Kind != nil {
		b.WriteString(e.Kind.Error() + " (" + e.Errno.Error() + ")")
	} else {
		b.WriteString(e.Errno.Error())
	}
	for i, h := range e.Holders {
		b.WriteString([]string{": held by ", ", "}[min(i, 1)] + h.String())
	}
	return b.String()
}

// subject is what was tried: "TARGET_MSG of pool (create_thin 1)".
func (e *Error) subject() string {
	subject := e.Command
	if e.Device != "" {
		subject += " of " + e.Device
	}
	if e.Detail != "" {
		subject += " (" + e.Detail + ")"
	}
	return subject
}

// Unwrap gives errors.Is the sentinel and the errno.
func (e *Error) Unwrap() []error {
	if e.Kind == nil {
		return []error{e.Errno}
	}
	return []error{e.Kind, e.Errno}
}
