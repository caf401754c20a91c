package snapshot_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/drivertest/dirdriver"
)

// TestSparesFail: whichever step fails, spares that cannot be made leave nothing, and
// are tried again when their layer has been used as often again.
func TestSparesFail(t *testing.T) {
	f := newFixture(t)
	for k := 1; k <= 22; k++ { // two creations, and eight spares made and removed
		layer := f.load(fmt.Sprint("image ", k), k).Layers[0]
		create := func(name string) error {
			_, err := f.s.Create(ctx, fmt.Sprint(k, name), snapshot.CreateRequest{Parent: layer})
			return err
		}
		f.s.KeepSpares()
		require.NoError(t, create("a"))
		f.kind.Faults.FailAt(k, dirdriver.ErrInjected)
		if err := create("b"); err != nil {
			require.ErrorIs(t, err, dirdriver.ErrInjected)
		}
		if err := f.s.Close(ctx); err != nil {
			require.ErrorIs(t, err, dirdriver.ErrInjected)
		}
		f.open()
		f.exact(fmt.Sprint("a fault at step ", k))

		f.s.KeepSpares()
		require.NoError(t, errors.Join(create("c"), create("d")))
		ready := func() bool { return f.s.Spares().Ready > 0 }
		require.Eventually(t, ready, 20*time.Second, time.Millisecond)
		f.check()
		f.reopen()
		f.exact("after Close")
	}
}

// hot has the store make spares of a layer, and waits until they are there.
func (f *fixture) hot(layer string) {
	f.t.Helper()
	before := f.s.Spares().Ready
	for range 2 {
		f.container(layer)
	}
	require.Eventually(f.t, func() bool { return f.s.Spares().Ready == before+8 }, 20*time.Second, time.Millisecond)
}

// container makes one on a layer, and says whether a spare was taken for it.
func (f *fixture) container(layer string) bool {
	f.t.Helper()
	before := f.s.Spares().Taken
	_, err := f.s.Create(ctx, fmt.Sprint("container-", before+f.s.Spares().Missed), snapshot.CreateRequest{Parent: layer})
	require.NoError(f.t, err)
	return f.s.Spares().Taken > before
}

// TestSparesOutliveAPull: a container on each of many layers, one after the other, costs no others their spares.
func TestSparesOutliveAPull(t *testing.T) {
	f := newFixture(t)
	f.s.KeepSpares()
	layer := f.load("image", 1).Layers[0]
	f.hot(layer)
	for i := range 20 {
		require.False(t, f.container(f.load(fmt.Sprint("pulled ", i), 100+i).Layers[0]))
	}
	require.True(t, f.container(layer))
}

// TestSparesMakeRoom: where there is no room for more, a layer has one at a time, and what nobody has used for a while gives
// way, no sooner.
func TestSparesMakeRoom(t *testing.T) {
	f := newFixture(t)
	f.s.KeepSpares()
	var layers []string
	for i := range 5 {
		layers = append(layers, f.load(fmt.Sprint("image ", i), 1+i).Layers[0])
	}
	const full = 32
	for _, layer := range layers[:4] {
		f.hot(layer)
	}
	require.Equal(t, full, f.s.Spares().Ready)
	require.False(t, f.container(layers[4]))
	require.False(t, f.container(layers[4]), "it is used often from here on")
	for range 80 {
		require.Eventually(t, func() bool { return f.s.Spares().Ready == full+1 }, 20*time.Second, time.Millisecond, "one, and no more")
		require.True(t, f.container(layers[4]))
	}
	for range 30 {
		f.container(layers[4])
	}
	require.False(t, f.container(layers[0]), "it was used the longest time ago")
	require.True(t, f.container(layers[1]))
}
