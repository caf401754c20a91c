package thin_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot"
)

// watching is a watch over a store's pool; it ends with the test, or by end.
type watching struct {
	t      *testing.T
	events chan snapshot.BackingEvent
	end    func()
}

func (s *store) watch(o snapshot.WatchOptions) *watching {
	s.t.Helper()
	w := &watching{t: s.t, events: make(chan snapshot.BackingEvent, 1000)}
	o.Tell = func(e snapshot.BackingEvent) { w.events <- e }
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.driver.(snapshot.Watcher).Watch(ctx, o) }()
	w.end = sync.OnceFunc(func() {
		cancel()
		require.NoError(s.t, <-ended)
	})
	s.t.Cleanup(w.end)
	return w
}

func (w *watching) await(kind string) snapshot.BackingEvent {
	w.t.Helper()
	limit := time.After(time.Minute)
	for {
		select {
		case e := <-w.events:
			w.t.Logf("%s %s: %s", e.Level, e.Kind, e.Text)
			if e.Kind == kind {
				return e
			}
		case <-limit:
			w.t.Fatalf("no event %s", kind)
		}
	}
}

// fillFile writes so many MiB, and waits for the disk.
func fillFile(t *testing.T, path string, mib int) {
	t.Helper()
	f, err := os.Create(path)
	require.NoError(t, err)
	defer f.Close()
	b := make([]byte, 1<<20)
	for i := range mib {
		b[0], b[len(b)-1] = byte(i), 1
		_, err := f.Write(b)
		require.NoError(t, err)
	}
	require.NoError(t, f.Sync())
}

func (s *store) whenFull() string {
	s.t.Helper()
	st, err := s.driver.Status(s.t.Context())
	require.NoError(s.t, err)
	for _, r := range st.Rows {
		if r.Label == "When Full" {
			return r.Value
		}
	}
	return ""
}

// TestWatchDirectLVM extends from the volume group, and has LVM switch what writers meet.
func TestWatchDirectLVM(t *testing.T) {
	needLVM(t)
	disk := newDisk(t, 640<<20)
	s := newStore(t, func(o *snapshot.InitOptions) {
		o.Loopback, o.Devices, o.Yes, o.BaseSize = 0, []string{disk}, true, 512<<20
	})
	before, err := s.driver.Status(t.Context())
	require.NoError(t, err)
	w := s.watch(snapshot.WatchOptions{ExtendAt: 15, ExtendBytes: 4 << 20, Interval: 100 * time.Millisecond})
	w.await("queueing")
	require.Equal(t, "queue_if_no_space", s.whenFull())
	a := s.create(16, s.base)
	s.with(a, false, func(dir string) { fillFile(t, filepath.Join(dir, "f"), 80) })
	w.await("extended")
	w.await("failing")
	w.end()
	require.Equal(t, "error_if_no_space", s.whenFull(), "the group is used up")
	after, err := s.driver.Status(t.Context())
	require.NoError(t, err)
	require.Greater(t, after.Data.Total, before.Data.Total)
}

// TestWatchSharedPool only tells: its owner extends it.
func TestWatchSharedPool(t *testing.T) {
	needLVM(t)
	f := newForeignPool(t, 1<<30)
	t.Run("Store", func(t *testing.T) {
		s := newStore(t, func(o *snapshot.InitOptions) { o.Loopback, o.ThinPool, o.BaseSize = 0, f.pool(), 128<<20 })
		was := s.whenFull()
		w := s.watch(snapshot.WatchOptions{ExtendAt: 1, WhenFull: snapshot.WhenFullFail, Interval: 100 * time.Millisecond})
		w.await("tune-failed")
		w.end()
		require.Equal(t, was, s.whenFull())
	})
	f.untouched()
}

// TestRepairOfStore damages the metadata of a store, and brings it back with all that it had.
func TestRepairOfStore(t *testing.T) {
	if _, err := exec.LookPath("thin_repair"); err != nil {
		t.Skip("no thin_repair: package thin-provisioning-tools is not installed")
	}
	s := newStore(t)
	a := s.create(16, s.base)
	s.with(a, false, func(dir string) { write(t, filepath.Join(dir, "f"), "kept") })
	require.NoError(t, s.driver.Close(t.Context()))
	s.driver = nil
	path := filepath.Join(s.open.Root, "driver", "metadata")
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("not a superblock any more"), 4)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	_, err = s.kind.Open(t.Context(), s.open)
	require.ErrorIs(t, err, snapshot.ErrCorrupt)

	_, err = s.kind.Repair(t.Context(), s.open, snapshot.RepairOptions{})
	require.ErrorIs(t, err, snapshot.ErrUnconfirmed)
	require.ErrorContains(t, err, path)
	r, err := s.kind.Repair(t.Context(), s.open, snapshot.RepairOptions{Yes: true, Epoch: 3})
	require.NoError(t, err)
	require.True(t, r.Rebuilt)
	require.Contains(t, r.Volumes, a.ID)
	require.FileExists(t, r.Kept)
	s.reopen()
	n, err := s.driver.(snapshot.Epoched).Epoch(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 3, n, "the catalog's, since its own was lost")
	s.with(a, true, func(dir string) { require.Equal(t, "kept", read(t, filepath.Join(dir, "f"))) })
	require.NoError(t, os.Remove(r.Kept))
}
