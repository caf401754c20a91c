package thinpool

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestLeaveWithForkedChild: leave gives the lock back though a child that was forked meanwhile, for which a second
// descriptor of the same open file stands here, has it open still.
func TestLeaveWithForkedChild(t *testing.T) {
	path := filepath.Join(t.TempDir(), "device")
	pool := func() *Pool {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		require.NoError(t, err)
		p := &Pool{config: Config{Share: &Share{PoolName: "vg-pool"}}, held: []*os.File{f}}
		t.Cleanup(p.leave)
		return p
	}
	first, second := pool(), pool()
	require.NoError(t, first.lock())
	childs, err := unix.FcntlInt(first.held[0].Fd(), unix.F_DUPFD_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, unix.Close(childs)) })
	require.ErrorIs(t, second.lock(), ErrBusy)

	first.leave()
	require.NoError(t, second.lock())
}
