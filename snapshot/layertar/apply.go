package layertar

import (
	"context"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
)

// WhiteoutMode says what an entry named ".wh.*" means.
type WhiteoutMode int

// The whiteout modes.
const (
	// WhiteoutsObeyed is for layers: whiteouts delete, opaque markers hide.
	WhiteoutsObeyed WhiteoutMode = iota
	// WhiteoutsRefused is for root file systems: a whiteout is an [ErrWhiteout].
	WhiteoutsRefused
	// WhiteoutsLiteral unpacks them as ordinary files.
	WhiteoutsLiteral
)

// OwnerMap translates the owner of an entry, for user namespaces: from the tar to
// the tree in [Apply], from the tree to the tar in [Diff]. nil changes nothing.
type OwnerMap func(uid, gid int) (mappedUID, mappedGID int, err error)

// ApplyOptions change what [Apply] does. The zero value applies an image layer.
type ApplyOptions struct {
	// Whiteouts says what ".wh.*" means.
	Whiteouts WhiteoutMode
	// MaxBytes is the most content, in bytes, that the layer's entries may hold together
	// (holes count); 0 is no limit. Beyond it: [ErrTooLarge], before the entry is written.
	MaxBytes int64
	// NoDevices refuses character and block devices with [ErrDevice].
	NoDevices bool
	// Owners translates owners from the tar to the tree.
	Owners OwnerMap
	// Split, if set, receives the split data for [Assemble], compressed with zstd. It
	// is complete when Apply returns without an error; the caller flushes and closes it.
	Split io.Writer
}

// Applied tells what [Apply] read.
type Applied struct {
	// DiffID is the sha256 of the whole stream, padding included.
	DiffID digest.Digest
	// TarBytes is the length of the whole stream.
	TarBytes int64
	// Size is the sum of the sizes in the entries' headers, the number that Docker
	// calls a layer's size.
	Size int64
	// Entries counts the headers, whiteouts and skipped ones included.
	Entries int
	// IgnoredXattrs counts extended attributes that were left out: of a foreign
	// namespace, or such as the file system does not support. Capabilities and ACLs are never
	// left out.
	IgnoredXattrs int
}

// Apply unpacks one uncompressed layer tar beneath root, an existing directory,
// on top of what is there, and reads r to its end. It returns only after the last
// read of r has returned. After an error the tree is in between: throw it
// away. It changes neither umask nor working directory, and may run
// concurrently with others on other roots. Setting owners, device nodes and trusted
// attributes takes root rights.
//
// Rules: the OCI image specification's layer.md; see the package's documentation
// for what is refused.
func Apply(ctx context.Context, root string, r io.Reader, opts ApplyOptions) (Applied, error) {
	a, err := newApplier(ctx, root, opts)
	if err != nil {
		return Applied{}, err
	}
	p := newPump(ctx, r)
	defer p.close()
	applied, err := a.run(p)
	if cerr := a.close(); err == nil {
		err = cerr
	}
	if err != nil {
		return Applied{}, fmt.Errorf("applying layer: %w", err)
	}
	applied.DiffID, applied.TarBytes = p.digest(), p.read
	return applied, nil
}
