package layertar

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
)

// DiffOptions change what [Diff] does. The zero value compares unrelated trees
// completely.
type DiffOptions struct {
	CompareOptions
	// Owners translates owners from the tree to the tar.
	Owners OwnerMap
	// Latest is the latest modification time in the tar: later ones are written as it
	// (SOURCE_DATE_EPOCH of reproducible builds). Zero is no limit.
	Latest time.Time
}

// Diffed tells what [Diff] wrote.
type Diffed struct {
	// DiffID is the sha256 of the tar.
	DiffID digest.Digest
	// TarBytes is the length of the tar.
	TarBytes int64
	// Size is the sum of the sizes in the entries' headers.
	Size int64
	// Entries counts the headers, whiteouts included.
	Entries int
}

// Diff writes the layer tar that turns lower into upper. lower may be "", an empty
// tree: then it writes all of upper. The same trees give the same bytes. A
// file that changes while it is read gives [ErrChanged].
func Diff(ctx context.Context, lower, upper string, w io.Writer, opts DiffOptions) (Diffed, error) {
	records, err := compare(ctx, lower, upper, opts.CompareOptions)
	if err != nil {
		return Diffed{}, fmt.Errorf("comparing trees: %w", err)
	}
	out := newOutflow(w)
	diffed, err := writeLayer(ctx, upper, records, out, opts)
	if werr := out.close(); werr != nil {
		err = werr // whatever else failed, failed for it
	}
	if err != nil {
		return Diffed{}, fmt.Errorf("writing layer: %w", err)
	}
	diffed.DiffID, diffed.TarBytes = out.digest(), out.written
	return diffed, nil
}
