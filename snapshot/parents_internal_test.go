package snapshot

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestKnownParents: a layer is read once, until others have taken its room; what may be written to is read each time.
func TestKnownParents(t *testing.T) {
	tree := func(files int) string {
		dir := t.TempDir()
		for i := range files {
			require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o600))
		}
		return dir
	}
	k := &knownParents{most: 10}
	read := func(v Volume, dir string) int {
		t.Helper()
		p, err := k.of(t.Context(), v, dir)
		require.NoError(t, err)
		return p.Len()
	}
	const gone = "/a/tree/that/is/not/there"
	layer := func(id VolumeID) Volume { return Volume{ID: id, Sealed: true} }

	require.Equal(t, 4, read(layer(1), tree(4)))
	require.Equal(t, 4, read(layer(1), gone))
	require.Equal(t, 5, read(layer(2), tree(5)))
	require.Equal(t, 4, read(layer(1), gone), "there was room for both, and this is the one that was used last")
	require.Equal(t, 2, read(layer(3), tree(2)))
	require.Equal(t, 4, read(layer(1), gone))
	require.Equal(t, 2, read(layer(3), gone))
	require.Equal(t, 3, read(layer(2), tree(3)), "it made room")
	require.Equal(t, 11, read(layer(4), tree(11)))
	require.Equal(t, 12, read(layer(4), tree(12)), "it is too large to be kept")
	require.Equal(t, 3, read(layer(2), gone), "and took nobody's room")
	require.Equal(t, 9, k.names)

	require.Equal(t, 1, read(Volume{ID: 5}, tree(1)))
	require.Equal(t, 2, read(Volume{ID: 5}, tree(2)), "it may have been written to")
	_, err := k.of(t.Context(), layer(6), gone)
	require.ErrorIs(t, err, os.ErrNotExist)
}
