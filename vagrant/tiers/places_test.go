package main

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestPlaces(t *testing.T) {
	t.Setenv("BSTEST_DIR", t.TempDir())
	p, err := makePlaces()
	require.NoError(t, err)
	for _, dir := range []string{p.disk, p.short} {
		info, err := os.Stat(dir)
		require.NoError(t, err)
		assert.Equal(t, os.FileMode(0o711), info.Mode().Perm(), "everybody comes through, and nobody sees what there is")
		var fs unix.Statfs_t
		require.NoError(t, unix.Statfs(dir, &fs))
		if fs.Type != unix.EXT4_SUPER_MAGIC {
			continue
		}
		f, err := os.Open(dir)
		require.NoError(t, err)
		flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
		require.NoError(t, err)
		assert.NotZero(t, flags&topDir)
		require.NoError(t, f.Close())
	}
}
