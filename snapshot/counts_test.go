package snapshot_test

import (
	"fmt"
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

// TestCatalogBytes: what a container has there is a record of hundreds of bytes, and is gone with it.
func TestCatalogBytes(t *testing.T) {
	f := newFixture(t)
	bytes := func() int64 {
		n, err := f.s.CatalogBytes()
		require.NoError(t, err)
		return n
	}
	none := bytes()
	const many = 100
	for i := range many {
		_, err := f.s.Create(ctx, fmt.Sprint("box-", i), snapshot.CreateRequest{})
		require.NoError(t, err)
	}
	each := (bytes() - none) / many
	require.Greater(t, each, int64(100))
	require.Less(t, each, int64(1024))
	for i := range many {
		require.NoError(t, f.s.Remove(ctx, fmt.Sprint("box-", i)))
	}
	require.Less(t, bytes(), none+1024)
}
