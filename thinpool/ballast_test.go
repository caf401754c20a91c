package thinpool_test

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/thinpool"
)

// TestGrowthIsNotStuck: a growth that waits for what waits for space itself. What leads to it in the kernel is a matter of
// microseconds (see ballast); here a suspension that waits for a writer stands for it.
func TestGrowthIsNotStuck(t *testing.T) {
	w := newWorld(t)
	const ballast, blocks = 7, 256
	p := w.pool(func(o *thinpool.CreateOptions) { o.DataSize, o.Ballast = blocks<<16, ballast })
	require.NoError(t, p.CreateThin(t.Context(), 1))
	f := w.activate(p, 1)
	used := func() dm.ThinPoolStatus {
		st, err := p.Commit(t.Context())
		require.NoError(t, err)
		return st.ThinPoolStatus
	}
	require.NoError(t, p.Tune(t.Context(), thinpool.Tuning{QueueIfFull: true}))
	require.EqualValues(t, 1, used().DataUsed, "a block is kept back")
	require.NoError(t, w.fill(f, 0, blocks-1, 'f'))

	written := make(chan error, 1)
	go func() { written <- w.fill(f, blocks-1, 1, 'g') }()
	require.Eventually(t, func() bool { return used().Mode == dm.PoolOutOfDataSpace }, eventually, tick)
	thread, suspended := make(chan int, 1), make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		thread <- unix.Gettid()
		_, err := w.dm.Suspend(contextOf(), dm.UUID(p.Config().ThinUUID(1)), dm.SuspendOptions{SkipLockFS: true})
		suspended <- err
	}()
	stat := fmt.Sprintf("/proc/self/task/%d/syscall", <-thread)
	require.Eventually(t, func() bool {
		b, err := os.ReadFile(stat)
		return err == nil && strings.HasPrefix(string(b), fmt.Sprint(unix.SYS_IOCTL))
	}, eventually, tick, "it waits for the writer")
	calls := w.called(func() { require.NoError(t, p.GrowData(t.Context(), 2*blocks<<16)) })
	require.Contains(t, calls, "TARGET_MSG", "the block was freed")
	require.NoError(t, <-suspended)
	_, err := w.dm.Resume(t.Context(), dm.UUID(p.Config().ThinUUID(1)))
	require.NoError(t, err)
	require.NoError(t, <-written, "space was there for it")
	st := used()
	require.EqualValues(t, 2*blocks, st.DataTotal)
	require.EqualValues(t, blocks+1, st.DataUsed, "and a block is kept back again")
	require.NoError(t, p.Tune(t.Context(), thinpool.Tuning{}))
	require.EqualValues(t, blocks, used().DataUsed, "until nobody waits")
	all, err := p.Devices(t.Context())
	require.NoError(t, err)
	require.Equal(t, []dm.DeviceID{1}, ids(all))
	w.closeAll()
}

// TestBallast: it is taken over from a process that died, left to a pool that is nearly full, and goes with the pool.
func TestBallast(t *testing.T) {
	w := newWorld(t)
	const ballast = 7
	p := w.pool(func(o *thinpool.CreateOptions) { o.DataSize, o.Ballast = 16<<20, ballast })
	devices := func() []dm.DeviceID {
		all, err := p.Devices(t.Context())
		require.NoError(t, err)
		return ids(all)
	}
	require.NoError(t, p.Tune(t.Context(), thinpool.Tuning{QueueIfFull: true}))
	require.Equal(t, []dm.DeviceID{ballast}, devices())
	p, err := thinpool.Open(t.Context(), w.dm, p.Config()) // as after a process that died
	require.NoError(t, err)
	require.NoError(t, p.Tune(t.Context(), thinpool.Tuning{QueueIfFull: true}))
	require.NoError(t, p.Tune(t.Context(), thinpool.Tuning{}))
	require.Empty(t, devices())

	require.NoError(t, p.CreateThin(t.Context(), 1))
	require.NoError(t, w.fill(w.activate(p, 1), 0, 200, 'f'))
	require.NoError(t, p.Tune(t.Context(), thinpool.Tuning{QueueIfFull: true}))
	require.Equal(t, []dm.DeviceID{1}, devices(), "its writers might fill it meanwhile")
	require.NoError(t, p.GrowData(t.Context(), 32<<20))
	require.Equal(t, []dm.DeviceID{1, ballast}, devices(), "now it has room")
	w.closeAll()
	require.NoError(t, p.Deactivate(t.Context(), 1))
	require.NoError(t, p.Close(t.Context()))
	p, err = thinpool.Open(t.Context(), w.dm, p.Config())
	require.NoError(t, err)
	require.Equal(t, []dm.DeviceID{1}, devices())
}
