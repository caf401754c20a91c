package layertar

import (
	"errors"
	"fmt"
)

// ErrArchive matches every error that says: this archive is refused, another try
// with the same bytes will end the same way. Errors of the file system (no
// space, input/output) and of the reader do not match it.
var ErrArchive = errors.New("archive refused")

// The reasons for which an archive is refused. Each matches [ErrArchive] too.
var (
	// ErrMalformed: not a tar, a truncated tar, or an entry that means nothing.
	ErrMalformed = fmt.Errorf("%w: malformed", ErrArchive)
	// ErrEscapes: a name or link that leads out of the root.
	ErrEscapes = fmt.Errorf("%w: leads out of the root", ErrArchive)
	// ErrDuplicate: two entries for one path that is not a directory, or a path
	// used as a directory and as something else within one layer.
	ErrDuplicate = fmt.Errorf("%w: duplicate entry", ErrArchive)
	// ErrTooLarge: more content than [ApplyOptions.MaxBytes], or padding without end.
	ErrTooLarge = fmt.Errorf("%w: too large", ErrArchive)
	// ErrDevice: a device node where [ApplyOptions.NoDevices] forbids it.
	ErrDevice = fmt.Errorf("%w: device node not allowed", ErrArchive)
	// ErrWhiteout: a whiteout that names nothing, or one where [WhiteoutsRefused] forbids it.
	ErrWhiteout = fmt.Errorf("%w: bad whiteout", ErrArchive)
)

var (
	// ErrChanged: a file changed while [Diff] or [Assemble] read it, or is not the one that
	// the split data describe.
	ErrChanged = errors.New("file is not what it was")
	// ErrUnrepresentable: a tree holds something that a layer tar cannot say, such as a
	// file whose name begins with ".wh.".
	ErrUnrepresentable = errors.New("cannot be stored in a layer")
)

// EntryError tells which entry of the archive was refused or could not be
// written, and why.
type EntryError struct {
	Name   string // as the archive spells it
	Reason string // what is wrong, for people; may be empty
	Err    error  // one of the sentinels, or the file system's error
}

// Error names entry, reason and cause.
func (e *EntryError) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("tar entry %q: %v", e.Name, e.Err)
	}
	return fmt.Sprintf("tar entry %q: %s: %v", e.Name, e.Reason, e.Err)
}

// Unwrap returns the cause.
func (e *EntryError) Unwrap() error { return e.Err }

// reasonError is an error whose text has a reason before it; [applier] turns it
// into an [EntryError].
type reasonError struct {
	reason string
	err    error
}

func (e *reasonError) Error() string { return e.reason + ": " + e.err.Error() }
func (e *reasonError) Unwrap() error { return e.err }

func reason(err error, why string) error { return &reasonError{reason: why, err: err} }

func quote(s string) string { return fmt.Sprintf("%.200q", s) }
