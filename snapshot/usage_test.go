package snapshot_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/drivertest/dirdriver"
)

// TestReferenced: what a layer refers to is counted when somebody asks, once, and known to the next program too. A failure
// is told, and nothing is recorded of it.
func TestReferenced(t *testing.T) {
	f := newFixture(t)
	im := f.load("base", 1, 2)
	_, err := f.s.Create(ctx, "c", snapshot.CreateRequest{Parent: im.Layers[1]})
	require.NoError(t, err)
	names := []string{im.Layers[0], im.Layers[1], "c"}
	recorded := func() (all []*int64) {
		t.Helper()
		for _, name := range names {
			in, err := f.s.Stat(ctx, name)
			require.NoError(t, err)
			all = append(all, in.Referenced)
		}
		return all
	}
	require.Equal(t, []*int64{nil, nil, nil}, recorded())
	f.kind.Faults.FailAt(1, dirdriver.ErrInjected)
	_, err = f.s.Referenced(ctx, names...)
	require.ErrorIs(t, err, dirdriver.ErrInjected)
	_, err = f.s.Referenced(ctx, im.Layers[0], "nobody")
	require.ErrorIs(t, err, snapshot.ErrNotFound)
	require.Equal(t, []*int64{nil, nil, nil}, recorded())

	first, err := f.s.Referenced(ctx, names...)
	require.NoError(t, err)
	require.Positive(t, first[im.Layers[0]])
	require.Greater(t, first[im.Layers[1]], first[im.Layers[0]])
	require.Equal(t, first[im.Layers[1]], first["c"])
	require.Equal(t, []*int64{new(first[im.Layers[0]]), new(first[im.Layers[1]]), nil}, recorded())
	f.reopen()
	f.kind.Faults.Calls()
	again, err := f.s.Referenced(ctx, im.Layers...)
	require.NoError(t, err)
	require.Equal(t, map[string]int64{im.Layers[0]: first[im.Layers[0]], im.Layers[1]: first[im.Layers[1]]}, again)
	require.Empty(t, f.kind.Faults.Calls())
	f.check()
}
