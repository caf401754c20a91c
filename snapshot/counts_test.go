package snapshot_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot"
)

// TestCatalogCounts: a creation is one commit, of as many changes as wait for it; what is refused is none.
func TestCatalogCounts(t *testing.T) {
	f := newFixture(t)
	_, err := f.s.Create(ctx, "first", snapshot.CreateRequest{})
	require.NoError(t, err)
	before := f.s.CatalogCounts()
	_, err = f.s.Create(ctx, "second", snapshot.CreateRequest{})
	require.NoError(t, err)
	after := f.s.CatalogCounts()
	require.Equal(t, before.Commits+1, after.Commits)
	require.Equal(t, before.Updates+1, after.Updates)
	require.Greater(t, after.Committing, before.Committing)
	_, err = f.s.Create(ctx, "second", snapshot.CreateRequest{})
	require.ErrorIs(t, err, snapshot.ErrExists)
	require.Equal(t, after, f.s.CatalogCounts())
}
