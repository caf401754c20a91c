package snapshot

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestChainBytes: with the sum in its record a layer is all that is read of a chain; those that have none, of an older
// program or made on one that was mounted, are added up down to one that has.
func TestChainBytes(t *testing.T) {
	c := opened(t, filepath.Join(t.TempDir(), catalogFile))
	defer func() { require.NoError(t, c.close()) }()
	layer := func(n int) Info {
		in := Info{Name: fmt.Sprint(n), Kind: KindLayer, Volume: Volume{ID: VolumeID(n), Sealed: true}, Usage: Usage{Added: 1 << n}}
		if n > 1 {
			in.Parent = fmt.Sprint(n - 1)
		}
		return in
	}
	want := func(top Info, bytes int64, final bool) {
		t.Helper()
		require.NoError(t, c.view(func(tx *tx) error {
			sum, is, err := tx.chainBytes(top)
			require.NoError(t, err)
			require.Equal(t, bytes, sum)
			require.Equal(t, final, is)
			return nil
		}))
	}
	put := func(in Info) {
		t.Helper()
		require.NoError(t, c.update(func(tx *tx) error { return tx.put(bucketSnapshots, in.Name, in) }))
	}
	put(layer(1)) // of an older program, all three
	put(layer(2))
	put(layer(3))
	want(layer(4), 2+4+8+16, true)
	four := layer(4)
	require.NoError(t, c.update(func(tx *tx) error {
		require.NoError(t, tx.sumUp(&four))
		return tx.put(bucketSnapshots, four.Name, four)
	}))
	require.EqualValues(t, 2+4+8+16, *four.ChainBytes)
	require.NoError(t, c.update(func(tx *tx) error { return tx.remove(bucketSnapshots, "1") }))
	require.ErrorIs(t, c.view(func(tx *tx) error { _, _, err := tx.chainBytes(layer(3)); return err }), ErrNotFound)
	want(four, 2+4+8+16, true)
	want(layer(5), 2+4+8+16+32, true)

	mounted := layer(5)
	mounted.Volume.Sealed = false
	put(mounted)
	want(layer(6), 2+4+8+16+32+64, false)
	six := layer(6)
	require.NoError(t, c.update(func(tx *tx) error { return tx.sumUp(&six) }))
	require.Nil(t, six.ChainBytes, "what is below may still grow")
}
