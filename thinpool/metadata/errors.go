package metadata

import (
	"errors"
	"fmt"

	"blockstore.dev/blockstore/dm"
)

// What can go wrong; compare with errors.Is. Errors of the reader stay reachable beside them.
var (
	// ErrCorrupt: the metadata are damaged. The error is a [CorruptError].
	ErrCorrupt = errors.New("thin pool metadata is corrupt")
	// ErrNotFormatted: the first block is zero, so that there is no pool.
	ErrNotFormatted = errors.New("metadata device holds no thin pool")
	// ErrNotFound: the pool has no thin device of this number.
	ErrNotFound = errors.New("no such thin device")
	// ErrNotHeld: the pool holds no metadata snapshot.
	ErrNotHeld = errors.New("thin pool holds no metadata snapshot")
	// ErrNoSpaceMaps: a held metadata snapshot has no space maps.
	ErrNoSpaceMaps = errors.New("a metadata snapshot has no space maps")
)

// CorruptError says which metadata block is not as it must be, and why.
type CorruptError struct {
	Block  dm.MetadataBlocks
	Reason string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("%v: block %d: %s", ErrCorrupt, e.Block, e.Reason)
}

// Unwrap is ErrCorrupt.
func (*CorruptError) Unwrap() error { return ErrCorrupt }

func corrupt(block dm.MetadataBlocks, format string, args ...any) error {
	return &CorruptError{Block: block, Reason: fmt.Sprintf(format, args...)}
}
