package thinpool_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/ioctl"
	"blockstore.dev/blockstore/thinpool"
)

func TestWipe(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("loop devices need root")
	}
	const size = 4 << 20
	path := filepath.Join(t.TempDir(), "disk")
	text := []byte("in the middle")
	b := make([]byte, size)
	for i := range b {
		b[i] = 0xff
	}
	copy(b[size/2:], text)
	require.NoError(t, os.WriteFile(path, b, 0o600))
	l, err := ioctl.AttachLoop(t.Context(), path, ioctl.LoopOptions{AutoClear: true})
	require.NoError(t, err)
	defer l.Close()
	require.ErrorIs(t, thinpool.CheckBlank(l.Path()), thinpool.ErrNotBlank)

	used, err := os.OpenFile(l.Path(), os.O_RDONLY|unix.O_EXCL, 0)
	require.NoError(t, err)
	require.ErrorIs(t, thinpool.Wipe(l.Path()), thinpool.ErrBusy)
	require.NoError(t, used.Close())
	require.ErrorIs(t, thinpool.CheckBlank(l.Path()), thinpool.ErrNotBlank, "one that is in use stays as it is")

	require.NoError(t, thinpool.Wipe(l.Path()))
	require.NoError(t, thinpool.CheckBlank(l.Path()))
	b, err = os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, text, b[size/2:size/2+len(text)], "the ends only")
}
