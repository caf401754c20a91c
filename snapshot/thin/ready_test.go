package thin_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/drivertest"
)

// TestReady: a device that was made ahead is looked at and used, and no device is there that nobody has asked for.
func TestReady(t *testing.T) {
	s := newStore(t)
	d := s.driver
	active := func(id snapshot.VolumeID) bool {
		_, err := d.(snapshot.Devicer).Device(t.Context(), id)
		if err != nil {
			require.ErrorIs(t, err, snapshot.ErrNotFound)
		}
		return err == nil
	}
	ready := func(id snapshot.VolumeID) snapshot.Volume {
		v := s.create(id, s.base)
		calls := s.called(func() { require.NoError(t, d.(snapshot.Readier).Ready(t.Context(), v)) })
		require.Equal(t, []string{"DEV_CREATE", "TABLE_LOAD", "DEV_SUSPEND"}, calls)
		require.True(t, active(id))
		return v
	}

	t.Run("used", func(t *testing.T) {
		v := ready(16)
		calls := s.called(func() { s.with(v, false, func(dir string) { write(t, dir+"/f", "x") }) })
		require.Equal(t, []string{"DEV_STATUS", "TABLE_STATUS", "DEV_REMOVE"}, calls)
		require.False(t, active(v.ID))
		s.with(v, false, func(dir string) { require.Equal(t, "x", read(t, dir+"/f")) })
		require.NoError(t, d.Remove(t.Context(), v.ID))
	})
	t.Run("removed unused", func(t *testing.T) {
		v := ready(17)
		require.NoError(t, d.Remove(t.Context(), v.ID))
		require.False(t, active(v.ID))
	})
	t.Run("sealed unused", func(t *testing.T) {
		v := ready(18)
		require.NoError(t, d.Seal(t.Context(), v))
		d.(drivertest.Deferrer).CatchUp()
		require.False(t, active(v.ID))
		v.Sealed = true
		s.with(v, true, func(string) {})
		require.NoError(t, d.Remove(t.Context(), v.ID))
	})
	t.Run("wanted for reading", func(t *testing.T) {
		v := ready(19)
		s.with(v, true, func(string) {})
		require.False(t, active(v.ID))
		require.NoError(t, d.Remove(t.Context(), v.ID))
	})
	t.Run("taken away by others", func(t *testing.T) {
		v := ready(20)
		path, err := d.(snapshot.Devicer).Device(t.Context(), v.ID)
		require.NoError(t, err)
		var st unix.Stat_t
		require.NoError(t, unix.Stat(path, &st))
		client, err := dm.Open(dm.Options{})
		require.NoError(t, err)
		defer client.Close()
		_, err = client.Remove(t.Context(), dm.Dev(dm.NumberOf(st.Rdev)), dm.RemoveOptions{})
		require.NoError(t, err)
		s.with(v, false, func(string) {})
		require.NoError(t, d.Remove(t.Context(), v.ID))
	})
}
