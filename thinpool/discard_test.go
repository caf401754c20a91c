package thinpool_test

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/ioctl"
	"blockstore.dev/blockstore/thinpool"
)

// discards counts the ranges that are discarded while f runs.
func discards(f func()) int {
	n := 0
	names := ioctl.Names()
	ioctl.Observe(func(request uintptr, _ error, _ time.Duration) {
		if names[request].Request == "BLKDISCARD" {
			n++
		}
	})
	defer ioctl.Observe(nil)
	f()
	return n
}

// TestDiscardSparesWhatIsShared: of a snapshot what is its own is discarded, in as many ranges; the rest of its tree, which it
// shares, is neither read nor changed.
func TestDiscardSparesWhatIsShared(t *testing.T) {
	w := newWorld(t)
	p := w.pool()
	require.NoError(t, p.CreateThin(t.Context(), 1))
	f := w.activate(p, 1)
	require.NoError(t, w.fill(f, 0, 500, 'l'))
	require.NoError(t, f.Close())
	require.NoError(t, p.Deactivate(t.Context(), 1))
	require.NoError(t, p.CreateSnapshot(t.Context(), 2, thinpool.SnapshotOptions{Origin: 1, Quiet: true}))
	f = w.activate(p, 2)
	for _, block := range []int{10, 12, 400} { // the first two are near each other
		require.NoError(t, w.fill(f, block, 1, 's'))
	}
	require.NoError(t, f.Close())
	require.NoError(t, p.Deactivate(t.Context(), 2))
	before, err := p.Commit(t.Context())
	require.NoError(t, err)
	held := w.allocated(p.Config().Data)

	require.Equal(t, 2, discards(func() { require.NoError(t, p.Discard(t.Context(), 2)) }))
	after, err := p.Commit(t.Context())
	require.NoError(t, err)
	require.Equal(t, before.DataUsed-3, after.DataUsed)
	require.LessOrEqual(t, after.MetadataUsed, before.MetadataUsed+1)
	require.LessOrEqual(t, w.allocated(p.Config().Data), held-3<<16)

	require.NoError(t, p.CreateSnapshot(t.Context(), 3, thinpool.SnapshotOptions{Origin: 1, Quiet: true}))
	_, err = p.Commit(t.Context())
	require.NoError(t, err)
	require.Zero(t, discards(func() { require.NoError(t, p.Discard(t.Context(), 3)) }), "it has nothing of its own")
	for _, id := range []int{2, 3} {
		require.NoError(t, p.Delete(t.Context(), dm.DeviceID(id)))
	}
	f = w.activate(p, 1)
	for block := range 500 {
		require.Equal(t, byte('l'), w.first(f, block))
	}
	require.NoError(t, f.Close())
}

// TestDiscardInSlices: what others write need not wait for more than a slice.
func TestDiscardInSlices(t *testing.T) {
	w := newWorld(t)
	p := w.pool(func(o *thinpool.CreateOptions) { o.DataSize = 256 << 20 })
	require.NoError(t, p.CreateThin(t.Context(), 1))
	const blocks = 2100
	d, err := p.Activate(t.Context(), 1, thinpool.ActivateOptions{Size: blocks << 16})
	require.NoError(t, err)
	f, err := os.OpenFile(d.Path, os.O_RDWR|unix.O_DIRECT, 0)
	require.NoError(t, err)
	for at := 0; at < blocks; at += 100 {
		require.NoError(t, w.fill(f, at, 100, 'x'))
	}
	require.NoError(t, f.Close())
	require.NoError(t, p.Deactivate(t.Context(), 1))
	before, err := p.Commit(t.Context())
	require.NoError(t, err)
	require.GreaterOrEqual(t, int(before.DataUsed), blocks)
	require.Equal(t, 5, discards(func() { require.NoError(t, p.Discard(t.Context(), 1)) }))
	after, err := p.Commit(t.Context())
	require.NoError(t, err)
	require.Equal(t, before.DataUsed-blocks, after.DataUsed)
	require.Less(t, w.allocated(p.Config().Data), int64(16<<20))
}
