package durable

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestDir(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, Dir(dir))
	require.ErrorIs(t, Dir(filepath.Join(dir, "gone")), os.ErrNotExist)
	require.ErrorIs(t, Dir("/proc/self"), unix.EINVAL, "it has no fsync, and was asked for one")
}
