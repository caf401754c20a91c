package differ

import (
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/layertar"
)

// kind pairs the store's errors with containerd's. None becomes Unimplemented: that
// has containerd try its next differ, on a snapshot that is half written then.
type kind struct{ ours, theirs error }

func kinds() []kind {
	return []kind{
		{snapshot.ErrInvalid, errdefs.ErrInvalidArgument},
		{snapshot.ErrNoSpace, errdefs.ErrResourceExhausted},
		{snapshot.ErrCorrupt, errdefs.ErrDataLoss},
		{snapshot.ErrBusy, errdefs.ErrFailedPrecondition},
		{snapshot.ErrReadOnly, errdefs.ErrFailedPrecondition},
		{snapshot.ErrNotSupported, errdefs.ErrFailedPrecondition},
		{snapshot.ErrExists, errdefs.ErrAlreadyExists},
		{snapshot.ErrNotFound, errdefs.ErrNotFound},
		{layertar.ErrChanged, errdefs.ErrAborted},
		{layertar.ErrUnrepresentable, errdefs.ErrFailedPrecondition},
	}
}

// toGRPC gives an error the code by which containerd knows it. One that containerd
// itself answered with keeps its code.
func toGRPC(err error) error {
	if errdefs.Resolve(err) == errdefs.ErrUnknown {
		for _, k := range kinds() {
			if errors.Is(err, k.ours) {
				err = fmt.Errorf("%w: %w", err, k.theirs)
				break
			}
		}
	}
	return errgrpc.ToGRPC(err)
}
