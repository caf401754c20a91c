package thinpool_test

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/thinpool"
)

// BenchmarkLife is the life of one snapshot, without file system: made, activated, deactivated, deleted; and what
// discarding before the deletion adds, which depends on how much the snapshot maps.
func BenchmarkLife(b *testing.B) {
	for _, blocks := range []int{16, 4096} {
		for _, discard := range []bool{false, true} {
			b.Run(fmt.Sprintf("blocks=%d/discard=%t", blocks, discard), func(b *testing.B) {
				p := benchPool(b, blocks)
				id := dm.DeviceID(16)
				for b.Loop() {
					require.NoError(b, p.CreateSnapshot(b.Context(), id, thinpool.SnapshotOptions{Origin: 1, Quiet: true}))
					_, err := p.Activate(b.Context(), id, thinpool.ActivateOptions{Size: 1 << 30})
					require.NoError(b, err)
					require.NoError(b, p.Deactivate(b.Context(), id))
					if discard {
						require.NoError(b, p.Discard(b.Context(), id))
					}
					require.NoError(b, p.Delete(b.Context(), id))
				}
			})
		}
	}
}

// BenchmarkDiscard gives back what a snapshot has alone, a block in a tree of so many that it shares.
func BenchmarkDiscard(b *testing.B) {
	for _, blocks := range []int{16, 1024, 8192} {
		b.Run(fmt.Sprintf("shared=%d", blocks), func(b *testing.B) {
			p := benchPool(b, blocks)
			id := dm.DeviceID(16)
			for b.Loop() {
				b.StopTimer()
				require.NoError(b, p.CreateSnapshot(b.Context(), id, thinpool.SnapshotOptions{Origin: 1, Quiet: true}))
				d, err := p.Activate(b.Context(), id, thinpool.ActivateOptions{Size: 1 << 30})
				require.NoError(b, err)
				f, err := os.OpenFile(d.Path, os.O_RDWR, 0)
				require.NoError(b, err)
				_, err = f.WriteAt(make([]byte, 1<<16), 0)
				require.NoError(b, errors.Join(err, f.Sync(), f.Close(), p.Deactivate(b.Context(), id)))
				b.StartTimer()
				require.NoError(b, p.Discard(b.Context(), id))
				b.StopTimer()
				require.NoError(b, p.Delete(b.Context(), id))
				b.StartTimer()
			}
		})
	}
}

// benchPool has a thin device 1 that maps a number of blocks.
func benchPool(b *testing.B, blocks int) *thinpool.Pool {
	b.Helper()
	client, err := dm.Open(dm.Options{})
	if err != nil {
		b.Skipf("no device-mapper in this kernel: %v", err)
	}
	dir := b.TempDir()
	p, err := thinpool.Create(b.Context(), client, thinpool.CreateOptions{
		Config:   thinpool.Config{Name: "bstest-bench", Loopback: true, Data: dir + "/data", Metadata: dir + "/metadata"},
		DataSize: 1 << 30,
	})
	require.NoError(b, err)
	b.Cleanup(func() {
		require.NoError(b, thinpool.Destroy(contextOf(), client, p.Config()))
		require.NoError(b, client.Close())
	})
	require.NoError(b, p.CreateThin(b.Context(), 1))
	d, err := p.Activate(b.Context(), 1, thinpool.ActivateOptions{Size: 1 << 30})
	require.NoError(b, err)
	fd, err := unix.Open(d.Path, unix.O_WRONLY, 0)
	require.NoError(b, err)
	block := make([]byte, 1<<20)
	for i := range block {
		block[i] = 'b'
	}
	for at := 0; at < blocks<<16; at += len(block) {
		_, err := unix.Pwrite(fd, block, int64(at))
		require.NoError(b, err)
	}
	require.NoError(b, unix.Fsync(fd))
	require.NoError(b, unix.Close(fd))
	require.NoError(b, p.Deactivate(b.Context(), 1))
	return p
}
