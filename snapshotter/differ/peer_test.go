package differ

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/metadata"
)

// TestCallersNamespace: calls back to containerd are made in the namespace that the call
// names first, or that the snapshot belongs to.
func TestCallersNamespace(t *testing.T) {
	told := func(names ...string) metadata.MD { return metadata.MD{headerNamespace: names} }
	for name, c := range map[string]struct {
		header metadata.MD
		about  string
		want   string // "" is a refusal
	}{
		"told":                  {told("k8s.io"), "containerd/blockstore/other/12/box", "k8s.io"},
		"told twice":            {told("mine", "earlier"), "containerd/blockstore/other/12/box", "mine"},
		"not told":              {nil, "containerd/blockstore/k8s.io/12/extract 1 sha256:a/b", "k8s.io"},
		"a key of no namespace": {nil, "containerd/blockstore/box", ""},
		"not containerd's":      {nil, "docker/a/b/c/d", ""},
		"nothing":               {nil, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, leased, err := asCaller(metadata.NewIncomingContext(t.Context(), c.header), c.about)
			require.False(t, leased)
			if c.want == "" {
				require.ErrorContains(t, err, headerNamespace)
				return
			}
			require.NoError(t, err)
			out, _ := metadata.FromOutgoingContext(ctx)
			require.Equal(t, []string{c.want}, out.Get(headerNamespace))
		})
	}
}
