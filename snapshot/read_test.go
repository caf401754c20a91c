package snapshot_test

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot"
)

// TestExportWithoutRoom: a store that has no room for a snapshot lets what it holds be read.
func TestExportWithoutRoom(t *testing.T) {
	f := newFixture(t)
	_, err := f.s.Create(ctx, "c", snapshot.CreateRequest{})
	require.NoError(t, err)
	dir, err := f.s.Mount(ctx, "c")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "kept"), nil, 0o600))
	f.kind.Faults.FailAt(1, snapshot.ErrNoSpace)
	var b bytes.Buffer
	require.NoError(t, f.s.Export(ctx, "c", &b))
	require.Positive(t, f.kind.Faults.Steps(), "a snapshot was tried")
	r := tar.NewReader(&b)
	var names []string
	for hdr, err := r.Next(); err == nil; hdr, err = r.Next() {
		names = append(names, hdr.Name)
	}
	require.Contains(t, names, "kept")
	require.NoError(t, f.s.Unmount(ctx, "c"))
	require.ErrorIs(t, f.s.Export(ctx, "nobody", &b), snapshot.ErrNotFound)
	f.exact("afterwards")
}
