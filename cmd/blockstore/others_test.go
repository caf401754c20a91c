package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot"
)

func TestNotOthers(t *testing.T) {
	require.NoError(t, notOthers(snapshot.Info{Name: "web"}, "rm"))
	for name, says := range map[string]string{
		"docker/0123": "docker rm",
		"containerd/blockstore/k8s.io/12/sha256:0123": `its plugin blockstore knows it as "k8s.io/12/sha256:0123"`,
	} {
		err := notOthers(snapshot.Info{Name: name}, "rm")
		require.ErrorIs(t, err, snapshot.ErrBusy)
		require.Contains(t, mendOf(err, "/var/lib/blockstore"), says)
	}
}
