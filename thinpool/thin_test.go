package thinpool_test

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/ioctl"
	"blockstore.dev/blockstore/thinpool"
)

func TestThinLifeIsCounted(t *testing.T) {
	w := newWorld(t)
	p := w.pool()
	require.NoError(t, p.CreateThin(t.Context(), 1))
	calls := w.called(func() {
		require.NoError(t, p.CreateSnapshot(t.Context(), 2, thinpool.SnapshotOptions{Origin: 1, Quiet: true, Reclaim: true}))
	})
	require.Equal(t, []string{"TARGET_MSG", "TABLE_STATUS"}, calls)
	calls = w.called(func() {
		_, err := p.Activate(t.Context(), 2, thinpool.ActivateOptions{Size: 1 << 20})
		require.NoError(t, err)
	})
	require.Equal(t, []string{"DEV_CREATE", "TABLE_LOAD", "DEV_SUSPEND"}, calls)
	calls = w.called(func() { require.NoError(t, p.Deactivate(t.Context(), 2)) })
	require.Equal(t, []string{"DEV_REMOVE"}, calls)
	calls = w.called(func() { require.NoError(t, p.Delete(t.Context(), 2)) })
	require.Equal(t, []string{"TARGET_MSG", "TABLE_STATUS"}, calls)
}

func TestSnapshotsShareAndDiverge(t *testing.T) {
	w := newWorld(t)
	p := w.pool()
	require.NoError(t, p.CreateThin(t.Context(), 1))
	f := w.activate(p, 1)
	require.NoError(t, w.fill(f, 0, 16, 'o'))
	calls := w.called(func() {
		require.NoError(t, p.CreateSnapshot(t.Context(), 2, thinpool.SnapshotOptions{Origin: 1}))
	})
	require.Equal(t, []string{"DEV_STATUS", "DEV_SUSPEND", "TARGET_MSG", "TABLE_STATUS", "DEV_SUSPEND"}, calls, "an active origin is suspended")
	require.NoError(t, w.fill(f, 0, 1, 'n'))
	g := w.activate(p, 2)
	require.Equal(t, byte('o'), w.first(g, 0))
	require.Equal(t, byte('n'), w.first(f, 0))
	st, err := p.Commit(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 17, st.DataUsed)
	mapped, err := p.Mapped(t.Context(), 2)
	require.NoError(t, err)
	require.EqualValues(t, 16<<16, mapped)
	require.NoError(t, g.Close())
	require.NoError(t, p.Deactivate(t.Context(), 2))
	mapped, err = p.Mapped(t.Context(), 2)
	require.NoError(t, err)
	require.EqualValues(t, 16<<16, mapped, "an inactive device is measured too")
	require.NoError(t, f.Close())
}

// TestSnapshotsOfOneActiveDevice: each has the origin suspended for itself, from before its message until after it, and nobody who
// activates it meanwhile resumes it.
func TestSnapshotsOfOneActiveDevice(t *testing.T) {
	w := newWorld(t)
	p := w.pool()
	require.NoError(t, p.CreateThin(t.Context(), 1))
	require.NoError(t, w.fill(w.activate(p, 1), 0, 16, 'o'))
	const n = 8
	errs := make(chan error, 2*n)
	calls := w.called(func() {
		for i := range dm.DeviceID(n) {
			go func() { errs <- p.CreateSnapshot(t.Context(), 2+i, thinpool.SnapshotOptions{Origin: 1}) }()
			go func() {
				_, err := p.Activate(t.Context(), 1, thinpool.ActivateOptions{Size: 32 << 20, Made: true})
				errs <- err
			}()
		}
		for range 2 * n {
			require.NoError(t, <-errs)
		}
	})
	snapshot := []string{"DEV_STATUS", "DEV_SUSPEND", "TARGET_MSG", "TABLE_STATUS", "DEV_SUSPEND"}
	look := []string{"DEV_STATUS", "TABLE_STATUS"}
	snapshots := 0
	for len(calls) > 0 {
		next := look
		if len(calls) > 1 && calls[1] == "DEV_SUSPEND" {
			next = snapshot
			snapshots++
		}
		require.GreaterOrEqual(t, len(calls), len(next))
		require.Equal(t, next, calls[:len(next)], "one after the other")
		calls = calls[len(next):]
	}
	require.Equal(t, n, snapshots)
	info, err := w.dm.Info(t.Context(), dm.UUID(p.Config().ThinUUID(1)))
	require.NoError(t, err)
	require.False(t, info.Suspended)
}

func TestErrorsOfThinDevices(t *testing.T) {
	w := newWorld(t)
	p := w.pool()
	require.NoError(t, p.CreateThin(t.Context(), 1))
	require.ErrorIs(t, p.CreateThin(t.Context(), 1), thinpool.ErrExists)
	require.ErrorIs(t, p.CreateSnapshot(t.Context(), 2, thinpool.SnapshotOptions{Origin: 77}), thinpool.ErrNotFound)
	require.NoError(t, p.Delete(t.Context(), 77), "deleted already")
	require.NoError(t, p.Deactivate(t.Context(), 77))
	require.NoError(t, p.Discard(t.Context(), 77))
	_, err := p.Activate(t.Context(), 77, thinpool.ActivateOptions{Size: 1 << 20})
	require.ErrorIs(t, err, thinpool.ErrNotFound)
	_, err = p.Mapped(t.Context(), 77)
	require.ErrorIs(t, err, thinpool.ErrNotFound)
	_, err = p.Activate(t.Context(), 1, thinpool.ActivateOptions{Size: 1000})
	require.ErrorIs(t, err, thinpool.ErrInvalid)
	require.Error(t, p.CreateThin(t.Context(), dm.MaxDeviceID+1))
	w.activate(p, 1).Close()
	require.ErrorIs(t, p.Delete(t.Context(), 1), thinpool.ErrBusy)
}

// TestReplay: a crash between a snapshot and its record leaves a device of a number that the caller uses again.
func TestReplay(t *testing.T) {
	w := newWorld(t)
	p := w.pool()
	require.NoError(t, p.CreateThin(t.Context(), 1))
	require.NoError(t, p.CreateThin(t.Context(), 2))
	f := w.activate(p, 2)
	require.NoError(t, w.fill(f, 0, 1, 's'), "stale data")
	require.NoError(t, f.Close())
	require.ErrorIs(t, p.CreateSnapshot(t.Context(), 2, thinpool.SnapshotOptions{Origin: 1}), thinpool.ErrExists)
	require.NoError(t, p.CreateSnapshot(t.Context(), 2, thinpool.SnapshotOptions{Origin: 1, Reclaim: true}))
	f = w.activate(p, 2)
	require.Equal(t, byte(0), w.first(f, 0), "nothing stale")
	require.NoError(t, f.Close())
}

func TestActivation(t *testing.T) {
	w := newWorld(t)
	p := w.pool()
	require.NoError(t, p.CreateThin(t.Context(), 1))
	f := w.activate(p, 1)
	again, err := p.Activate(t.Context(), 1, thinpool.ActivateOptions{Size: 32 << 20})
	require.NoError(t, err, "twice is once")
	require.Equal(t, f.Name(), again.Path)
	_, err = p.Activate(t.Context(), 1, thinpool.ActivateOptions{Size: 48 << 20})
	require.NoError(t, err, "larger is grown")
	size, err := ioctl.BlockSize(f)
	require.NoError(t, err)
	require.EqualValues(t, 48<<20, size)

	_, err = p.Activate(t.Context(), 1, thinpool.ActivateOptions{Size: 48 << 20, ReadOnly: true})
	require.ErrorIs(t, err, thinpool.ErrBusy)
	err = p.Deactivate(t.Context(), 1)
	require.ErrorIs(t, err, thinpool.ErrBusy)
	require.ErrorContains(t, err, "thinpool.test", "the error names who holds it")
	again, err = p.Activate(t.Context(), 1, thinpool.ActivateOptions{Size: 48 << 20})
	require.NoError(t, err, "a removal that waits for the last close is taken back")
	require.NoError(t, f.Close())
	_, err = os.Stat(again.Path)
	require.NoError(t, err)
	active, err := p.Active(t.Context())
	require.NoError(t, err)
	require.Len(t, active, 1)
	require.False(t, active[0].Leaving)

	ro, err := p.Activate(t.Context(), 1, thinpool.ActivateOptions{Size: 48 << 20, ReadOnly: true})
	require.NoError(t, err, "made anew the other way, nobody uses it")
	g, err := os.OpenFile(ro.Path, os.O_RDWR, 0)
	if err == nil { // some kernels let it be opened, none lets it be written
		_, err = g.WriteAt(bytes.Repeat([]byte{1}, 1<<16), 0)
		err = errors.Join(err, g.Sync())
		g.Close()
	}
	require.Error(t, err)
	require.NoError(t, p.Deactivate(t.Context(), 1))
}

func TestDeferredRemovalGoesAtTheLastClose(t *testing.T) {
	w := newWorld(t)
	p := w.pool()
	require.NoError(t, p.CreateThin(t.Context(), 1))
	f := w.activate(p, 1)
	require.ErrorIs(t, p.Deactivate(t.Context(), 1), thinpool.ErrBusy)
	require.NoError(t, f.Close())
	require.Eventually(t, func() bool {
		active, err := p.Active(t.Context())
		return err == nil && len(active) == 0
	}, eventually, tick)
	// A device that is no longer listed may be on its way out of the pool still, where udev held it last.
	require.Eventually(t, func() bool { return p.Delete(t.Context(), 1) == nil }, eventually, tick)
}

func TestActivateLeavesForeignDevicesAlone(t *testing.T) {
	w := newWorld(t)
	p := w.pool()
	require.NoError(t, p.CreateThin(t.Context(), 1))
	name := p.Config().ThinName(1)
	_, err := w.dm.CreateLoaded(t.Context(), name, strings.Repeat("F", 20), dm.NewTable(8, dm.Zero{}), dm.LoadOptions{})
	require.NoError(t, err)
	_, err = p.Activate(t.Context(), 1, thinpool.ActivateOptions{Size: 1 << 20})
	require.ErrorIs(t, err, thinpool.ErrForeign)
	require.NoError(t, p.Deactivate(t.Context(), 1))
	_, err = w.dm.Remove(t.Context(), dm.Name(name), dm.RemoveOptions{})
	require.NoError(t, err, "it is still there")
}

// TestDiscardShrinksTheFile: deleting gives blocks back to the pool only, discarding before gives them to the host.
func TestDiscardShrinksTheFile(t *testing.T) {
	w := newWorld(t)
	p := w.pool()
	data := p.Config().Data
	require.NoError(t, p.CreateThin(t.Context(), 1))
	f := w.activate(p, 1)
	require.NoError(t, w.fill(f, 0, 32, 'l'))
	require.NoError(t, f.Close())
	require.NoError(t, p.Deactivate(t.Context(), 1))
	require.NoError(t, p.CreateSnapshot(t.Context(), 2, thinpool.SnapshotOptions{Origin: 1, Quiet: true}))
	f = w.activate(p, 2)
	require.NoError(t, w.fill(f, 32, 64, 'm'))
	require.NoError(t, f.Close())
	require.NoError(t, p.Deactivate(t.Context(), 2))
	before := w.allocated(data)
	require.GreaterOrEqual(t, before, int64(96<<16))

	require.NoError(t, p.Discard(t.Context(), 2))
	require.NoError(t, p.Delete(t.Context(), 2))
	after := w.allocated(data)
	require.LessOrEqual(t, after, before-64<<16, "the file gave up what only the snapshot had")
	f = w.activate(p, 1)
	for block := range 32 {
		require.Equal(t, byte('l'), w.first(f, block), "what it shared is untouched")
	}
	require.NoError(t, f.Close())
}

// TestNoOtherTenantsBytes: a block that held data of a deleted device reads as zeroes beyond what was written.
func TestNoOtherTenantsBytes(t *testing.T) {
	w := newWorld(t)
	p := w.pool(func(o *thinpool.CreateOptions) { o.DataSize = 4 << 20 })
	require.NoError(t, p.CreateThin(t.Context(), 1))
	f := w.activate(p, 1)
	require.NoError(t, w.fill(f, 0, 64, 's'))
	require.NoError(t, f.Close())
	require.NoError(t, p.Deactivate(t.Context(), 1))
	require.NoError(t, p.Delete(t.Context(), 1))
	require.NoError(t, p.CreateThin(t.Context(), 2))
	f = w.activate(p, 2)
	_, err := f.WriteAt(bytes.Repeat([]byte{0}, 1<<16)[:4096], 0)
	require.NoError(t, err)
	require.NoError(t, f.Sync())
	b := bytes.Repeat([]byte{1}, 1<<16)
	_, err = f.ReadAt(b, 0)
	require.NoError(t, err)
	require.Equal(t, make([]byte, 1<<16), b)
	require.NoError(t, f.Close())
}

const (
	eventually = 5 * time.Second
	tick       = time.Millisecond
)

func TestDevicesAreListedFromMetadata(t *testing.T) {
	w := newWorld(t)
	p := w.pool()
	all, err := p.Devices(t.Context())
	require.NoError(t, err)
	require.Empty(t, all)
	want := map[dm.DeviceID]bool{}
	for i := range dm.DeviceID(200) { // more than one leaf of the tree
		id := i * 7919 % 100003
		require.NoError(t, p.CreateThin(t.Context(), id))
		want[id] = true
	}
	f := w.activate(p, 0)
	require.NoError(t, w.fill(f, 0, 3, 'x'))
	all, err = p.Devices(t.Context())
	require.NoError(t, err)
	require.Len(t, all, len(want))
	for _, d := range all {
		require.True(t, want[d.ID])
	}
	require.EqualValues(t, 3, all[0].Mapped, "of an active device too")
	require.NoError(t, p.Delete(t.Context(), 7919))
	all, err = p.Devices(t.Context())
	require.NoError(t, err)
	require.Len(t, all, len(want)-1)
	require.NoError(t, f.Close())
}
