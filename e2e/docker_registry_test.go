package e2e

import (
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot/layertar/treetest"
)

// client is a docker command that goes on beside the test, and not beyond it.
func (d *dockerd) client(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(d.t.Context(), dockerClient(), args...)
	cmd.Env = d.env()
	return cmd
}

// layersIn is how many layers the store has.
func (v *server) layersIn() int {
	v.t.Helper()
	var found struct{ Layers int }
	v.store.json(&found, "check")
	return found.Layers
}

// pulled is what is compared of a container of an image that came through the registry: dockerd has files of its own
// in other places.
func (d *dockerd) pulled(name, ref string) tree {
	d.t.Helper()
	d.docker("run", "-d", "--name", name, "--net", "none", ref, "sleep", "infinity")
	return d.treeOf(name, "usr", "var", "root", "srv").inSeconds()
}

// mustBeAlike: a tree on overlayfs and one of the same image on our store, but for what overlayfs does otherwise, see tree.lines.
func mustBeAlike(t *testing.T, begun time.Time, overlay, ours tree) {
	t.Helper()
	var is, other record
	is.add("tree", overlay.lines(begun)...)
	other.add("tree", ours.lines(begun)...)
	is.mustEqual(t, &other, "overlayfs", "blockstore")
}

// TestDockerRegistry: what comes from a registry and goes to one is the same on overlay2 and on our store; a pull that ends in the
// middle leaves nothing, and one beside which the server is killed goes on.
func TestDockerRegistry(t *testing.T) {
	begun := time.Now()
	r := newRegistry(t)
	ref, layers := r.put("python")
	top := layers[len(layers)-1]
	v := newStore(t).serve()
	d := v.dockerd()

	// The layers below the one that does not come are there already.
	reached, let := r.hold(top)
	pull := d.client("pull", ref)
	done := inBackground(t, pull)
	reached()
	require.True(t, eventually(func() bool { return v.layersIn() == len(layers)-1 }), "the layer below is not unpacked")
	require.NoError(t, pull.Process.Signal(unix.SIGINT))
	require.Error(t, done())
	require.True(t, eventually(func() bool { return v.layersIn() == 0 }), "a pull that was given up left layers")
	let()

	r.spoil(top)
	failed := d.try("pull", ref)
	require.NotZero(t, failed.code, "a layer with a byte changed was taken")
	require.True(t, eventually(func() bool { return v.layersIn() == 0 }), "a pull that failed left layers")

	reached, let = r.hold(top)
	done = inBackground(t, d.client("pull", ref))
	reached()
	require.True(t, eventually(func() bool { return v.layersIn() == len(layers)-1 }))
	v.kill()
	v.start()
	let()
	require.NoError(t, done())

	want := treeBelow(t, unpackedByUmoci(t, realImage(t), "python"), nil, "usr", "var", "root", "srv").inSeconds()
	require.Empty(t, treetest.DifferenceOf(want, d.pulled("box", ref)))

	// There.
	changed := r.address + "/test/changed:1"
	d.docker("exec", "box", "sh", "-c", "echo new >/srv/new; echo more >>/usr/bin/python3-config; rm -r /usr/share/doc; mkdir /var/made; chmod 700 /root")
	d.docker("commit", "box", changed)
	d.docker("push", "-q", changed)
	theirs := newDockerd(t, scratch(t), "overlay2")
	theirs.docker("pull", "-q", changed)
	require.Equal(t, d.docker("image", "inspect", "-f", "{{.Id}}", changed), theirs.docker("image", "inspect", "-f", "{{.Id}}", changed))
	mustBeAlike(t, begun, theirs.pulled("there", changed), d.pulled("same", changed))

	// And back: of what another has added, that alone is fetched.
	again := r.address + "/test/again:1"
	theirs.docker("exec", "there", "sh", "-c", "echo newer >/srv/new; rm -r /var/made; ln /srv/new /srv/linked")
	theirs.docker("commit", "there", again)
	theirs.docker("push", "-q", again)
	r.forget()
	d.docker("pull", "-q", again)
	require.Len(t, r.forget(), 2, "more than a config and a layer were fetched")
	mustBeAlike(t, begun, theirs.pulled("again", again), d.pulled("again", again))

	v.mustAgree(d)
	d.docker("rm", "-f", "box", "same", "again")
	d.docker("rmi", ref, changed, again)
	v.mustBeEmpty()
}
