package differ_test

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	contentapi "github.com/containerd/containerd/api/services/content/v1"
	diffapi "github.com/containerd/containerd/api/services/diff/v1"
	leasesapi "github.com/containerd/containerd/api/services/leases/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/containerd/v2/plugins/services/content/contentserver"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"
	bolt "go.etcd.io/bbolt"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/btrfs"
	"blockstore.dev/blockstore/snapshot/drivertest"
	"blockstore.dev/blockstore/snapshot/mount"
	"blockstore.dev/blockstore/snapshot/thin"
	"blockstore.dev/blockstore/snapshot/zfs"
	"blockstore.dev/blockstore/snapshotter/differ"
)

// world is a store with its differ on a socket, and what of containerd the differ
// talks to: its metadata database with content and leases, on another socket.
type world struct {
	t      *testing.T
	dir    string
	kind   snapshot.Kind
	store  *snapshot.Store
	db     *metadata.DB
	blobs  content.Store
	leases leases.Manager
	client diffapi.DiffClient
	// stop ends the differ's server, quit containerd.
	stop, quit func()
}

// onEach runs a test on each driver; those that this kernel lacks are skipped.
func onEach(t *testing.T, test func(*testing.T, *world)) {
	for _, kind := range []snapshot.Kind{btrfs.Kind{}, thin.Kind{}, zfs.Kind{}} {
		t.Run(kind.Name(), func(t *testing.T) {
			if os.Geteuid() != 0 {
				t.Skip("needs root: the store mounts file systems")
			}
			if err := kind.Probe(t.Context()); err != nil {
				t.Skipf("this kernel cannot run the driver %s: %v", kind.Name(), err)
			}
			if _, err := exec.LookPath("mkfs.btrfs"); kind.Name() == "btrfs" && err != nil {
				t.Skip("no mkfs.btrfs (install btrfs-progs)")
			}
			test(t, newWorld(t, kind))
		})
	}
}

func newWorld(t *testing.T, kind snapshot.Kind) *world {
	t.Helper()
	dir, err := os.MkdirTemp(os.Getenv("BSTEST_DIR"), "bstest-differ-")
	require.NoError(t, err)
	w := &world{t: t, dir: dir, kind: kind}
	t.Cleanup(func() {
		if _, err := os.Stat(w.root()); err == nil { // the end did not come to its end
			drivertest.Rescue(t, kind, w.root(), w.store)
		}
	})
	t.Cleanup(w.end)
	o := snapshot.InitOptions{Root: w.root(), Loopback: 2 << 30, BaseSize: 512 << 20}
	require.NoError(t, snapshot.Init(w.ctx(), kind, o, "for a test"))
	w.store, err = snapshot.Open(w.ctx(), w.options())
	require.NoError(t, err)
	w.containerd()
	w.serve()
	return w
}

func (w *world) root() string { return filepath.Join(w.dir, "store") }

func (w *world) options() snapshot.StoreOptions {
	return snapshot.StoreOptions{Root: w.root(), Kinds: []snapshot.Kind{w.kind}}
}

// ctx is that of a call in a namespace; it outlives the test's end.
func (w *world) ctx() context.Context {
	return namespaces.WithNamespace(context.WithoutCancel(w.t.Context()), "test")
}

func (w *world) containerd() {
	local, err := local.NewStore(filepath.Join(w.dir, "content"))
	require.NoError(w.t, err)
	file, err := bolt.Open(filepath.Join(w.dir, "meta.db"), 0o600, &bolt.Options{NoSync: true})
	require.NoError(w.t, err)
	w.db = metadata.NewDB(file, local, nil)
	require.NoError(w.t, w.db.Init(w.ctx()))
	w.blobs, w.leases = w.db.ContentStore(), metadata.NewLeaseManager(w.db)
	s := grpc.NewServer()
	contentapi.RegisterContentServer(s, contentserver.New(w.blobs))
	leasesapi.RegisterLeasesServer(s, leaseServer{m: w.leases})
	done := w.listen("containerd.sock", s)
	w.quit = func() {
		s.Stop()
		require.NoError(w.t, errors.Join(<-done, file.Close()))
	}
}

func (w *world) serve() {
	d, err := differ.New(w.store, differ.Options{Address: filepath.Join(w.dir, "containerd.sock")})
	require.NoError(w.t, err)
	s := grpc.NewServer()
	d.Register(s)
	done := w.listen("differ.sock", s)
	conn, err := grpc.NewClient("unix://"+filepath.Join(w.dir, "differ.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(w.t, err)
	w.client = diffapi.NewDiffClient(conn)
	w.stop = func() {
		require.NoError(w.t, conn.Close())
		s.GracefulStop() // waits for calls whose clients went away
		require.NoError(w.t, errors.Join(<-done, d.Close()))
	}
}

func (w *world) listen(name string, s *grpc.Server) chan error {
	l, err := net.Listen("unix", filepath.Join(w.dir, name))
	require.NoError(w.t, err)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	return done
}

// end removes the snapshots and sees that nothing else is left, of the store's and of
// what was written to containerd.
func (w *world) end() {
	if w.store == nil {
		return
	}
	w.stop()
	w.nothingHalf()
	w.quit()
	ctx := w.ctx()
	w.clean()
	w.removeAll()
	w.clean()
	ids, err := w.store.Driver().Volumes(ctx)
	require.NoError(w.t, err)
	require.Empty(w.t, ids, "volumes left")
	require.NoError(w.t, w.store.Close(ctx))
	require.NoError(w.t, snapshot.Destroy(ctx, w.options()))
	below, err := mount.Below(w.dir)
	require.NoError(w.t, err)
	require.Empty(w.t, below, "mounts left")
	require.NoError(w.t, os.RemoveAll(w.dir))
}

func (w *world) clean() {
	w.t.Helper()
	r, err := w.store.Check(w.ctx(), snapshot.CheckOptions{})
	require.NoError(w.t, err)
	require.Empty(w.t, r.Findings)
}

// removeAll removes from the leaves down.
func (w *world) removeAll() {
	for {
		all, err := w.store.List(w.ctx())
		require.NoError(w.t, err)
		removed := 0
		for _, in := range all {
			if w.store.Remove(w.ctx(), in.Name) == nil {
				removed++
			}
		}
		if len(all) == 0 {
			return
		}
		require.Positive(w.t, removed, "snapshots that could not be removed: %v", all)
	}
}

// nothingHalf: no blob is being written.
func (w *world) nothingHalf() {
	w.t.Helper()
	left, err := w.blobs.ListStatuses(w.ctx())
	require.NoError(w.t, err)
	require.Empty(w.t, left, "half blobs")
}

// leaseServer is containerd's leases service, as far as the differ calls it.
type leaseServer struct {
	leasesapi.UnimplementedLeasesServer
	m leases.Manager
}

func (s leaseServer) Create(ctx context.Context, r *leasesapi.CreateRequest) (*leasesapi.CreateResponse, error) {
	l, err := s.m.Create(ctx, leases.WithID(r.ID), leases.WithLabels(r.Labels))
	return &leasesapi.CreateResponse{Lease: &leasesapi.Lease{ID: l.ID}}, errgrpc.ToGRPC(err)
}

func (s leaseServer) Delete(ctx context.Context, r *leasesapi.DeleteRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, errgrpc.ToGRPC(s.m.Delete(ctx, leases.Lease{ID: r.ID}))
}

// active makes a container and hands its mounts out.
func (w *world) active(name, parent string) []*types.Mount {
	w.t.Helper()
	_, err := w.store.Create(w.ctx(), name, snapshot.CreateRequest{Parent: parent, FreezeParent: true})
	require.NoError(w.t, err)
	return w.mounts(name)
}

func (w *world) view(name, parent string) []*types.Mount {
	w.t.Helper()
	_, err := w.store.View(w.ctx(), name, snapshot.CreateRequest{Parent: parent})
	require.NoError(w.t, err)
	return w.mounts(name)
}

func (w *world) mounts(name string) []*types.Mount {
	w.t.Helper()
	ms, err := w.store.Mounts(w.ctx(), name)
	require.NoError(w.t, err)
	list := make([]*types.Mount, len(ms))
	for i, m := range ms {
		list[i] = &types.Mount{Type: m.Type, Source: m.Source, Options: m.Options}
	}
	return list
}

// in shows a snapshot to fn.
func (w *world) in(name string, fn func(dir string)) {
	w.t.Helper()
	dir, release, err := w.store.Use(w.ctx(), name)
	require.NoError(w.t, err)
	defer func() { require.NoError(w.t, release()) }()
	fn(dir)
}

// put writes a blob as a client does and describes it.
func (w *world) put(mediaType string, blob []byte) *types.Descriptor {
	w.t.Helper()
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(blob), Size: int64(len(blob))}
	to, err := content.OpenWriter(w.ctx(), w.blobs, content.WithRef(d.Digest.String()))
	require.NoError(w.t, err)
	_, err = to.Write(blob)
	require.NoError(w.t, err)
	if err := to.Commit(w.ctx(), d.Size, d.Digest); !errors.Is(err, errdefs.ErrAlreadyExists) {
		require.NoError(w.t, err)
	}
	require.NoError(w.t, to.Close())
	return &types.Descriptor{MediaType: mediaType, Digest: d.Digest.String(), Size: d.Size}
}

// get reads a blob whole.
func (w *world) get(d *types.Descriptor) []byte {
	w.t.Helper()
	blob, err := content.ReadBlob(w.ctx(), w.blobs, ocispec.Descriptor{Digest: digest.Digest(d.Digest), Size: d.Size})
	require.NoError(w.t, err)
	require.Equal(w.t, d.Digest, digest.FromBytes(blob).String())
	return blob
}

func (w *world) apply(d *types.Descriptor, ms []*types.Mount) (*types.Descriptor, error) {
	r, err := w.client.Apply(w.ctx(), &diffapi.ApplyRequest{Diff: d, Mounts: ms})
	return r.GetApplied(), errgrpc.ToNative(err)
}

func (w *world) diff(r *diffapi.DiffRequest) (*types.Descriptor, error) {
	answer, err := w.client.Diff(w.ctx(), r)
	return answer.GetDiff(), errgrpc.ToNative(err)
}
