package e2e

import (
	"bytes"
	"context"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// count writes numbers into a file of the container's layer, each durably, and says so
// then. It goes on where it was stopped.
const count = `use IO::Handle;
my $n = 0;
if (open(my $had, "<", "/counted")) { $n++ while <$had> }
open(my $f, ">>", "/counted") or die "open: $!";
for (;;) {
	$n++;
	print $f "$n\n" and $f->flush or die "write: $!";
	$f->sync or die "sync: $!";
	print "$n\n" and STDOUT->flush or die "tell: $!";
	select undef, undef, undef, 0.01;
}`

// counter is a container that counts.
type counter struct {
	c    *containerd
	name string
}

func (c *containerd) counter(name, ref string) *counter {
	c.t.Helper()
	c.run(name, ref, "perl", "-e", count)
	n := &counter{c, name}
	n.goesOn("at first")
	return n
}

// acknowledged is the last number that it said was durable.
func (n *counter) acknowledged() int {
	n.c.t.Helper()
	text, err := os.ReadFile(n.c.output(n.name))
	if os.IsNotExist(err) {
		return 0
	}
	require.NoError(n.c.t, err)
	whole := bytes.Fields(text[:bytes.LastIndexByte(text, '\n')+1])
	if len(whole) == 0 {
		return 0
	}
	last, err := strconv.Atoi(string(whole[len(whole)-1]))
	require.NoError(n.c.t, err, "it says %q", whole[len(whole)-1])
	return last
}

func (n *counter) goesOn(when string) {
	n.c.t.Helper()
	before := n.acknowledged()
	require.True(n.c.t, eventually(func() bool { return n.acknowledged() >= before+10 }), "it does not count %s", when)
}

// nothingLost: every number that was acknowledged is there, once.
func (n *counter) nothingLost(when string) {
	n.c.t.Helper()
	last := n.acknowledged()
	found := strings.Fields(n.c.exec(n.name, "cat", "/counted"))
	require.GreaterOrEqual(n.c.t, len(found), last, "numbers were acknowledged and are lost %s", when)
	for i, f := range found[:last] {
		require.Equal(n.c.t, strconv.Itoa(i+1), f, when)
	}
}

// testContainerdRestart: the server and containerd end in every way while containers run.
// The containers do not notice, what they made durable stays, afterwards every verb works
// on them, and no mount is left when they are gone.
func testContainerdRestart(t *testing.T, version string) {
	if testing.Short() {
		t.Skip("half a minute: containerd starts seven times")
	}
	s := newStore(t)
	idle := mountsBelow(t, s.root)
	v := s.serveContainerd()
	archive, ref := ociArchive(t, "base")
	c := v.containerd(version, containerdOptions{})
	c.load(archive)
	restarts(v, c, ref)
	c.ctr("image", "rm", "--sync", ref)
	v.mustHave(c)
	v.mustBeEmpty()
	c.stop()
	v.stop()
	require.Equal(t, idle, mountsBelow(t, s.root))
}

func TestContainerdRestartDebian12(t *testing.T) { testContainerdRestart(t, debian12) }
func TestContainerdRestartDebian13(t *testing.T) { testContainerdRestart(t, debian13) }
func TestContainerdRestartNewest(t *testing.T)   { testContainerdRestart(t, newest) }

func restarts(v *server, c *containerd, ref string) {
	t := c.t
	first := c.counter("first", ref)
	pid := c.pid("first")
	stops := []struct {
		name     string
		down, up func()
	}{
		{"server-stopped", v.stop, v.start},
		{"server-killed", v.kill, v.start},
		{"containerd-stopped", c.stop, c.start},
		{"containerd-killed", c.kill, c.start},
		{"both-stopped", func() { c.stop(); v.stop() }, func() { v.start(); c.start() }},
		{"both-killed", func() { v.kill(); c.kill() }, func() { c.start(); v.start() }},
	}
	for _, stop := range stops {
		other := "before-" + stop.name
		c.idle(other, ref)
		stop.down()
		first.goesOn("while down, " + stop.name)
		stop.up()
		c.reconnects()
		require.Equal(t, pid, c.pid("first"), "%s: the container was stopped", stop.name)
		first.goesOn(stop.name)
		first.nothingLost(stop.name)
		v.mustHave(c)
		c.exec(other, "sh", "-c", "echo "+stop.name+" >/log && sync /log")
		require.Contains(t, c.layer(other), "log", stop.name)
		c.kill9(other)
		c.again(other)
		require.Equal(t, stop.name, c.exec(other, "cat", "/log"))
		c.remove(other)
	}
	// With the container's own program, and the shim: its layer goes on from where it was.
	v.kill()
	c.kill()
	require.NoError(t, unix.Kill(parentOf(pid), unix.SIGKILL))
	if err := unix.Kill(pid, unix.SIGKILL); err != nil { // nobody reads what it says any more: it may have ended
		require.ErrorIs(t, err, unix.ESRCH)
	}
	require.True(t, eventually(func() bool { return !alive(pid) }))
	v.start()
	c.start()
	c.reconnects()
	c.clean("first")
	c.again("first")
	first.goesOn("after kill -9 of everything")
	first.nothingLost("after kill -9 of everything")
	c.remove("first")
}

// reconnects waits until containerd has found the server again: calls fail until it tries
// the next time, which it does every three seconds at least, of snapshots and of diffs each.
// A list asks the server only where there are snapshots: so one is made, and let go.
func (c *containerd) reconnects() {
	c.t.Helper()
	cl := c.client()
	cl.leased(func(ctx context.Context) {
		var prepared, compared error
		found := eventually(func() bool {
			_, prepared = cl.snapshots.Prepare(ctx, "reconnects", "")
			if prepared != nil && !errdefs.IsAlreadyExists(prepared) {
				return false
			}
			_, compared = cl.diff.Compare(ctx, nil, nil) // of nothing: whoever answers refuses that
			return !errdefs.IsUnavailable(compared)
		})
		require.True(c.t, found, "containerd does not find the server again: %v, %v", prepared, compared)
	})
}

// clean removes what a task whose shim was killed has left.
func (c *containerd) clean(container string) {
	c.t.Helper()
	require.True(c.t, eventually(func() bool { return c.status(container) != "RUNNING" }), "%s was killed and runs", container)
	if c.status(container) != "" {
		c.ctr("task", "rm", "-f", container)
	}
}
