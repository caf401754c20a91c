package snapshot

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestLockWithForkedChild: a child between its fork and its execve has a copy of every descriptor, for which
// a second descriptor of the same open file stands here. Whoever opens the store after Close has it at once.
func TestLockWithForkedChild(t *testing.T) {
	root := t.TempDir()
	held, err := lockRoot(t.Context(), root, 0, nil)
	require.NoError(t, err)
	childs, err := unix.FcntlInt(held.f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, unix.Close(childs)) })
	_, err = lockRoot(t.Context(), root, 0, nil)
	require.ErrorIs(t, err, ErrBusy)
	_, err = lockRoot(t.Context(), root, 30*time.Millisecond, nil)
	require.ErrorIs(t, err, ErrBusy)

	require.NoError(t, held.Close())
	again, err := lockRoot(t.Context(), root, 0, nil)
	require.NoError(t, err)
	require.NoError(t, again.Close())
}
