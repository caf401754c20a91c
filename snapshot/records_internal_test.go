package snapshot

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestEachContainer: containers are all found, whatever they are called, and layers are not even decoded.
func TestEachContainer(t *testing.T) {
	c := opened(t, filepath.Join(t.TempDir(), catalogFile))
	defer func() { require.NoError(t, c.close()) }()
	odd := `odd "kind":"layer" <&> name`
	require.NoError(t, c.update(func(tx *tx) error {
		for _, in := range []Info{
			{Name: odd, Kind: KindContainer},
			{Name: "plain", Kind: KindContainer, Labels: map[string]string{"kind": "layer"}},
			{Name: `layer "kind":"container"`, Kind: KindLayer},
			{Name: "labelled", Kind: KindLayer, Labels: map[string]string{"kind": "container"}},
			{Name: "view", Kind: KindView},
		} {
			require.NoError(t, tx.put(bucketSnapshots, in.Name, in))
		}
		return tx.set(bucketSnapshots, "broken", []byte(`{"name":"broken","kind":"layer","volume":`))
	}))
	var found []string
	require.NoError(t, c.view(func(tx *tx) error {
		require.ErrorIs(t, tx.eachSnapshot(func(Info) error { return nil }), ErrCorrupt)
		return tx.eachContainer(func(in Info) error { found = append(found, in.Name); return nil })
	}))
	require.Equal(t, []string{odd, "plain"}, found)
	require.NoError(t, c.update(func(tx *tx) error { return tx.set(bucketSnapshots, "bad", []byte(`{"kind":"container",`)) }))
	require.ErrorIs(t, c.view(func(tx *tx) error { return tx.eachContainer(func(Info) error { return nil }) }), ErrCorrupt)
}
