package snapshot

import (
	"errors"
	"fmt"
)

// What can go wrong, for callers that must tell cases apart: compare with
// errors.Is. The text around them says what was being done and how to mend it.
var (
	// ErrNotFound: no layer, container, image or volume of that name.
	ErrNotFound = errors.New("not found")
	// ErrExists: the name is taken.
	ErrExists = errors.New("already exists")
	// ErrBusy: it is in use: mounted, open, has children, or another process has
	// the store.
	ErrBusy = errors.New("in use")
	// ErrNoSpace: the volume, the pool or the file system below is full.
	ErrNoSpace = errors.New("no space")
	// ErrReadOnly: sealed volumes and pools in read-only mode.
	ErrReadOnly = errors.New("read-only")
	// ErrCorrupt: catalog, kernel and content do not fit together.
	ErrCorrupt = errors.New("needs repair")
	// ErrNotSupported: this kernel or driver cannot do it.
	ErrNotSupported = errors.New("not supported")
	// ErrUnconfirmed: devices would be taken whole, and nobody said that they may. Nothing was changed.
	ErrUnconfirmed = errors.New("not confirmed")
	// ErrInvalid: the request or the input is wrong.
	ErrInvalid = errors.New("invalid")
)

// Meaning says what an error of a driver's kernel side means to the store.
type Meaning struct{ Of, Is error }

// Explain says of an error what was being done, and adds the sentinel of the first meaning
// that fits. The error must not be nil.
func Explain(err error, what string, meanings []Meaning) error {
	for _, m := range meanings {
		if errors.Is(err, m.Of) && !errors.Is(err, m.Is) {
			return fmt.Errorf("%s: %w: %w", what, m.Is, err)
		}
	}
	return fmt.Errorf("%s: %w", what, err)
}
