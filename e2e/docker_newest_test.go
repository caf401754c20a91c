package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDockerNewest: what people do with Docker's newest engine gives with our snapshotter below
// its containerd what it gives with containerd's own, and leaves nothing behind.
func TestDockerNewest(t *testing.T) {
	if testing.Short() {
		t.Skip("a minute: two dockerds go through a long script")
	}
	archive, ref := smallArchive(t)
	v := newStore(t).serveContainerd()
	theirs := newScript(t, newestDockerd(newContainerd(t, newest, containerdOptions{})), ref)
	theirs.run(archive)
	c := v.containerd(newest, containerdOptions{})
	ours := newScript(t, newestDockerd(c), ref)
	ours.run(archive)
	theirs.seen.mustEqual(t, &ours.seen, "overlayfs", "blockstore")
	const changed = "a changed container" // of a file of 16 MiB, a little
	require.Less(t, ours.written[changed], theirs.written[changed]/2)
	v.mustHave(c)
	ours.exchange(theirs)
	theirs.exchange(ours)
	ours.clear()
	v.mustHave(c)
	v.mustBeEmpty()
	theirs.clear()
}

// TestDockerNewestRestart: the server, containerd and the engine end in every way while containers run. The containers
// do not notice, afterwards every verb works on them, and nothing is left when they are gone.
func TestDockerNewestRestart(t *testing.T) {
	if testing.Short() {
		t.Skip("half a minute: three daemons start again and again")
	}
	archive, ref := smallArchive(t)
	s := newStore(t)
	idle := mountsBelow(t, s.root)
	v := s.serveContainerd()
	c := v.containerd(newest, containerdOptions{})
	d := newestDockerd(c, "--live-restore")
	d.docker("load", "-q", "-i", archive)
	outlive(d, ref, []ending{
		{"server-stopped", func() { v.stop(); v.start() }},
		{"server-killed", func() { v.kill(); v.start() }},
		{"containerd-stopped", func() { c.stop(); c.start() }},
		{"containerd-killed", func() { c.kill(); c.start() }},
		{"engine-stopped", func() { d.stop(); d.start() }},
		{"engine-killed", func() { d.kill(); d.start() }},
		{"all-killed", func() {
			d.kill()
			c.kill()
			v.kill()
			v.start()
			c.start()
			d.start()
		}},
	}, func() {
		v.mustHave(c)
		// The engine waits before it asks for a containerd that was gone again.
		require.Eventually(t, func() bool { return d.try("exec", "first", "true").code == 0 }, patience, tick)
	}, func(string) {})
	d.docker("rmi", ref)
	v.mustHave(c)
	v.mustBeEmpty()
	d.stop()
	c.stop()
	v.stop()
	require.Equal(t, idle, mountsBelow(t, s.root))
}
