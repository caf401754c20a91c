package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// mounted are the snapshots that the store has mounted.
func (s *store) mounted() []string {
	s.t.Helper()
	var all []struct{ Name, Mounted string }
	s.json(&all, "ps")
	var found []string
	for _, c := range all {
		if c.Mounted != "" {
			found = append(found, c.Name)
		}
	}
	return found
}

// ending is a way in which daemons end and begin again.
type ending struct {
	name string
	do   func()
}

// outlive has a container, "first", run while daemons end in these ways. It does not notice; after each agrees holds, and every verb works on it
// and on a container from before, of which rested says when it has ended. All of them go.
func outlive(d *dockerd, ref string, endings []ending, agrees func(), rested func(when string)) {
	t := d.t
	file := filepath.Join(scratch(t), "log")
	begin := func(name string) {
		d.docker("run", "-d", "--name", name, "--net", "none", "--stop-signal", "KILL", ref, "sleep", "infinity")
	}
	begin("first")
	pid := d.pid("first")
	for _, end := range endings {
		other := "before-" + end.name
		begin(other)
		end.do()
		require.Equal(t, pid, d.pid("first"), "%s: the container was stopped", end.name)
		agrees()
		d.docker("exec", "first", "sh", "-c", "echo "+end.name+" >>/log && sync /log")
		d.docker("cp", "first:/log", file)
		log, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Contains(t, string(log), end.name)
		d.docker("cp", file, other+":/log")
		require.Equal(t, "A /log", d.docker("diff", other), end.name)
		d.docker("stop", "-t", "0", other)
		rested(end.name)
		d.docker("start", other)
		require.Equal(t, string(log), d.docker("exec", other, "cat", "/log")+"\n")
		d.docker("rm", "-f", other)
	}
	d.docker("rm", "-f", "first")
	begin("last")
	d.docker("stop", "-t", "0", "last")
	d.docker("rm", "last")
}

// TestDockerRestart: the server and dockerd end in every way while containers run. The
// containers do not notice, afterwards every verb works on them, and no mount is
// left when they are gone.
func TestDockerRestart(t *testing.T) {
	if testing.Short() {
		t.Skip("twenty seconds: dockerd starts five times")
	}
	archive, ref := smallArchive(t)
	s := newStore(t)
	idle := mountsBelow(t, s.root)
	v := s.serve()
	d := v.dockerd("--live-restore")
	d.docker("load", "-q", "-i", archive)
	outlive(d, ref, []ending{
		{"server-stopped", func() { v.stop(); v.start() }},
		{"server-killed", func() { v.kill(); v.start() }},
		{"dockerd-stopped", func() { d.stop(); d.start() }},
		{"dockerd-killed", func() { d.kill(); d.start() }},
		{"server-away", func() { v.stop(); d.docker("ps"); v.start() }},
		{"both-stopped", func() { d.stop(); v.stop(); v.start(); d.start() }},
		{"both-killed", func() { d.kill(); v.kill(); v.start(); d.start() }},
	}, func() { v.mustAgree(d) }, func(when string) {
		// The plugin answers a Put before it unmounts.
		require.Eventually(t, func() bool { return len(s.mounted()) == 1 }, patience, tick, "%s: a container that ended stays mounted", when)
	})
	require.Empty(t, s.mounted())
	d.docker("rmi", ref)
	v.mustBeEmpty()
	d.stop()
	v.stop()
	require.Equal(t, idle, mountsBelow(t, s.root))
}

// TestDockerStops: dockerd without live-restore ends its containers when it stops, and
// those that a killed one has left when it starts. Then nothing is mounted.
func TestDockerStops(t *testing.T) {
	if testing.Short() {
		t.Skip("ten seconds: dockerd starts three times")
	}
	archive, ref := smallArchive(t)
	s := newStore(t)
	v := s.serve()
	d := v.dockerd()
	d.docker("load", "-q", "-i", archive)
	d.docker("run", "-d", "--name", "box", "--net", "none", "--stop-signal", "KILL", ref, "sleep", "infinity")
	d.docker("exec", "box", "sh", "-c", "echo kept >/file")
	d.stop()
	require.Empty(t, s.mounted())
	s.run("check")
	d.start()
	d.docker("start", "box")
	d.kill()
	require.Len(t, s.mounted(), 1, "the container goes on")
	d.start()
	require.Equal(t, "false", d.docker("inspect", "-f", "{{.State.Running}}", "box"))
	require.Eventually(t, func() bool { return len(s.mounted()) == 0 }, patience, tick, "a container that ended stays mounted")
	d.docker("start", "box")
	require.Equal(t, "kept", d.docker("exec", "box", "cat", "/file"))
	d.docker("rm", "-f", "box")
	require.Empty(t, s.mounted())
}
