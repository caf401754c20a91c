package thinpool_test

import (
	"errors"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/thinpool"
	"blockstore.dev/blockstore/thinpool/monitor"
)

// TestAddData: a pool on devices goes on a further one while it is in use, and is there again with both.
func TestAddData(t *testing.T) {
	w := newWorld(t)
	more := w.slice("more", 16<<20+1<<16) // before the pool, so that it goes after it
	p, _ := w.slicedPool()
	f := w.activate(p, 1)
	require.NoError(t, w.fill(f, 0, 250, 'a'))
	require.Error(t, w.fill(f, 250, 10, 'b'), "256 blocks")

	refuse := thinpool.AddOptions{Path: more.path(), Keep: func(thinpool.Config) error { return errors.New("the catalog is full") }}
	require.ErrorContains(t, p.AddData(t.Context(), refuse), "the catalog is full")
	require.NoError(t, thinpool.CheckBlank(more.path()), "it is as it was")
	require.Empty(t, p.Config().Further)

	var kept thinpool.Config
	add := thinpool.AddOptions{Path: more.path(), Keep: func(c thinpool.Config) error { kept = c; return nil }}
	require.NoError(t, p.AddData(t.Context(), add))
	require.Equal(t, kept, p.Config())
	require.Equal(t, []thinpool.Further{{Path: more.path(), Start: 16 << 20 / 512}}, kept.Further)
	require.NoError(t, p.AddData(t.Context(), add), "again")
	require.Len(t, p.Config().Further, 1)
	st, err := p.Status(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 512, st.DataTotal)
	require.NoError(t, w.fill(f, 250, 200, 'b'))
	limit, err := monitor.Own{Pool: p}.Limit(t.Context(), monitor.Data)
	require.NoError(t, err)
	require.EqualValues(t, 32<<20, limit)
	w.closeAll()
	require.NoError(t, p.Deactivate(t.Context(), 1))
	require.NoError(t, p.Close(t.Context()))

	q, err := thinpool.Open(t.Context(), w.dm, kept)
	require.NoError(t, err)
	f = w.activate(q, 1)
	require.Equal(t, byte('a'), w.first(f, 249))
	require.Equal(t, byte('b'), w.first(f, 449))
	w.closeAll()
	require.NoError(t, q.Deactivate(t.Context(), 1))
	require.NoError(t, q.Close(t.Context()))

	// Another device in its place is not taken for it.
	block := readBlock(t, more.path())
	writeBlock(t, more.path(), make([]byte, 4096))
	_, err = thinpool.Open(t.Context(), w.dm, kept)
	require.ErrorIs(t, err, thinpool.ErrForeign)
	writeBlock(t, more.path(), block)
	q, err = thinpool.Open(t.Context(), w.dm, kept)
	require.NoError(t, err)
	require.NoError(t, q.Close(t.Context()))

	w.destroy(kept)
	require.Equal(t, make([]byte, 4096), readBlock(t, more.path()), "it is given back")
}

// TestAddDataRefuses what is in use, holds data, or cannot be joined to.
func TestAddDataRefuses(t *testing.T) {
	w := newWorld(t)
	full := w.slice("full", 4<<20)
	p, metadata := w.slicedPool()
	keep := func(thinpool.Config) error { return nil }
	require.ErrorIs(t, p.AddData(t.Context(), thinpool.AddOptions{Path: metadata.path(), Keep: keep}), thinpool.ErrBusy)
	f, err := os.OpenFile(full.path(), os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("somebody's"), 100)
	require.NoError(t, errors.Join(err, f.Sync(), f.Close()))
	require.ErrorIs(t, p.AddData(t.Context(), thinpool.AddOptions{Path: full.path(), Keep: keep}), thinpool.ErrNotBlank)
	require.Empty(t, p.Config().Further)
	require.NoError(t, p.AddData(t.Context(), thinpool.AddOptions{Path: full.path(), Force: true, Keep: keep}))
	st, err := p.Status(t.Context())
	require.NoError(t, err)
	require.Equal(t, dm.Blocks(256+63), st.DataTotal)

	l := w.pool(func(o *thinpool.CreateOptions) {
		o.Name += "-files"
		o.Data, o.Metadata = o.Data+"-file", o.Metadata+"-file"
	})
	require.ErrorIs(t, l.AddData(t.Context(), thinpool.AddOptions{Path: full.path(), Keep: keep}), thinpool.ErrInvalid)
}
