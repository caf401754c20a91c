package snapshotter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path"
	"strings"
	"time"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshotter/differ"
)

// Options of a Door. The zero value is ready.
type Options struct {
	// Log takes one line per call, at level debug, or error for calls that fail for
	// other reasons than containerd's asking for what is not there, or is.
	Log *slog.Logger
	// Containerd is the path of the socket on which containerd itself listens, where
	// the diff service finds its blobs; "" is differ.DefaultAddress.
	Containerd string
	// Observe, if set, is told of each call at its end: service and method, as "Snapshots.Prepare" or "Diff.Apply", how
	// long it took and its error, in which the store's sentinels are found. It is called by many goroutines at once.
	Observe func(method string, took time.Duration, err error)
}

// Door serves one store to any number of plugins of containerd, as snapshotter and
// as differ.
type Door struct {
	store   *snapshot.Store
	log     *slog.Logger
	differ  *differ.Differ
	observe func(method string, took time.Duration, err error)
}

// Bounds of a door.
const (
	// maxMessage is that of containerd's client (defaults.DefaultMaxRecvMsgSize).
	maxMessage = 16 << 20
	// maxCalls is how many calls of one connection are worked on at once.
	maxCalls = 256
	// stopWait is how long calls under way may take to end when the server stops.
	stopWait = 15 * time.Second
)

// New makes a door on an open store.
func New(store *snapshot.Store, o Options) (*Door, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	diffs, err := differ.New(store, differ.Options{Address: o.Containerd, Log: o.Log})
	return &Door{store: store, log: o.Log, differ: diffs, observe: o.Observe}, err
}

// Serve answers on l until ctx is done and the calls that were under way then have
// ended, or their time is over. It closes l. Before it answers, what a server before it
// gave to containerd for unpacking can be mounted again.
func (d *Door) Serve(ctx context.Context, l net.Listener) error {
	d.lendAgain(ctx)
	srv := grpc.NewServer(
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage), grpc.MaxConcurrentStreams(maxCalls),
		grpc.UnaryInterceptor(d.unary), grpc.StreamInterceptor(d.stream), grpc.WaitForHandlers(true),
	)
	snapshotsapi.RegisterSnapshotsServer(srv, service{door: d})
	d.differ.Register(srv)
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		late := time.AfterFunc(stopWait, srv.Stop)
		defer late.Stop()
		srv.GracefulStop()
	})
	err := srv.Serve(l)
	if !stop() {
		<-stopped
		if errors.Is(err, grpc.ErrServerStopped) { // before it had begun
			err = nil
		}
	}
	return errors.Join(err, d.differ.Close())
}

// lendAgain makes the block devices anew, where the driver has them, of the snapshots that layers are being unpacked into. They
// went with the server before, and containerd asks for their mounts once, perhaps long before it has the layer.
func (d *Door) lendAgain(ctx context.Context) {
	all, err := d.store.List(ctx)
	for _, in := range all {
		if _, _, ours := Key(in.Name); ours && in.Scratch {
			_, lendErr := d.store.Mounts(ctx, in.Name)
			err = errors.Join(err, lendErr)
		}
	}
	if err != nil && ctx.Err() == nil {
		d.log.WarnContext(ctx, "some layers that were being unpacked have to be fetched again", "error", err)
	}
}

func (d *Door) unary(ctx context.Context, r any, call *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	began := time.Now()
	answer, err := next(ctx, r)
	return answer, d.ended(ctx, call.FullMethod, r, began, err)
}

func (d *Door) stream(srv any, out grpc.ServerStream, call *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	began := time.Now()
	return d.ended(out.Context(), call.FullMethod, nil, began, next(srv, out))
}

// ended logs a call of the snapshots service and gives its error the form in which
// gRPC carries it. The differ does both itself.
func (d *Door) ended(ctx context.Context, method string, r any, began time.Time, err error) error {
	if d.observe != nil {
		d.observe(methodOf(method), time.Since(began), ownKind(err))
	}
	if !strings.HasPrefix(method, "/"+snapshotsapi.Snapshots_ServiceDesc.ServiceName+"/") {
		return err
	}
	args := []any{"call", method, "took", time.Since(began).Round(time.Microsecond)}
	if k, ok := r.(interface{ GetKey() string }); ok {
		args = append(args, "key", fmt.Sprintf("%.256s", k.GetKey()))
	}
	err = classify(err)
	switch {
	case err == nil:
		d.log.DebugContext(ctx, "served", args...)
		return nil
	case errdefs.IsNotFound(err), errdefs.IsAlreadyExists(err), errors.Is(err, context.Canceled):
		d.log.DebugContext(ctx, "served", append(args, "error", err)...)
	default:
		d.log.ErrorContext(ctx, "failed", append(args, "error", err)...)
	}
	// As text and code alone: containerd shows errors with details once for each.
	return status.Error(status.Code(errgrpc.ToGRPC(err)), err.Error())
}

// methodOf shortens gRPC's /PACKAGE.SERVICE/METHOD to SERVICE.METHOD.
func methodOf(full string) string {
	service, method := path.Split(full)
	service = strings.Trim(service, "/")
	return service[strings.LastIndexByte(service, '.')+1:] + "." + method
}
