package snapshotter

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	diffapi "github.com/containerd/containerd/api/services/diff/v1"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"blockstore.dev/blockstore/snapshot"
)

// TestObserve: each call of both services, streams too, is told once, with the store's kind of error.
func TestObserve(t *testing.T) {
	w := newWorld(t, directories())
	require.NoError(t, w.stop())
	var mu sync.Mutex
	told := map[string][]error{}
	w.observe = func(method string, took time.Duration, err error) {
		mu.Lock()
		defer mu.Unlock()
		told[method] = append(told[method], err)
	}
	require.NoError(t, w.start(t.Context()))
	sn := w.remote("plugin")
	_, err := sn.Prepare(t.Context(), "key", "")
	require.NoError(t, err)
	_, err = sn.Prepare(t.Context(), "key", "")
	require.True(t, errdefs.IsAlreadyExists(err))
	_, err = sn.Stat(t.Context(), "none")
	require.True(t, errdefs.IsNotFound(err))
	require.NoError(t, sn.Walk(t.Context(), func(context.Context, snapshots.Info) error { return nil }))
	_, err = diffapi.NewDiffClient(w.client).Apply(t.Context(), &diffapi.ApplyRequest{})
	require.Error(t, err)
	mu.Lock()
	defer mu.Unlock()
	require.Len(t, told, 4)
	require.Len(t, told["Snapshots.Prepare"], 2)
	require.NoError(t, told["Snapshots.Prepare"][0])
	require.ErrorIs(t, told["Snapshots.Prepare"][1], snapshot.ErrExists)
	require.ErrorIs(t, told["Snapshots.Stat"][0], snapshot.ErrNotFound)
	require.Equal(t, []error{nil}, told["Snapshots.List"])
	require.Len(t, told["Diff.Apply"], 1)
	require.Error(t, told["Diff.Apply"][0])
}

func TestOwnKind(t *testing.T) {
	require.NoError(t, ownKind(nil))
	first := map[error]error{} // a code of gRPC's says no more than the class
	for _, c := range classes() {
		if first[c.class] == nil {
			first[c.class] = c.is
		}
		require.ErrorIs(t, ownKind(c.is), c.is)
		require.ErrorIs(t, ownKind(classify(c.is)), c.is)
		require.ErrorIs(t, ownKind(errgrpc.ToGRPC(c.class)), first[c.class])
	}
	other := errors.New("other")
	require.Equal(t, other, ownKind(other))
	require.ErrorIs(t, ownKind(status.Error(codes.Canceled, "gone")), context.Canceled)
}
