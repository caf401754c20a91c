package e2e

import (
	"context"
	"path/filepath"
	"strings"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/v2/core/snapshots"
	snapshotsproxy "github.com/containerd/containerd/v2/core/snapshots/proxy"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/stretchr/testify/require"
)

// serveContainerd serves the store to containerd.
func (s *store) serveContainerd(flags ...string) *server {
	s.t.Helper()
	peer := open(s.t)
	v := s.serveAt("containerd", filepath.Join(scratch(s.t), "b.sock"), append(flags, "--containerd-address", filepath.Join(peer, containerdSocket))...)
	v.peer = peer
	return v
}

// containerdSocket is where containerd listens, in its directory.
const containerdSocket = "c.sock"

// containerd is the containerd on the served store.
func (v *server) containerd(version string, o containerdOptions) *containerd {
	v.t.Helper()
	o.server = v
	return newContainerd(v.t, version, o)
}

// list is what the store tells containerd that it has.
func (v *server) list() []snapshots.Info {
	v.t.Helper()
	var found []snapshots.Info
	backend := snapshotsproxy.NewSnapshotter(snapshotsapi.NewSnapshotsClient(dial(v.t, v.socket)), proxied)
	err := backend.Walk(namespaces.WithNamespace(v.t.Context(), "any"), func(_ context.Context, i snapshots.Info) error {
		found = append(found, i)
		return nil
	})
	require.NoError(v.t, err)
	return found
}

// mustHave: the store is whole, and has what containerd has, no less and no more.
// What containerd has let go goes with its next collection.
func (v *server) mustHave(c *containerd) {
	v.t.Helper()
	cl := c.client()
	cl.collect()
	v.store.run("check")
	var theirs, ours []string
	for _, i := range cl.list() {
		theirs = append(theirs, i.Kind.String()+" "+i.Name+" on "+i.Parent)
	}
	for _, i := range v.list() {
		ours = append(ours, i.Kind.String()+" "+bare(i.Name)+" on "+bare(i.Parent))
	}
	require.ElementsMatch(v.t, theirs, ours)
}

// bare is a name without the name space and the number that containerd puts before it.
func bare(name string) string {
	if parts := strings.SplitN(name, "/", 3); len(parts) == 3 {
		return parts[2]
	}
	return name
}
