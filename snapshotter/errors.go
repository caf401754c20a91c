package snapshotter

import (
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"google.golang.org/grpc/status"

	"blockstore.dev/blockstore/snapshot"
)

// classified is an error of the store's with the class that containerd acts upon.
type classified struct {
	error
	class error
}

// Unwrap gives both, for errors.Is.
func (c classified) Unwrap() []error { return []error{c.error, c.class} }

// classes says what the store's errors are to containerd. Those of contexts are its
// own.
func classes() []struct{ is, class error } {
	return []struct{ is, class error }{
		{snapshot.ErrNotFound, errdefs.ErrNotFound},
		{snapshot.ErrExists, errdefs.ErrAlreadyExists},
		{snapshot.ErrBusy, errdefs.ErrFailedPrecondition},
		{snapshot.ErrReadOnly, errdefs.ErrFailedPrecondition},
		{snapshot.ErrNoSpace, errdefs.ErrResourceExhausted},
		{snapshot.ErrCorrupt, errdefs.ErrDataLoss},
		{snapshot.ErrNotSupported, errdefs.ErrNotImplemented},
		{snapshot.ErrInvalid, errdefs.ErrInvalidArgument},
	}
}

// classify makes errors of the store's errors of containerd's.
func classify(err error) error {
	if err == nil {
		return nil
	}
	for _, c := range classes() {
		if errors.Is(err, c.class) {
			return err
		}
	}
	for _, c := range classes() {
		if errors.Is(err, c.is) {
			return classified{err, c.class}
		}
	}
	return err
}

// ownKind finds the store's kind of an error in any form: the store's own, containerd's, gRPC's.
func ownKind(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		err = errgrpc.ToNative(err)
	}
	for _, c := range classes() {
		if errors.Is(err, c.is) {
			return err
		}
	}
	for _, c := range classes() {
		if errors.Is(err, c.class) {
			return fmt.Errorf("%w: %w", c.is, err)
		}
	}
	return err
}

// removal classifies the errors of Remove: containerd's collection goes on after
// FailedPrecondition only.
func removal(err error) error {
	if err = classify(err); err == nil || errdefs.IsNotFound(err) || errdefs.IsInvalidArgument(err) {
		return err
	}
	return classified{err, errdefs.ErrFailedPrecondition}
}
