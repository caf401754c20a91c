package differ

import (
	"context"
	"errors"
	"fmt"
	"strings"
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
//
// containerd before 2.0 does not tell its plugins the namespace (seen with Debian 13's
// 1.7.24). It then is the one of the snapshot that the call is about, of which containerd
// makes the key begin with it.
func asCaller(ctx context.Context, about string) (_ context.Context, leased bool, err error) {
	in, _ := metadata.FromIncomingContext(ctx)
	namespace := namespaceOf(about)
	if told := in.Get(headerNamespace); len(told) > 0 { // a call's own is the first
		namespace = told[0]
	}
	if namespace == "" {
		return ctx, false, fmt.Errorf("neither the call (%s) nor the snapshot %q names a namespace: %w", headerNamespace, about, errdefs.ErrFailedPrecondition)
	}
	ctx = metadata.AppendToOutgoingContext(ctx, headerNamespace, namespace)
	lease := in.Get(headerLease)
	if len(lease) == 0 || lease[0] == "" {
		return ctx, false, nil
	}
	return metadata.AppendToOutgoingContext(ctx, headerLease, lease[0]), true, nil
}

// namespaceOf is the namespace in the name of one of containerd's snapshots,
// containerd/PLUGIN/NAMESPACE/NUMBER/KEY, and "" of others.
func namespaceOf(name string) string {
	parts := strings.SplitN(name, "/", 5)
	if len(parts) < 5 || parts[0] != "containerd" {
		return ""
	}
	return parts[2]
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
