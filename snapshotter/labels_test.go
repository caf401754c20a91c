package snapshotter

import (
	"testing"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/stretchr/testify/require"
)

// TestChangedOwners: a parent whose owners containerd has changed is known by its name.
func TestChangedOwners(t *testing.T) {
	mapping := func(uid, gid string) map[string]string {
		return map[string]string{snapshots.LabelSnapshotUIDMapping: uid, snapshots.LabelSnapshotGIDMapping: gid}
	}
	for name, c := range map[string]struct {
		parent string
		labels map[string]string
		want   bool
	}{
		"changed":           {"containerd/p/ns/4/sha256:12ab-100000-200000", mapping("0:100000:65536", "0:200000:65536"), true},
		"the image's layer": {"containerd/p/ns/4/sha256:12ab", mapping("0:100000:65536", "0:200000:65536"), false},
		"for other ids":     {"containerd/p/ns/4/sha256:12ab-300000-200000", mapping("0:100000:65536", "0:200000:65536"), false},
		"for more ids":      {"containerd/p/ns/4/sha256:12ab-100000-200000", mapping("0:1000:1,1:100000:65536", "0:200000:65536"), false},
		"no mapping":        {"containerd/p/ns/4/sha256:12ab-100000-200000", nil, false},
		"half a mapping":    {"containerd/p/ns/4/sha256:12ab-100000-", mapping("0:100000:65536", ""), false},
		"no parent":         {"", mapping("0:100000:65536", "0:200000:65536"), false},
	} {
		require.Equal(t, c.want, changed(c.parent, c.labels), name)
	}
}
