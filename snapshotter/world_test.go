package snapshotter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/snapshots/proxy"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/btrfs"
	"blockstore.dev/blockstore/snapshot/drivertest"
	"blockstore.dev/blockstore/snapshot/drivertest/dirdriver"
	"blockstore.dev/blockstore/snapshot/mount"
	"blockstore.dev/blockstore/snapshot/thin"
	"blockstore.dev/blockstore/snapshot/zfs"
)

// variant is a driver with the options of its stores.
type variant struct {
	kind snapshot.Kind
	o    snapshot.InitOptions
}

func variants() map[string]variant {
	return map[string]variant{
		"btrfs":     {btrfs.Kind{}, snapshot.InitOptions{Loopback: 4 << 30, BaseSize: 1 << 30}},
		"thin-ext4": {thin.Kind{}, snapshot.InitOptions{Loopback: 4 << 30, BaseSize: 1 << 30, FileSystem: "ext4"}},
		"thin-xfs":  {thin.Kind{}, snapshot.InitOptions{Loopback: 4 << 30, BaseSize: 1 << 30, FileSystem: "xfs"}},
		"zfs":       {zfs.Kind{}, snapshot.InitOptions{Loopback: 4 << 30, BaseSize: 1 << 30}},
	}
}

// eachVariant runs a test on every driver that this kernel has.
func eachVariant(t *testing.T, run func(*testing.T, variant)) {
	needRoot(t)
	for name, v := range variants() {
		t.Run(name, func(t *testing.T) {
			if err := v.kind.Probe(t.Context()); err != nil {
				t.Skip(err)
			}
			run(t, v)
		})
	}
}

func directories() variant { return variant{kind: dirdriver.New()} }

// needRoot: stores mount file systems.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: the store mounts file systems")
	}
}

// world is a store, the door that serves it on a socket, and a client of the kind
// that containerd makes of a proxy plugin.
type world struct {
	variant
	dir    string
	store  *snapshot.Store
	socket string
	log    bytes.Buffer
	client *grpc.ClientConn
	serve  func() error // stops serving
	// observe is Options.Observe of what is started from now on.
	observe func(string, time.Duration, error)
}

// makeWorld makes a store below dir. Its end is the caller's.
func makeWorld(ctx context.Context, v variant, dir string) (w *world, err error) {
	w = &world{variant: v, dir: dir, socket: filepath.Join(dir, "s")}
	w.o.Root = filepath.Join(dir, "store")
	if err := snapshot.Init(ctx, w.kind, w.o, "for a test"); err != nil {
		return w, err
	}
	return w, w.start(ctx)
}

// newWorld makes a store that is looked at and destroyed when t ends.
func newWorld(t *testing.T, v variant) *world {
	t.Helper()
	needRoot(t)
	dir, err := os.MkdirTemp(os.Getenv("BSTEST_DIR"), "bstest-containerd-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	w, err := makeWorld(context.WithoutCancel(t.Context()), v, dir)
	t.Cleanup(func() { w.rescue(t) })
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the door's log:\n%s", &w.log)
		}
		require.NoError(t, w.end())
	})
	return w
}

// rescue takes down what a failure has left; files must not be removed below a mount.
func (w *world) rescue(t *testing.T) {
	if _, err := os.Stat(w.o.Root); err == nil {
		drivertest.Rescue(t, w.kind, w.o.Root, w.store)
	}
}

func (w *world) options() snapshot.StoreOptions {
	return snapshot.StoreOptions{Root: w.o.Root, Kinds: []snapshot.Kind{w.kind}}
}

// start opens the store and serves it.
func (w *world) start(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	var err error
	if w.store, err = snapshot.Open(ctx, w.options()); err != nil {
		return err
	}
	l, err := net.Listen("unix", w.socket)
	if err != nil {
		return err
	}
	door, err := New(w.store, Options{Observe: w.observe, Log: slog.New(slog.NewTextHandler(&w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- door.Serve(ctx, l) }()
	w.serve = func() error { cancel(); return <-served }
	w.client, err = grpc.NewClient("unix://"+w.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	return err
}

func (w *world) stop() error {
	return errors.Join(w.client.Close(), w.serve(), w.store.Close(context.Background()))
}

// remote is the snapshotter as containerd has it.
func (w *world) remote(plugin string) snapshots.Snapshotter {
	return proxy.NewSnapshotter(snapshotsapi.NewSnapshotsClient(w.client), plugin)
}

// local is the snapshotter in this process.
func (w *world) local(plugin string) *Snapshotter {
	s, err := NewSnapshotter(w.store, plugin)
	if err != nil {
		panic(err)
	}
	return s
}

// end removes everything, leaves first, and looks for what is left.
func (w *world) end() error {
	ctx := context.Background()
	all, err := w.store.List(ctx)
	if err != nil {
		return err
	}
	for n := -1; len(all) > 0 && n != len(all); all, _ = w.store.List(ctx) {
		n = len(all)
		for _, in := range slices.Backward(all) {
			_ = w.store.Drop(ctx, in.Name)
		}
	}
	errs := []error{w.store.Sweep(ctx)}
	report, err := w.store.Check(ctx, snapshot.CheckOptions{})
	errs = append(errs, err)
	for _, f := range report.Findings {
		errs = append(errs, errors.New(f.Text))
	}
	if ids, err := w.store.Driver().Volumes(ctx); !errors.Is(err, snapshot.ErrNotSupported) {
		errs = append(errs, err)
		if len(ids) > 0 || len(all) > 0 {
			errs = append(errs, fmt.Errorf("left: volumes %v, snapshots %v", ids, all))
		}
	}
	errs = append(errs, w.stop(), snapshot.Destroy(ctx, w.options()))
	below, err := mount.Below(w.dir)
	if errs = append(errs, err); len(below) > 0 {
		errs = append(errs, fmt.Errorf("mounts left: %v", below))
	}
	return errors.Join(errs...)
}
