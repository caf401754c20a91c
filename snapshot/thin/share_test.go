package thin_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/drivertest"
	"blockstore.dev/blockstore/thinpool"
)

// TestConformanceThinPool is the suite in a thin pool of LVM's with a thin volume of somebody else's, which must be as
// before when it has ended.
func TestConformanceThinPool(t *testing.T) {
	drivertest.Column(t, "thin-pool")
	needLVM(t)
	f := newForeignPool(t, 6<<30)
	suite := factory("ext4")
	suite.Unsupported = onDisks()
	suite.Prepare = func(_ testing.TB, o *snapshot.InitOptions) { o.FileSystem, o.ThinPool = "ext4", f.pool() }
	drivertest.Run(t, suite)
	f.untouched()
	f.theirsOnly()
}

// crashPool is in the environment of the children of TestCrashThinPool: the pool that the store is in.
const crashPool = "BLOCKSTORE_TEST_POOL"

// TestCrashThinPool kills at each step of each operation in a pool that is nobody's but its maker's.
func TestCrashThinPool(t *testing.T) {
	f := factory("ext4")
	f.Unsupported = onDisks()
	f.Only = []string{"Load", "Create", "Commit", "Remove"} // what differs from a pool of our own is in these
	f.Prepare = func(_ testing.TB, o *snapshot.InitOptions) { o.FileSystem, o.ThinPool = "ext4", os.Getenv(crashPool) }
	f.Leaks = func(root, storeID string, destroyed bool) ([]string, error) {
		left, err := leaks(root, storeID, destroyed) // of no store in particular: all, their pool too
		return slices.DeleteFunc(left, func(name string) bool { return name == os.Getenv(crashPool) }), err
	}
	if os.Getenv(crashPool) == "" {
		needLVM(t)
		pool := theirPool(t)
		t.Setenv(crashPool, pool.Config().PoolName())
		t.Cleanup(func() {
			all, err := pool.Devices(context.WithoutCancel(t.Context()))
			require.NoError(t, err)
			require.Len(t, all, 1, "theirs alone is left")
			require.Equal(t, "theirs", theirText(t, pool))
		})
	}
	drivertest.RunCrash(t, f)
}

// theirPool is a pool that LVM does not know, with a thin device in it.
func theirPool(t *testing.T) *thinpool.Pool {
	t.Helper()
	client, err := dm.Open(dm.Options{})
	require.NoError(t, err)
	dir := t.TempDir()
	pool, err := thinpool.Create(t.Context(), client, thinpool.CreateOptions{
		Config: thinpool.Config{
			Name: "bstest-" + uuid.NewString()[:8], Loopback: true, Data: filepath.Join(dir, "data"), Metadata: filepath.Join(dir, "metadata"),
		},
		DataSize: 2 << 30,
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, thinpool.Destroy(context.WithoutCancel(t.Context()), client, pool.Config()))
		require.NoError(t, client.Close())
	})
	require.NoError(t, pool.CreateThin(t.Context(), 1))
	withTheirs(t, pool, func(f *os.File) {
		_, err := f.WriteAt([]byte("theirs"), 0)
		require.NoError(t, err)
		require.NoError(t, f.Sync())
	})
	return pool
}

func withTheirs(t *testing.T, pool *thinpool.Pool, use func(f *os.File)) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	d, err := pool.Activate(ctx, 1, thinpool.ActivateOptions{Size: 1 << 20})
	require.NoError(t, err)
	f, err := os.OpenFile(d.Path, os.O_RDWR|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	use(f)
	require.NoError(t, f.Close())
	require.NoError(t, pool.Deactivate(ctx, 1))
}

func theirText(t *testing.T, pool *thinpool.Pool) string {
	t.Helper()
	b := make([]byte, len("theirs"))
	withTheirs(t, pool, func(f *os.File) {
		_, err := f.ReadAt(b, 0)
		require.NoError(t, err)
	})
	return string(b)
}
