package differ

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	diffapi "github.com/containerd/containerd/api/services/diff/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"blockstore.dev/blockstore/snapshot"
)

// Apply unpacks a layer blob into the container that the mounts show and writes its
// files out, whatever SyncFs says, so that sealing it later is quick. The answer tells
// the layer's DiffID, which the caller compares. A blob that is damaged or breaks a rule
// of package layertar is InvalidArgument; after any error but Unimplemented the snapshot
// is good for Remove only.
func (d *Differ) Apply(ctx context.Context, r *diffapi.ApplyRequest) (*diffapi.ApplyResponse, error) {
	begun := time.Now()
	applied, err := d.apply(ctx, r)
	if err := d.answered("apply", err, "blob", r.GetDiff().GetDigest(), "took", time.Since(begun)); err != nil {
		return nil, err
	}
	return &diffapi.ApplyResponse{Applied: applied}, nil
}

func (d *Differ) apply(ctx context.Context, r *diffapi.ApplyRequest) (*types.Descriptor, error) {
	if r.Diff == nil {
		return nil, fmt.Errorf("applying nothing: the request has no descriptor: %w", errdefs.ErrInvalidArgument)
	}
	target, err := d.identify(ctx, "the snapshot's", r.Mounts)
	if err != nil {
		return nil, err
	}
	if mapped(r.Mounts) {
		return nil, fmt.Errorf("applying through a mount with mapped owners: %w", errdefs.ErrNotImplemented)
	}
	if err := readable(r.Diff.MediaType); err != nil {
		return nil, err
	}
	if target.Kind != snapshot.KindContainer {
		return nil, fmt.Errorf("applying to the committed snapshot %q, which nothing can be written to: %w", target.Name, errdefs.ErrFailedPrecondition)
	}
	ctx, _, err = asCaller(ctx, target.Name)
	if err != nil {
		return nil, err
	}
	b, err := d.peer.open(ctx, r.Diff)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	layer, err := d.unpackInto(ctx, target.Name, b)
	if err != nil {
		return nil, fmt.Errorf("applying blob %s: %w", r.Diff.Digest, err)
	}
	return layer, nil
}

// unpackInto reads a blob to its end, also behind what its tar needs of it.
func (d *Differ) unpackInto(ctx context.Context, name string, b *blob) (*types.Descriptor, error) {
	layer, err := unpack(b)
	if err != nil {
		return nil, err
	}
	defer layer.Close()
	applied, err := d.store.Apply(ctx, name, snapshot.FillRequest{Tar: layer})
	if err != nil {
		return nil, err
	}
	if err := b.verify(); err != nil {
		return nil, err
	}
	return &types.Descriptor{
		MediaType: ocispec.MediaTypeImageLayer, Digest: applied.DiffID.String(), Size: applied.TarBytes,
	}, nil
}

// blob is a blob that is being read from its beginning to its end.
type blob struct {
	io.Reader
	at   content.ReaderAt
	want digest.Digest
	sum  digest.Verifier
}

// open opens a blob, of the size that its descriptor says.
func (p peer) open(ctx context.Context, d *types.Descriptor) (*blob, error) {
	want, err := digest.Parse(d.Digest)
	if err != nil {
		return nil, fmt.Errorf("the blob's digest %q: %w: %w", d.Digest, errdefs.ErrInvalidArgument, err)
	}
	at, err := p.content.ReaderAt(ctx, ocispec.Descriptor{Digest: want, Size: d.Size})
	if err != nil {
		return nil, fmt.Errorf("opening blob %s: %w", want, err)
	}
	if at.Size() != d.Size {
		return nil, errors.Join(at.Close(), fmt.Errorf("blob %s has %d bytes, its descriptor says %d: %w", want, at.Size(), d.Size, errdefs.ErrInvalidArgument))
	}
	b := &blob{at: at, want: want, sum: want.Verifier()}
	b.Reader = io.TeeReader(content.NewReader(at), b.sum)
	return b, nil
}

// verify reads what is left and compares the digest of all that was read.
func (b *blob) verify() error {
	if _, err := io.Copy(io.Discard, b); err != nil {
		return fmt.Errorf("reading on to its end: %w", err)
	}
	if !b.sum.Verified() {
		return fmt.Errorf("containerd's content for it has another digest: %w", errdefs.ErrInvalidArgument)
	}
	return nil
}

func (b *blob) Close() error { return b.at.Close() }
