package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"strconv"
	"sync"
	"testing"
	"time"

	contentapi "github.com/containerd/containerd/api/services/content/v1"
	diffapi "github.com/containerd/containerd/api/services/diff/v1"
	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	leasesapi "github.com/containerd/containerd/api/services/leases/v1"
	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/v2/core/content"
	contentproxy "github.com/containerd/containerd/v2/core/content/proxy"
	"github.com/containerd/containerd/v2/core/diff"
	diffproxy "github.com/containerd/containerd/v2/core/diff/proxy"
	"github.com/containerd/containerd/v2/core/leases"
	leasesproxy "github.com/containerd/containerd/v2/core/leases/proxy"
	"github.com/containerd/containerd/v2/core/snapshots"
	snapshotsproxy "github.com/containerd/containerd/v2/core/snapshots/proxy"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/rootfs"
	"github.com/opencontainers/go-digest"
	ociidentity "github.com/opencontainers/image-spec/identity"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// client speaks to containerd as nerdctl and BuildKit do, for what ctr has no verb.
type client struct {
	c         *containerd
	snapshots snapshots.Snapshotter
	content   content.Store
	diff      interface {
		diff.Applier
		diff.Comparer
	}
	images imagesapi.ImagesClient
	leases leases.Manager
}

func (c *containerd) client() *client {
	c.t.Helper()
	conn := dial(c.t, c.socket())
	cl := &client{
		c:         c,
		snapshots: snapshotsproxy.NewSnapshotter(snapshotsapi.NewSnapshotsClient(conn), c.snapshotter),
		content:   contentproxy.NewContentStore(contentapi.NewContentClient(conn)),
		images:    imagesapi.NewImagesClient(conn),
		leases:    leasesproxy.NewLeaseManager(leasesapi.NewLeasesClient(conn)),
	}
	cl.diff, _ = diffproxy.NewDiffApplier(diffapi.NewDiffClient(conn)).(interface {
		diff.Applier
		diff.Comparer
	})
	return cl
}

// dial connects to a socket for the time of the test.
func dial(t interface {
	require.TestingT
	Cleanup(func())
}, socket string,
) *grpc.ClientConn {
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// leased runs work under a lease, as clients do: what it makes is nobody's until it ends.
// At its end garbage is collected.
func (cl *client) leased(work func(ctx context.Context)) {
	cl.c.t.Helper()
	ctx := namespaces.WithNamespace(cl.c.t.Context(), cl.c.namespace)
	lease, err := cl.leases.Create(ctx, leases.WithRandomID())
	require.NoError(cl.c.t, err)
	work(leases.WithLease(ctx, lease.ID))
	require.NoError(cl.c.t, cl.leases.Delete(ctx, lease, leases.SynchronousDelete))
}

// collect has containerd collect its garbage, and waits for it. It looks at a snapshotter
// only where a snapshot was removed since it started: so one is.
func (cl *client) collect() {
	cl.c.t.Helper()
	cl.leased(func(ctx context.Context) {
		_, err := cl.snapshots.Prepare(ctx, "collected at once", "")
		require.NoError(cl.c.t, err)
	})
}

// expire ends the leases under which our differ leaves blobs for a client that has not
// named its own: containerd does that an hour later.
func (cl *client) expire() {
	cl.c.t.Helper()
	cl.endLeases(func(l leases.Lease) {
		until, err := time.Parse(time.RFC3339, l.Labels["containerd.io/gc.expire"])
		require.NoError(cl.c.t, err, "a lease without an end: %+v", l)
		require.WithinRange(cl.c.t, until, time.Now(), time.Now().Add(time.Hour), "%+v", l)
	})
}

// endLeases ends all that there are, each after a look at it.
func (cl *client) endLeases(look func(leases.Lease)) {
	cl.c.t.Helper()
	ctx := namespaces.WithNamespace(cl.c.t.Context(), cl.c.namespace)
	all, err := cl.leases.List(ctx)
	require.NoError(cl.c.t, err)
	for _, l := range all {
		look(l)
		require.NoError(cl.c.t, cl.leases.Delete(ctx, l, leases.SynchronousDelete))
	}
}

// list is what the snapshotter has to containerd's clients.
func (cl *client) list() []snapshots.Info {
	cl.c.t.Helper()
	var found []snapshots.Info
	err := cl.snapshots.Walk(namespaces.WithNamespace(cl.c.t.Context(), cl.c.namespace), func(_ context.Context, i snapshots.Info) error {
		found = append(found, i)
		return nil
	})
	require.NoError(cl.c.t, err)
	return found
}

// blobs are the digests of all content.
func (cl *client) blobs() []string {
	cl.c.t.Helper()
	var found []string
	err := cl.content.Walk(namespaces.WithNamespace(cl.c.t.Context(), cl.c.namespace), func(i content.Info) error {
		found = append(found, i.Digest.String())
		return nil
	})
	require.NoError(cl.c.t, err)
	return found
}

// changes is a container's layer as the diff service writes it, a tar.
func (cl *client) changes(container string) []byte {
	cl.c.t.Helper()
	var blob []byte
	cl.leased(func(ctx context.Context) {
		layer, err := rootfs.CreateDiff(ctx, container, cl.snapshots, cl.diff, diff.WithMediaType(ocispec.MediaTypeImageLayer))
		require.NoError(cl.c.t, err)
		blob, err = content.ReadBlob(ctx, cl.content, layer)
		require.NoError(cl.c.t, err)
		require.Equal(cl.c.t, layer.Digest, digest.FromBytes(blob))
	})
	return blob
}

// clientImage is an image's manifest and config.
type clientImage struct {
	manifest ocispec.Manifest
	config   ocispec.Image
}

func (cl *client) image(ctx context.Context, ref string) clientImage {
	cl.c.t.Helper()
	got, err := cl.images.Get(ctx, &imagesapi.GetImageRequest{Name: ref})
	require.NoError(cl.c.t, err)
	target := got.Image.Target
	var i clientImage
	cl.read(ctx, ocispec.Descriptor{Digest: digest.Digest(target.Digest), Size: target.Size}, &i.manifest)
	cl.read(ctx, i.manifest.Config, &i.config)
	return i
}

func (cl *client) read(ctx context.Context, desc ocispec.Descriptor, into any) {
	cl.c.t.Helper()
	blob, err := content.ReadBlob(ctx, cl.content, desc)
	require.NoError(cl.c.t, err)
	require.NoError(cl.c.t, json.Unmarshal(blob, into), "%s", blob)
}

// commit makes an image of a container and unpacks it, as nerdctl commit does.
func (cl *client) commit(container, ref, as string) {
	cl.c.t.Helper()
	t := cl.c.t
	cl.leased(func(ctx context.Context) {
		i := cl.image(ctx, ref)
		layer, err := rootfs.CreateDiff(ctx, container, cl.snapshots, cl.diff)
		require.NoError(t, err)
		info, err := cl.content.Info(ctx, layer.Digest)
		require.NoError(t, err)
		diffID := digest.Digest(info.Labels["containerd.io/uncompressed"])
		require.NoError(t, diffID.Validate(), "the differ's label %q", info.Labels)
		i.config.RootFS.DiffIDs = append(i.config.RootFS.DiffIDs, diffID)
		i.config.History = append(i.config.History, ocispec.History{CreatedBy: "commit of " + container})
		var layers []rootfs.Layer
		i.manifest.Layers = append(i.manifest.Layers, layer)
		for n, blob := range i.manifest.Layers {
			layers = append(layers, rootfs.Layer{Diff: ocispec.Descriptor{Digest: i.config.RootFS.DiffIDs[n]}, Blob: blob})
		}
		chain, err := rootfs.ApplyLayers(ctx, layers, cl.snapshots, cl.diff)
		require.NoError(t, err)
		require.Equal(t, ociidentity.ChainID(i.config.RootFS.DiffIDs), chain)
		cl.create(ctx, as, i)
	})
}

// create writes an image's documents, with the references that keep its parts alive.
func (cl *client) create(ctx context.Context, ref string, i clientImage) {
	cl.c.t.Helper()
	chain := ociidentity.ChainID(i.config.RootFS.DiffIDs).String()
	i.manifest.Config = cl.write(ctx, ocispec.MediaTypeImageConfig, i.config, map[string]string{"containerd.io/gc.ref.snapshot." + cl.c.snapshotter: chain})
	i.manifest.MediaType, i.manifest.Versioned = ocispec.MediaTypeImageManifest, specs.Versioned{SchemaVersion: 2}
	parts := map[string]string{"containerd.io/gc.ref.content.config": i.manifest.Config.Digest.String()}
	for n, l := range i.manifest.Layers {
		parts["containerd.io/gc.ref.content.l."+strconv.Itoa(n)] = l.Digest.String()
	}
	target := cl.write(ctx, ocispec.MediaTypeImageManifest, i.manifest, parts)
	_, err := cl.images.Create(ctx, &imagesapi.CreateImageRequest{Image: &imagesapi.Image{
		Name: ref, Target: &types.Descriptor{MediaType: target.MediaType, Digest: target.Digest.String(), Size: target.Size},
	}})
	require.NoError(cl.c.t, err)
}

func (cl *client) write(ctx context.Context, mediaType string, document any, labels map[string]string) ocispec.Descriptor {
	cl.c.t.Helper()
	blob, err := json.Marshal(document)
	require.NoError(cl.c.t, err)
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(blob), Size: int64(len(blob))}
	require.NoError(cl.c.t, content.WriteBlob(ctx, cl.content, desc.Digest.String(), bytes.NewReader(blob), desc, content.WithLabels(labels)))
	return desc
}

// knownLayers has what layers hold, by the digests of their blobs: an image's are looked at again after each step.
var knownLayers sync.Map

type layerContent struct {
	tree tree
	id   digest.Digest
}

// knownLayer is [readLayer] of a blob that has the descriptor's digest.
func knownLayer(t *testing.T, desc ocispec.Descriptor, blob []byte) (tree, digest.Digest) {
	t.Helper()
	l, ok := knownLayers.Load(desc.Digest)
	if !ok {
		found, id := readLayer(t, desc.MediaType, bytes.NewReader(blob))
		l, _ = knownLayers.LoadOrStore(desc.Digest, layerContent{found, id})
	}
	content := l.(layerContent)
	return maps.Clone(content.tree), content.id
}

// layers are the trees of an image's layers, lowest first; each has the digest that the
// config says.
func (cl *client) layers(ref string) (found []tree, ids []string) {
	cl.c.t.Helper()
	ctx := namespaces.WithNamespace(cl.c.t.Context(), cl.c.namespace)
	i := cl.image(ctx, ref)
	require.Len(cl.c.t, i.manifest.Layers, len(i.config.RootFS.DiffIDs))
	for n, desc := range i.manifest.Layers {
		blob, err := content.ReadBlob(ctx, cl.content, desc)
		require.NoError(cl.c.t, err)
		require.Equal(cl.c.t, desc.Digest, digest.FromBytes(blob))
		tr, id := knownLayer(cl.c.t, desc, blob)
		require.Equal(cl.c.t, i.config.RootFS.DiffIDs[n], id, "layer %d of %s", n, ref)
		found, ids = append(found, tr), append(ids, id.String())
	}
	return found, ids
}
