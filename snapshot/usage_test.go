package snapshot_test

import (
	"context"
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
	recorded := func() (all []int64) {
		t.Helper()
		for _, in := range f.stat(names...) {
			all = append(all, in.Usage.Referenced)
		}
		return all
	}
	require.Equal(t, []int64{0, 0, 0}, recorded())
	f.kind.Faults.FailAt(1, dirdriver.ErrInjected)
	_, err = f.s.CountReferenced(ctx, f.stat(names...))
	require.ErrorIs(t, err, dirdriver.ErrInjected)
	_, err = f.s.Referenced(ctx, "nobody")
	require.ErrorIs(t, err, snapshot.ErrNotFound)
	require.Equal(t, []int64{0, 0, 0}, recorded())

	first, err := f.s.CountReferenced(ctx, f.stat(names...))
	require.NoError(t, err)
	lower, upper, container := first[0].Usage.Referenced, first[1].Usage.Referenced, first[2].Usage.Referenced
	require.Positive(t, lower)
	require.Greater(t, upper, lower)
	require.Equal(t, upper, container)
	require.Equal(t, []int64{lower, upper, 0}, recorded())
	f.reopen()
	f.kind.Faults.Calls()
	again, err := f.s.Referenced(ctx, im.Layers[1])
	require.NoError(t, err)
	require.Equal(t, upper, again)
	require.Empty(t, f.kind.Faults.Calls())
	f.check()
}

// TestCountWhatIsLeft: what went after it was listed is left out, also where another has its name by now, and an error that
// has another reason is told.
func TestCountWhatIsLeft(t *testing.T) {
	f := newFixture(t)
	im := f.load("base", 1)
	create := func(name string) {
		t.Helper()
		_, err := f.s.Create(ctx, name, snapshot.CreateRequest{Parent: im.Layers[0]})
		require.NoError(t, err)
	}
	names := []string{"gone", "stays", "replaced"}
	for _, name := range names {
		create(name)
	}
	list := f.stat(names...)
	require.NoError(t, f.s.Remove(ctx, "gone"))
	require.NoError(t, f.s.Remove(ctx, "replaced"))
	f.s.WaitSwept()
	create("replaced")
	for what, count := range map[string]func(context.Context, []snapshot.Info) ([]snapshot.Info, error){
		"usage": f.s.CountUsage, "referenced": f.s.CountReferenced,
	} {
		left, err := count(ctx, list)
		require.NoError(t, err, what)
		require.Len(t, left, 1, what)
		require.Equal(t, "stays", left[0].Name, what)
		f.kind.Faults.FailAt(1, dirdriver.ErrInjected)
		_, err = count(ctx, f.stat("stays", "replaced"))
		require.ErrorIs(t, err, dirdriver.ErrInjected, what)
	}
	f.check()
}
