package layertar

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestSplit: what Diff wrote comes out of Assemble again, byte for byte, with
// the split data that Split made of it.
func TestSplit(t *testing.T) {
	lower, upper := t.TempDir(), t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(lower, "gone"), []byte("x"), 0o644))
	require.NoError(t, os.MkdirAll(filepath.Join(upper, "dir"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(upper, "dir", "file"), bytes.Repeat([]byte("content"), 100_000), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(upper, "empty"), nil, 0o600))
	require.NoError(t, os.Link(filepath.Join(upper, "dir", "file"), filepath.Join(upper, "name two")))
	require.NoError(t, os.Symlink("dir/file", filepath.Join(upper, "link")))

	var layer, split, again bytes.Buffer
	_, err := Diff(context.Background(), lower, upper, &layer, DiffOptions{})
	require.NoError(t, err)
	require.NoError(t, Split(context.Background(), bytes.NewReader(layer.Bytes()), &split))
	require.Less(t, split.Len(), 10_000)
	require.NoError(t, Assemble(context.Background(), upper, &split, &again))
	require.True(t, bytes.Equal(layer.Bytes(), again.Bytes()))
}

// TestSplitRefusesDamage: half a tar has no split data.
func TestSplitRefusesDamage(t *testing.T) {
	upper := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(upper, "file"), make([]byte, 5000), 0o644))
	var layer bytes.Buffer
	_, err := Diff(context.Background(), "", upper, &layer, DiffOptions{})
	require.NoError(t, err)
	require.Error(t, Split(context.Background(), bytes.NewReader(layer.Bytes()[:2000]), &bytes.Buffer{}))
}
