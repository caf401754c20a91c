package thin_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/thin"
	"blockstore.dev/blockstore/thinpool"
)

// TestExtendOnDevices joins a further device to a store on two, which the catalog knows from then on.
func TestExtendOnDevices(t *testing.T) {
	needLVM(t)
	data, metadata, more := newDisk(t, 256<<20), newDisk(t, 64<<20), newDisk(t, 128<<20)
	root := filepath.Join(t.TempDir(), "store")
	o := snapshot.StoreOptions{Root: root, Kinds: []snapshot.Kind{thin.Kind{}}}
	require.NoError(t, snapshot.Init(t.Context(), thin.Kind{}, snapshot.InitOptions{
		Root: root, BaseSize: 128 << 20, DataDevice: data, MetadataDevice: metadata,
	}, ""))
	total := func(s *snapshot.Store) int64 {
		st, err := s.Driver().Status(t.Context())
		require.NoError(t, err)
		return st.Data.Total
	}
	s, err := snapshot.Open(t.Context(), o)
	require.NoError(t, err)
	e := s.Driver().(snapshot.Extender)
	err = e.Extend(t.Context(), snapshot.ExtendOptions{Devices: []string{more}})
	require.ErrorIs(t, err, snapshot.ErrUnconfirmed)
	require.ErrorContains(t, err, more)
	require.ErrorIs(t, e.Extend(t.Context(), snapshot.ExtendOptions{Devices: []string{more}, Size: 1 << 30, Yes: true}), snapshot.ErrInvalid)
	require.EqualValues(t, 256<<20, total(s))
	_, err = s.Create(t.Context(), "kept", snapshot.CreateRequest{})
	require.NoError(t, err)
	require.NoError(t, e.Extend(t.Context(), snapshot.ExtendOptions{Devices: []string{more}, Yes: true}))
	require.EqualValues(t, 384<<20-64<<10, total(s), "but for the label")
	require.NoError(t, s.Close(t.Context()))

	s, err = snapshot.Open(t.Context(), o)
	require.NoError(t, err)
	require.EqualValues(t, 384<<20-64<<10, total(s))
	dir, err := s.Mount(t.Context(), "kept")
	require.NoError(t, err)
	fillFile(t, filepath.Join(dir, "f"), 80)
	require.NoError(t, s.Unmount(t.Context(), "kept"))
	require.NoError(t, s.Close(t.Context()))

	require.NoError(t, snapshot.Destroy(t.Context(), o))
	require.NoError(t, thinpool.Wipe(data)) // what was in it stays, as it always did
	require.NoError(t, thinpool.Wipe(metadata))
}
