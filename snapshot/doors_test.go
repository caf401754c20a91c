package snapshot_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/mount"
)

// TestDoorDir: what a door keeps outlives the process, is written to no disk, and goes with the store; and nothing is left
// mounted that nobody needs.
func TestDoorDir(t *testing.T) {
	f := newFixture(t)
	doors := func() []mount.Entry {
		below, err := mount.Below(filepath.Join(f.root, "doors"))
		require.NoError(t, err)
		return below
	}
	dir, err := f.s.DoorDir("door")
	require.NoError(t, err)
	var fs unix.Statfs_t
	require.NoError(t, unix.Statfs(dir, &fs))
	require.EqualValues(t, unix.TMPFS_MAGIC, fs.Type)
	st, err := os.Stat(dir)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), st.Mode().Perm())
	f.reopen()
	require.Empty(t, doors(), "nothing was in it")

	for range 2 {
		again, err := f.s.DoorDir("door")
		require.NoError(t, err)
		require.Equal(t, dir, again)
		require.Len(t, doors(), 1)
	}
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "a/b"), 0o755))
	f.reopen()
	require.DirExists(t, filepath.Join(dir, "a/b"))

	require.NoError(t, f.s.Close(ctx))
	require.NoError(t, snapshot.Destroy(ctx, f.options()))
	require.NoDirExists(t, f.root)
	require.Empty(t, doors())
	require.NoError(t, snapshot.Init(ctx, f.kind, snapshot.InitOptions{Root: f.root}, ""))
	f.open()
}

// TestMountPoints: a mount point is in memory, and whom the store lets through to its mounts comes through there.
func TestMountPoints(t *testing.T) {
	const group = 4711
	f := newFixture(t)
	_, err := f.s.Create(ctx, "c", snapshot.CreateRequest{})
	require.NoError(t, err)
	require.NoError(t, f.s.AllowGroup(group))
	shown := func() (os.FileMode, int) {
		dir, err := f.s.Mount(ctx, "c")
		require.NoError(t, err)
		var st unix.Stat_t
		require.NoError(t, unix.Stat(filepath.Dir(dir), &st))
		var fs unix.Statfs_t
		require.NoError(t, unix.Statfs(filepath.Dir(dir), &fs))
		require.EqualValues(t, unix.TMPFS_MAGIC, fs.Type)
		return os.FileMode(st.Mode & 0o777), int(st.Gid)
	}
	mode, gid := shown()
	require.Equal(t, os.FileMode(0o710), mode)
	require.Equal(t, group, gid)

	require.NoError(t, f.s.AllowGroup(0)) // while something is shown, and for the next process
	for range 2 {
		mode, gid = shown()
		require.Equal(t, os.FileMode(0o700), mode)
		require.Zero(t, gid)
		require.NoError(t, f.s.Unmount(ctx, "c"))
		f.reopen()
	}
}
