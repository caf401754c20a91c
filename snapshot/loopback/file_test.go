package loopback

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot"
)

func TestSize(t *testing.T) {
	dir := t.TempDir()
	n, err := Size(dir, 300<<20)
	require.NoError(t, err)
	require.EqualValues(t, 300<<20, n)
	for _, few := range []int64{-1, 1, least - 1} {
		_, err = Size(dir, few)
		require.ErrorIs(t, err, snapshot.ErrInvalid)
		require.ErrorContains(t, err, "256 MiB at least")
	}
	free, err := freeBelow(dir)
	require.NoError(t, err)
	if n, err = Size(dir, 0); free < 2*least {
		require.ErrorIs(t, err, snapshot.ErrNoSpace)
	} else {
		require.NoError(t, err)
		require.LessOrEqual(t, n, int64(mostByDefault))
		require.LessOrEqual(t, n, free)
		require.Zero(t, n%(1<<20))
	}
	_, err = Size(filepath.Join(dir, "missing"), 0)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestSpace(t *testing.T) {
	f := File(filepath.Join(t.TempDir(), "image"))
	_, _, err := f.Space()
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NoError(t, os.WriteFile(string(f), make([]byte, 1<<20), 0o600))
	require.NoError(t, os.Truncate(string(f), 1<<30))
	_, occupied, err := f.Space()
	require.NoError(t, err)
	require.GreaterOrEqual(t, occupied, int64(1<<20))
	require.Less(t, occupied, int64(2<<20), "it is sparse")
}
