package e2e

import (
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot/layertar/treetest"
)

// pull is ctr's command that pulls an image; CONTAINERD_SNAPSHOTTER says whose it becomes.
func (c *containerd) pull(ref string) *exec.Cmd {
	cmd := exec.CommandContext(c.t.Context(), filepath.Join(c.programs, "ctr"), "image", "pull", "--plain-http", ref)
	cmd.Env = c.env()
	return cmd
}

// abandoned ends what a client has left that is gone, now and not a day later: nothing of it stays.
func (cl *client) abandoned() {
	cl.c.t.Helper()
	cl.endLeases(func(leases.Lease) {})
	cl.collect()
	require.Empty(cl.c.t, cl.list())
	require.Empty(cl.c.t, cl.blobs())
}

// testContainerdRegistry: what comes from a registry and goes to one is the same on overlayfs and on our store; of a pull that
// ends in the middle containerd collects what there is, and one beside which the server is killed goes on.
func testContainerdRegistry(t *testing.T, version string) {
	begun := time.Now()
	r := newRegistry(t)
	ref, layers := r.put("python")
	top := layers[len(layers)-1]
	v := newStore(t).serveContainerd()
	c := v.containerd(version, containerdOptions{cri: true})

	r.spoil(top)
	require.Error(t, inBackground(t, c.pull(ref))(), "a layer with a byte changed was taken")
	c.client().abandoned()
	v.mustHave(c)

	reached, let := r.hold(top)
	pull := c.pull(ref)
	done := inBackground(t, pull)
	reached()
	require.NoError(t, pull.Process.Kill())
	require.Error(t, done())
	let()
	c.client().abandoned()
	v.mustHave(c)

	// A server that is killed beside a pull is back before the layer is. It is killed when containerd asks it for nothing: the newest
	// unpacks the layer below and prepares the snapshot of this one meanwhile, and what it asks then would end the pull.
	reached, let = r.hold(top)
	done = inBackground(t, c.pull(ref))
	reached()
	if version == newest {
		require.True(t, eventually(func() bool {
			all := c.client().list()
			committed := slices.DeleteFunc(slices.Clone(all), func(i snapshots.Info) bool { return i.Kind != snapshots.KindCommitted })
			return len(committed) == len(layers)-1 && len(all) == len(layers)
		}), "the layer below is not unpacked, or the next not prepared")
	}
	v.kill()
	v.start()
	c.reconnects()
	let()
	require.NoError(t, done())
	dirs := []string{"usr", "var", "root", "srv"}
	c.idle("box", ref)
	want := treeBelow(t, unpackedByUmoci(t, realImage(t), "python"), nil, dirs...).inSeconds()
	if got := c.treeOf("box", dirs...).inSeconds(); c.hasDiffer() {
		require.Empty(t, treetest.DifferenceOf(want, got))
	} else { // containerd's own, which is overlayfs's too
		mustBeAlike(t, begun, want, got)
	}

	// There and back, by ctr on overlayfs and as the kubelet pulls.
	changed := r.address + "/test/changed:1"
	c.exec("box", "sh", "-c", "echo new >/srv/new; rm -r /usr/share/doc; mkdir /var/made; chmod 700 /root")
	c.commit("box", ref, changed)
	c.ctr("image", "push", "--plain-http", changed)
	c.ctr("image", "rm", "--sync", changed)
	other := *c
	other.snapshotter = "overlayfs"
	require.NoError(t, inBackground(t, other.pull(changed))())
	c.cri("pull", changed)
	other.idle("there", changed)
	c.idle("same", changed)
	mustBeAlike(t, begun, other.treeOf("there", dirs...).inSeconds(), c.treeOf("same", dirs...).inSeconds())

	other.remove("there")
	c.remove("box", "same")
	c.ctr(append([]string{"image", "rm", "--sync"}, c.names("image", "ls", "-q")...)...)
	c.client().expire()
	v.mustHave(c)
	v.mustBeEmpty()
}

func TestContainerdRegistryDebian12(t *testing.T) { testContainerdRegistry(t, debian12) }
func TestContainerdRegistryDebian13(t *testing.T) { testContainerdRegistry(t, debian13) }
func TestContainerdRegistryNewest(t *testing.T)   { testContainerdRegistry(t, newest) }
