package e2e

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/stretchr/testify/require"
)

// testContainerdGC: what containerd lets go, goes: snapshots, content and their space.
// What it still uses stays, and so does what others have in the store.
func testContainerdGC(t *testing.T, version string) {
	if testing.Short() {
		t.Skip("ten seconds: containerd unpacks two images")
	}
	s := newStore(t)
	v := s.serveContainerd()
	before, _ := s.used()
	ref := foreign(t, s)
	c := v.containerd(version, containerdOptions{})
	collects(v, c)
	require.Empty(t, c.client().blobs())
	require.Equal(t, "kept", foreignFile(t, s))
	s.run("rm", "mine")
	s.run("rmi", ref)
	v.mustBeEmpty()
	require.True(t, eventually(func() bool { after, _ := s.used(); return after <= before+4<<20 }), "space is not given back")
}

func TestContainerdGCDebian12(t *testing.T) { testContainerdGC(t, debian12) }
func TestContainerdGCDebian13(t *testing.T) { testContainerdGC(t, debian13) }
func TestContainerdGCNewest(t *testing.T)   { testContainerdGC(t, newest) }

// foreign has the command line make an image and a container in the served store. The
// image is one that containerd is given, too.
func foreign(t *testing.T, s *store) (ref string) {
	t.Helper()
	archive, ref := dockerArchive(t, "base")
	s.run("load", "-i", archive)
	s.run("create", "--name", "mine", ref)
	dir := s.run("mount", "mine")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), []byte("kept"), 0o600))
	s.run("umount", "mine")
	return ref
}

func foreignFile(t *testing.T, s *store) string {
	t.Helper()
	dir := s.run("mount", "mine")
	defer s.run("umount", "mine")
	text, err := os.ReadFile(filepath.Join(dir, "file"))
	require.NoError(t, err)
	return string(text)
}

// collects goes through what containerd keeps alive and what it does not.
func collects(v *server, c *containerd) {
	t := c.t
	small, base := ociArchive(t, "base")
	large, python := ociArchive(t, "python")
	c.load(small)
	c.load(large)
	c.idle("box", python)
	v.mustHave(c)
	require.Len(t, c.client().list(), 3, "two layers, of which both images have one, and a container")

	// An image that a container was made of goes; the container has what it needs.
	c.ctr("image", "rm", "--sync", python)
	v.mustHave(c)
	require.Len(t, c.client().list(), 3)
	require.Contains(t, c.exec("box", "python3", "--version"), "Python 3")
	c.remove("box")
	c.client().collect()
	v.mustHave(c)
	require.Len(t, c.client().list(), 1, "the other image's layer")

	// What a client made under a lease and abandoned.
	abandon(c)
	v.mustHave(c)
	require.Len(t, c.client().list(), 1)

	// The same image on another snapshotter is another differ's, and none of ours.
	other := *c
	other.snapshotter = "overlayfs"
	other.load(small)
	other.idle("beside", base)
	other.exec("beside", "sh", "-c", "echo 1 >/file")
	require.Contains(t, other.layer("beside"), "file")
	other.remove("beside")
	v.mustHave(c)
	require.Len(t, c.client().list(), 1)

	c.idle("box", base)
	c.remove("box")
	c.ctr("image", "rm", "--sync", base)
	require.Empty(t, c.client().list())
	v.mustHave(c)
}

// abandon prepares snapshots and writes into none of them, as a client that dies.
func abandon(c *containerd) {
	c.t.Helper()
	cl := c.client()
	ctx := namespaces.WithNamespace(c.t.Context(), c.namespace)
	lease, err := cl.leases.Create(ctx, leases.WithRandomID())
	require.NoError(c.t, err)
	inside := leases.WithLease(ctx, lease.ID)
	top := cl.list()[0].Name
	for _, work := range []func(context.Context) error{
		func(ctx context.Context) error { _, err := cl.snapshots.Prepare(ctx, "extract one", ""); return err },
		func(ctx context.Context) error { return cl.snapshots.Commit(ctx, "sha256:one", "extract one") },
		func(ctx context.Context) error {
			_, err := cl.snapshots.Prepare(ctx, "extract two", "sha256:one")
			return err
		},
		func(ctx context.Context) error { _, err := cl.snapshots.Prepare(ctx, "extract three", top); return err },
		func(ctx context.Context) error { _, err := cl.snapshots.View(ctx, "look", top); return err },
	} {
		require.NoError(c.t, work(inside))
	}
	cl.collect()
	require.Len(c.t, cl.list(), 5, "the lease keeps them")
	require.NoError(c.t, cl.leases.Delete(ctx, lease, leases.SynchronousDelete))
}
