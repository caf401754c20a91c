package thinpool_test

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/thinpool"
)

// TestRetire: what was retired goes by itself, and stays for whoever wants it before.
func TestRetire(t *testing.T) {
	w := newWorld(t)
	p := w.pool()
	o := thinpool.ActivateOptions{Size: 32 << 20}
	active := func() (ids []dm.DeviceID) {
		all, err := p.Active(t.Context())
		require.NoError(t, err)
		for _, a := range all {
			ids = append(ids, a.ID)
		}
		return ids
	}
	const n = dm.DeviceID(8)
	for id := range n {
		require.NoError(t, p.CreateThin(t.Context(), id))
		_, err := p.Activate(t.Context(), id, o)
		require.NoError(t, err)
	}
	require.Len(t, active(), int(n))

	calls := w.called(func() {
		for id := range n {
			require.NoError(t, p.Retire(t.Context(), id))
		}
		p.WaitRetired()
	})
	require.Empty(t, active())
	require.Len(t, calls, 2*int(n), "a look and a removal each: %v", calls)
	require.NoError(t, p.Retire(t.Context(), 0), "one that is not active")
	require.NoError(t, p.Retire(t.Context(), 1000), "one that does not exist")

	t.Run("nobody waits", func(t *testing.T) {
		_, err := p.Activate(t.Context(), 0, o)
		require.NoError(t, err)
		require.NoError(t, p.Retire(t.Context(), 0))
		require.Eventually(t, func() bool { return len(active()) == 0 }, 10*time.Second, time.Millisecond)
	})
	t.Run("wanted again", func(t *testing.T) {
		for range 20 {
			_, err := p.Activate(t.Context(), 0, o)
			require.NoError(t, err)
			require.NoError(t, p.Retire(t.Context(), 0))
			d, err := p.Activate(t.Context(), 0, o)
			require.NoError(t, err)
			p.WaitRetired()
			f, err := os.OpenFile(d.Path, os.O_RDWR, 0)
			require.NoError(t, err, "it is there for who was given it")
			require.NoError(t, f.Close())
			require.NoError(t, p.Deactivate(t.Context(), 0))
			require.Empty(t, active())
		}
	})
	t.Run("wanted for reading", func(t *testing.T) {
		_, err := p.Activate(t.Context(), 0, o)
		require.NoError(t, err)
		require.NoError(t, p.Retire(t.Context(), 0))
		_, err = p.Activate(t.Context(), 0, thinpool.ActivateOptions{Size: 32 << 20, ReadOnly: true})
		require.NoError(t, err)
		p.WaitRetired()
		all, err := p.Active(t.Context())
		require.NoError(t, err)
		require.Len(t, all, 1)
		require.True(t, all[0].ReadOnly)
		require.NoError(t, p.Deactivate(t.Context(), 0))
	})
	t.Run("in use", func(t *testing.T) {
		d, err := p.Activate(t.Context(), 0, o)
		require.NoError(t, err)
		f, err := os.Open(d.Path)
		require.NoError(t, err)
		require.ErrorIs(t, p.Retire(t.Context(), 0), thinpool.ErrBusy)
		p.WaitRetired()
		require.Equal(t, []dm.DeviceID{0}, active())
		require.NoError(t, f.Close())
		require.NoError(t, p.Retire(t.Context(), 0))
		p.WaitRetired()
		require.Empty(t, active())
	})
	t.Run("deleted", func(t *testing.T) {
		_, err := p.Activate(t.Context(), 1, o)
		require.NoError(t, err)
		require.NoError(t, p.Retire(t.Context(), 1))
		require.NoError(t, p.TryDeactivate(t.Context(), 1), "it waits")
		require.NoError(t, p.Delete(t.Context(), 1))
	})
	t.Run("closed", func(t *testing.T) {
		_, err := p.Activate(t.Context(), 2, o)
		require.NoError(t, err)
		require.NoError(t, p.Retire(t.Context(), 2))
		require.NoError(t, p.Close(t.Context()), "no device of the pool is left")
	})
}
