package differ

import (
	"context"
	"errors"
	"fmt"
	"time"

	leasesapi "github.com/containerd/containerd/api/services/leases/v1"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/content/proxy"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

// Words of containerd's protocol: metadata of its calls, and labels of what it keeps.
const (
	headerNamespace = "containerd-namespace"
	headerLease     = "containerd-lease"

	labelExpire       = "containerd.io/gc.expire"
	labelUncompressed = "containerd.io/uncompressed"
)

const (
	// leaseTime is how long a blob stays that nobody refers to. containerd collects
	// what is half written, too, once its lease is over.
	leaseTime = time.Hour
	// undoTime bounds the undoing of a call whose own time may be over.
	undoTime = 10 * time.Second
	// longestWait is the longest pause between two attempts to connect.
	longestWait = 3 * time.Second
)

// peer is containerd, as a client sees it.
type peer struct {
	conn    *grpc.ClientConn
	content content.Store
	leases  leasesapi.LeasesClient
}

func dial(socket string) (peer, error) {
	pause := backoff.DefaultConfig
	pause.MaxDelay = longestWait
	conn, err := grpc.NewClient("unix://"+socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: pause, MinConnectTimeout: longestWait}))
	if err != nil {
		return peer{}, err
	}
	return peer{conn: conn, content: proxy.NewContentStore(conn), leases: leasesapi.NewLeasesClient(conn)}, nil
}

// asCaller makes calls to containerd speak of the namespace, and the lease if there is
// one, of the call that is being answered.
func asCaller(ctx context.Context) (_ context.Context, leased bool, err error) {
	in, _ := metadata.FromIncomingContext(ctx)
	namespace := in.Get(headerNamespace)
	if len(namespace) != 1 || namespace[0] == "" {
		return ctx, false, fmt.Errorf("the call names no namespace (%s): %w", headerNamespace, errdefs.ErrFailedPrecondition)
	}
	ctx = metadata.AppendToOutgoingContext(ctx, headerNamespace, namespace[0])
	lease := in.Get(headerLease)
	if len(lease) == 0 || lease[0] == "" {
		return ctx, false, nil
	}
	return metadata.AppendToOutgoingContext(ctx, headerLease, lease[0]), true, nil
}

// lease makes what is written with the returned context stay for a while, after which
// containerd removes the lease. drop ends it at once.
func (p peer) lease(ctx context.Context) (_ context.Context, drop func(context.Context) error, err error) {
	id := "blockstore-diff-" + uuid.NewString()
	_, err = p.leases.Create(ctx, &leasesapi.CreateRequest{
		ID: id, Labels: map[string]string{labelExpire: time.Now().UTC().Add(leaseTime).Format(time.RFC3339)},
	})
	if err != nil {
		return ctx, nil, fmt.Errorf("making a lease for the blob: %w", errgrpc.ToNative(err))
	}
	drop = func(ctx context.Context) error {
		_, err := p.leases.Delete(ctx, &leasesapi.DeleteRequest{ID: id})
		if err = errgrpc.ToNative(err); err != nil && !errors.Is(err, errdefs.ErrNotFound) {
			return fmt.Errorf("ending lease %s: %w", id, err)
		}
		return nil
	}
	return metadata.AppendToOutgoingContext(ctx, headerLease, id), drop, nil
}
