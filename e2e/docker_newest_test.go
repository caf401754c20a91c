package e2e

import (
	"os"
	"path/filepath"
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
	log := filepath.Join(scratch(t), "log")
	begin := func(name string) {
		d.docker("run", "-d", "--name", name, "--net", "none", "--stop-signal", "KILL", ref, "sleep", "infinity")
	}
	begin("first")
	pid := d.pid("first")
	for _, stop := range []struct {
		name string
		do   func()
	}{
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
	} {
		other := "before-" + stop.name
		begin(other)
		stop.do()
		require.Equal(t, pid, d.pid("first"), "%s: the container was stopped", stop.name)
		v.mustHave(c)
		// The engine waits before it asks for a containerd that was gone again.
		require.Eventually(t, func() bool { return d.try("exec", "first", "true").code == 0 }, patience, tick, stop.name)
		d.docker("exec", "first", "sh", "-c", "echo "+stop.name+" >>/log && sync /log")
		d.docker("cp", "first:/log", log)
		text, err := os.ReadFile(log)
		require.NoError(t, err)
		require.Contains(t, string(text), stop.name)
		d.docker("cp", log, other+":/log")
		require.Equal(t, "A /log", d.docker("diff", other), stop.name)
		d.docker("stop", "-t", "0", other)
		d.docker("start", other)
		require.Equal(t, string(text), d.docker("exec", other, "cat", "/log")+"\n")
		d.docker("rm", "-f", other)
	}
	d.docker("rm", "-f", "first")
	begin("last")
	d.docker("stop", "-t", "0", "last")
	d.docker("rm", "last")
	d.docker("rmi", ref)
	v.mustHave(c)
	v.mustBeEmpty()
	d.stop()
	c.stop()
	v.stop()
	require.Equal(t, idle, mountsBelow(t, s.root))
}
