package gauge

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot/mount"
)

const gib = int64(1) << 30

func newDir(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts")
	}
	base := os.Getenv("BSTEST_DIR")
	if base == "" {
		base = "/var/tmp"
	}
	dir, err := os.MkdirTemp(base, "bstest-gauge-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return filepath.Join(dir, "gauge")
}

// TestShow: statfs says what was asked for, filling, emptying and with another total, and nothing of it lies on the disk.
func TestShow(t *testing.T) {
	dir := newDir(t)
	g := At(dir)
	t.Cleanup(func() { require.NoError(t, g.Close()) })
	for i, step := range []struct{ total, used int64 }{
		{20 * gib, 0},
		{20 * gib, gib},
		{20 * gib, 13*gib + 65536},
		{20 * gib, 20*gib - 65536},
		{20 * gib, 20 * gib},
		{20 * gib, 7 * gib},
		{50 * gib, 7 * gib},
		{50*gib + 4608, 49 * gib},
		{20 * gib, 30 * gib},
	} {
		require.NoError(t, g.Show(t.Context(), step.total, step.used))
		var fs unix.Statfs_t
		require.NoError(t, unix.Statfs(dir, &fs))
		require.EqualValues(t, unix.EXT4_SUPER_MAGIC, fs.Type)
		require.InDelta(t, step.total/block, int64(fs.Blocks), 64, "total in step %d; a last group that is too small is left out", i)
		require.InDelta(t, max(step.total-step.used, 0), int64(fs.Bavail)*block, float64(step.total)*0.002, "free in step %d", i)
		require.Greater(t, fs.Ffree*10, fs.Files*9, "inodes in step %d", i)
		require.NoError(t, errors.Join(g.ballast.Sync(), g.image.Sync()))
		var st unix.Stat_t
		require.NoError(t, unix.Fstat(int(g.image.Fd()), &st))
		require.Less(t, st.Blocks*512, int64(32<<20), "what lies on the disk in step %d", i)
	}
	require.NoError(t, g.Close())
	nothingLeft(t, dir)
}

// TestClear: what a dead process left is taken away, by name or by another gauge.
func TestClear(t *testing.T) {
	dir := newDir(t)
	dead := At(dir)
	require.NoError(t, dead.Show(t.Context(), gib, 0))
	require.NoError(t, errors.Join(dead.ballast.Close(), dead.image.Close()))
	require.NoError(t, Clear(dir))
	nothingLeft(t, dir)
	require.NoError(t, Clear(dir))
	require.NoError(t, Clear(filepath.Join(dir, "nothing")))
	g := At(dir)
	require.NoError(t, g.Close(), "of one that never showed anything")
	require.NoError(t, g.Show(t.Context(), gib, gib/2))
	require.NoError(t, g.Close())
	nothingLeft(t, dir)
}

// TestRefused: a total that no file system can have is an error, and leaves nothing.
func TestRefused(t *testing.T) {
	dir := newDir(t)
	g := At(dir)
	require.ErrorContains(t, g.Show(t.Context(), 4096, 0), "mkfs.ext4")
	require.Error(t, g.Show(t.Context(), 1<<62, 0))
	nothingLeft(t, dir)
}

func nothingLeft(t *testing.T, dir string) {
	t.Helper()
	below, err := mount.Below(dir)
	require.NoError(t, err)
	require.Empty(t, below)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
	// The kernel detaches at the device's last close, which is somebody else's where another test looks for devices just then.
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		loops, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
		require.NoError(c, err)
		for _, file := range loops {
			text, err := os.ReadFile(file)
			if err == nil {
				require.NotContains(c, string(text), filepath.Dir(dir))
			}
		}
	}, 10*time.Second, time.Millisecond)
}
