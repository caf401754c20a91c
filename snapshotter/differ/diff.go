package differ

import (
	"context"
	"errors"
	"fmt"
	"time"

	diffapi "github.com/containerd/containerd/api/services/diff/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/errdefs"

	"blockstore.dev/blockstore/snapshot"
)

// Diff writes the layer blob that makes the snapshot on the left into the one on the
// right. Nothing on the left is the empty tree. A container on either side is compared
// as it is at one instant. The blob is in containerd's content store afterwards, with
// the labels of the request and, if it is compressed, the DiffID as one of them.
func (d *Differ) Diff(ctx context.Context, r *diffapi.DiffRequest) (*diffapi.DiffResponse, error) {
	begun := time.Now()
	made, err := d.diff(ctx, r)
	if err := d.answered("diff", err, "blob", made.GetDigest(), "bytes", made.GetSize(), "took", time.Since(begun)); err != nil {
		return nil, err
	}
	return &diffapi.DiffResponse{Diff: made}, nil
}

func (d *Differ) diff(ctx context.Context, r *diffapi.DiffRequest) (_ *types.Descriptor, err error) {
	mediaType, packed, err := writable(r.MediaType)
	if err != nil {
		return nil, err
	}
	request, err := d.sides(ctx, r)
	if err != nil {
		return nil, err
	}
	var o snapshot.TarOptions
	if r.SourceDateEpoch != nil {
		if err := r.SourceDateEpoch.CheckValid(); err != nil {
			return nil, fmt.Errorf("the source date epoch: %w: %w", errdefs.ErrInvalidArgument, err)
		}
		o.Latest = r.SourceDateEpoch.AsTime()
	}
	ctx, leased, err := asCaller(ctx, request.Name)
	if err != nil {
		return nil, err
	}
	c, err := d.store.Compare(ctx, request)
	if err != nil {
		return nil, fmt.Errorf("comparing %q with %q: %w", request.Name, request.Below, err)
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	w := writing{
		peer: d.peer, ref: r.Ref, mediaType: mediaType, packed: packed, labels: r.Labels, leased: leased,
		tar: layerOf(c, o),
	}
	made, err := w.do(ctx)
	if err != nil {
		return nil, fmt.Errorf("writing the difference of %q and %q: %w", request.Name, request.Below, err)
	}
	return made, nil
}

// sides names what is to be compared.
func (d *Differ) sides(ctx context.Context, r *diffapi.DiffRequest) (snapshot.CompareRequest, error) {
	request := snapshot.CompareRequest{Instant: true}
	upper, err := d.identify(ctx, "the right", r.Right)
	if err != nil {
		return request, err
	}
	if upper.Name == "" {
		return request, fmt.Errorf("the right mounts show an empty base: %w", errdefs.ErrNotImplemented)
	}
	request.Name = upper.Name
	if len(r.Left) == 0 {
		return request, nil
	}
	lower, err := d.identify(ctx, "the left", r.Left)
	request.Below = lower.Name
	return request, err
}
