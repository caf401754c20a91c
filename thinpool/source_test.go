package thinpool_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/ioctl"
	"blockstore.dev/blockstore/thinpool"
	"blockstore.dev/blockstore/thinpool/metadata"
)

// TestReadFrom: an active pool is read through a metadata snapshot, whatever it is called by.
func TestReadFrom(t *testing.T) {
	w := newWorld(t)
	p := w.pool()
	require.NoError(t, p.CreateThin(t.Context(), 5))
	held := func(name string) (held bool) {
		t.Helper()
		require.NoError(t, thinpool.ReadFrom(t.Context(), name, thinpool.ReadOptions{}, func(v *metadata.View) error {
			held = v.Held()
			d, err := v.Device(t.Context(), 5)
			require.Zero(t, d.Mapped)
			return err
		}), name)
		require.Zero(t, w.heldRoot(p))
		return held
	}
	loop, err := ioctl.FindLoop(p.Config().Metadata)
	require.NoError(t, err)
	for _, name := range []string{p.Config().PoolName(), dm.Path(p.Number()), p.Config().Metadata, loop.Path()} {
		require.True(t, held(name), name)
	}
	require.NoError(t, loop.Close())
	w.message(p, dm.ReserveMetadataSnapMessage)
	require.NoError(t, p.Close(t.Context()))
	for _, o := range []thinpool.ReadOptions{{}, {Held: true}} {
		require.NoError(t, thinpool.ReadFrom(t.Context(), p.Config().Metadata, o, func(v *metadata.View) error {
			require.Equal(t, o.Held, v.Held())
			_, err := v.Device(t.Context(), 5)
			return err
		}))
	}
	err = thinpool.ReadFrom(t.Context(), p.Config().PoolName(), thinpool.ReadOptions{}, nil)
	require.ErrorIs(t, err, os.ErrNotExist)
}

// TestReadFromAFile needs no device-mapper.
func TestReadFromAFile(t *testing.T) {
	path := t.TempDir() + "/metadata"
	require.ErrorIs(t, thinpool.ReadFrom(t.Context(), path, thinpool.ReadOptions{}, nil), os.ErrNotExist)
	require.ErrorIs(t, thinpool.ReadFrom(t.Context(), t.TempDir(), thinpool.ReadOptions{}, nil), thinpool.ErrInvalid)
	require.NoError(t, os.WriteFile(path, make([]byte, 1<<20), 0o600))
	require.ErrorIs(t, thinpool.ReadFrom(t.Context(), path, thinpool.ReadOptions{}, nil), thinpool.ErrNotFormatted)
	b, err := os.ReadFile("testdata/superblock-linux-6.1")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, b, 0o600))
	require.ErrorIs(t, thinpool.ReadFrom(t.Context(), path, thinpool.ReadOptions{}, nil), thinpool.ErrCorrupt, "cut off behind the superblock")
}
