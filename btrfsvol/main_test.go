package btrfsvol

import (
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/ioctl"
)

// nodeSize is not mkfs' own choice, so that it is seen to be kept.
const nodeSize Bytes = 8 << 10

// newFS makes a btrfs file system on a sparse file, mounts it and opens it. All of
// it is gone after the test.
func newFS(t *testing.T) *FS {
	t.Helper()
	return formatted(t, FormatOptions{SingleMetadata: true, Label: "bstest", NodeSize: nodeSize})
}

func formatted(t testing.TB, o FormatOptions) *FS {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a file system")
	}
	if known, err := os.ReadFile("/proc/filesystems"); err != nil || !strings.Contains(string(known), "\tbtrfs\n") {
		t.Skip("no btrfs in this kernel")
	}
	if _, err := exec.LookPath("mkfs.btrfs"); err != nil {
		t.Skip("no mkfs.btrfs (install btrfs-progs)")
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "bstest.img")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.NoError(t, os.Truncate(file, 1<<30))
	require.NoError(t, Format(t.Context(), file, o))
	loop, err := ioctl.AttachLoop(t.Context(), file, ioctl.LoopOptions{AutoClear: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, loop.Close()) })
	root := filepath.Join(dir, "mnt")
	require.NoError(t, os.Mkdir(root, 0o700))
	require.NoError(t, unix.Mount(loop.Path(), root, "btrfs", unix.MS_NOATIME, ""))
	t.Cleanup(func() { require.NoError(t, unix.Unmount(root, 0)) })
	fs, err := Open(root)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, fs.Close()) })
	return fs
}

// fill writes size bytes that no compression shrinks.
func fill(t *testing.T, fs *FS, path string, size int) {
	t.Helper()
	content := make([]byte, size)
	_, _ = rand.Read(content)
	require.NoError(t, os.WriteFile(filepath.Join(fs.Dir(), path), content, 0o600))
}

func create(t *testing.T, fs *FS, path string) SubvolumeID {
	t.Helper()
	require.NoError(t, fs.Create(path, CreateOptions{}))
	return idOf(t, fs, path)
}

func snapshot(t *testing.T, fs *FS, source, path string) Subvolume {
	t.Helper()
	require.NoError(t, fs.Snapshot(source, path, CreateOptions{}))
	s, err := fs.Stat(path)
	require.NoError(t, err)
	return s
}

func idOf(t *testing.T, fs *FS, path string) SubvolumeID {
	t.Helper()
	id, isRoot, err := fs.Lookup(path)
	require.NoError(t, err)
	require.True(t, isRoot, "%s is a subvolume's root", path)
	return id
}
