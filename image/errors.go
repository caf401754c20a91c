package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"blockstore.dev/blockstore/snapshot"
)

// What can be wrong with an archive; compare with errors.Is. Each of the others
// is also ErrArchive.
var (
	// ErrArchive is anything that is wrong with an archive, as opposed to the
	// store that it goes into.
	ErrArchive = errors.New("bad image archive")
	// ErrMalformed: it is cut short, not of a known form, or says what it must not.
	ErrMalformed = errors.New("malformed")
	// ErrDigest: contents do not have the digest or the size that they should.
	ErrDigest = errors.New("digest mismatch")
	// ErrMissing: it names something that is not in it.
	ErrMissing = errors.New("missing")
	// ErrUnsupported: it may be sound, but blockstore cannot use it.
	ErrUnsupported = errors.New("not supported")
)

// ErrReference is an image name that does not follow the grammar. It is also
// snapshot.ErrInvalid.
var ErrReference = fmt.Errorf("%w image name", snapshot.ErrInvalid)

// Error says what is wrong with which part of an archive. It is ErrArchive, its
// Kind and its Err at once, for errors.Is.
type Error struct {
	// Kind is ErrMalformed, ErrDigest, ErrMissing or ErrUnsupported.
	Kind error
	// Source is the archive: a path, or "-" for standard input.
	Source string
	// Member is the file inside the archive, "" for the archive as a whole.
	Member string
	// Text says what is wrong, and how to mend it where somebody can.
	Text string
	// Err is the cause, if there is one below.
	Err error
}

// Error gives source, member, text and cause, in this order.
func (e *Error) Error() string {
	var parts []string
	if e.Source != "" {
		parts = append(parts, e.Source)
	}
	if e.Member != "" {
		parts = append(parts, printable(e.Member))
	}
	if e.Text != "" {
		parts = append(parts, e.Text)
	} else if e.Err == nil {
		parts = append(parts, e.Kind.Error())
	}
	if e.Err != nil {
		parts = append(parts, e.Err.Error())
	}
	return strings.Join(parts, ": ")
}

// Unwrap gives ErrArchive, the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{ErrArchive, e.Kind}
	}
	return []error{ErrArchive, e.Kind, e.Err}
}

// bad makes an Error about a member; the archive's name is added on the way out
// by blame.
func bad(kind error, member, format string, args ...any) *Error {
	return &Error{Kind: kind, Member: member, Text: fmt.Sprintf(format, args...)}
}

// blame puts the archive's name into an error about it, and the member's where
// none is named. Errors of the file system below the archive, and cancellation,
// are not the archive's fault and pass unchanged.
func blame(err error, source, member string) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		named := *e
		if named.Source == "" {
			named.Source = source
		}
		if named.Member == "" {
			named.Member = member
		}
		return &named
	}
	return err
}

// damaged takes an error of a decoder (gzip, tar, JSON) to be the archive's
// fault, unless it came from the file system below.
func damaged(err error, member, doing string) error {
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return err
	}
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return &Error{Kind: ErrMalformed, Member: member, Text: doing, Err: err}
}

// printable quotes a name from an archive where showing it as it is could fool a
// terminal, and cuts it where it is too long to read.
func printable(name string) string {
	const longest = 200
	if len(name) > longest {
		name = name[:longest] + "…"
	}
	quoted := fmt.Sprintf("%+q", name)
	if quoted == `"`+name+`"` && !strings.ContainsAny(name, " :") {
		return name
	}
	return quoted
}
