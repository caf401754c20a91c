package zfsds

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// world is a pool on a file, and a way to it.
type world struct {
	*Handle
	pool string
	dir  string // for mounts and files
}

func needZFS(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to make a pool")
	}
	if _, err := os.Stat(devicePath); err != nil {
		t.Skip("no ZFS in this kernel")
	}
	if _, err := exec.LookPath("zpool"); err != nil {
		t.Skip("no zpool (install zfsutils-linux)")
	}
}

// bothWays runs a test by ioctls and by commands, each on a pool of its own.
func bothWays(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	for _, way := range []Access{Ioctl, CLI} {
		t.Run(string(way), func(t *testing.T) { test(t, newWorld(t, way)) })
	}
}

func newWorld(t testing.TB, way Access) *world {
	t.Helper()
	needZFS(t)
	ctx := t.Context()
	h, err := Open(ctx, Options{Access: way})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, h.Close()) })
	dir := t.TempDir()
	w := &world{Handle: h, pool: fmt.Sprintf("bstest-%d-%s", os.Getpid(), way), dir: dir}
	file := filepath.Join(dir, "pool.img")
	require.NoError(t, h.CreatePool(ctx, PoolOptions{
		Name: w.pool, File: file, Size: 1 << 30,
		Properties: Properties{"mountpoint": "legacy", "atime": "off", "com.sun:auto-snapshot": "false"},
	}))
	t.Cleanup(func() {
		out, err := exec.Command("zpool", "destroy", w.pool).CombinedOutput()
		require.NoError(t, err, "%s", out)
	})
	return w
}

func (w *world) name(below string) string { return w.pool + "/" + below }

// create makes a file system below the pool's.
func (w *world) create(t testing.TB, below string) string {
	t.Helper()
	require.NoError(t, w.Create(t.Context(), w.name(below), nil))
	return w.name(below)
}

func (w *world) snap(t testing.TB, name string) string {
	t.Helper()
	require.NoError(t, w.Snapshot(t.Context(), nil, name))
	return name
}

// in mounts a dataset for fn.
func (w *world) in(t testing.TB, name string, readOnly bool, fn func(dir string)) {
	t.Helper()
	dir, err := os.MkdirTemp(w.dir, "mnt-")
	require.NoError(t, err)
	require.NoError(t, Mount(name, dir, readOnly))
	defer func() {
		require.NoError(t, unix.Unmount(dir, 0))
		require.NoError(t, os.Remove(dir))
	}()
	fn(dir)
}

// fill writes size bytes that no compression shrinks.
func fill(t testing.TB, path string, size int) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, noise(size), 0o600))
}

// noise is cheap to make, also for an emulated processor.
func noise(size int) []byte {
	source := rand.NewPCG(1, uint64(size))
	content := make([]byte, 0, size+8)
	for len(content) < size {
		content = binary.NativeEndian.AppendUint64(content, source.Uint64())
	}
	return content[:size]
}

func (w *world) names(t testing.TB, list func(func(Dataset, error) bool)) []string {
	t.Helper()
	names := []string{}
	for d, err := range list {
		require.NoError(t, err)
		names = append(names, d.Name)
	}
	return names
}
