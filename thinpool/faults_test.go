package thinpool_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/ioctl"
	"blockstore.dev/blockstore/thinpool"
)

// A slice is a linear device over a loop device, whose table is swapped for one that fails.
type slice struct {
	w      *world
	name   string
	under  dm.Number
	length dm.Sectors
}

func (w *world) slice(name string, size int64) *slice {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	require.NoError(w.t, os.WriteFile(path, nil, 0o600))
	require.NoError(w.t, os.Truncate(path, size))
	l, err := ioctl.AttachLoop(w.t.Context(), path, ioctl.LoopOptions{})
	require.NoError(w.t, err)
	w.t.Cleanup(func() { require.NoError(w.t, l.Detach()) })
	under, err := dm.BlockDeviceNumber(l.Path())
	require.NoError(w.t, err)
	s := &slice{w: w, name: "bstest-slice-" + name, under: under, length: dm.SectorsOf(uint64(size))}
	_, err = w.dm.CreateLoaded(w.t.Context(), s.name, "", s.whole(), dm.LoadOptions{})
	require.NoError(w.t, err)
	w.t.Cleanup(func() {
		_, err := w.dm.Remove(contextOf(), dm.Name(s.name), dm.RemoveOptions{Wait: eventually})
		require.NoError(w.t, err)
	})
	return s
}

func (s *slice) path() string {
	info, err := s.w.dm.Info(s.w.t.Context(), dm.Name(s.name))
	require.NoError(s.w.t, err)
	return dm.Path(info.Dev)
}

func (s *slice) whole() dm.Table {
	return dm.NewTable(s.length, dm.Linear{Device: s.under})
}

// swap puts another table under whatever lies on the slice.
func (s *slice) swap(table dm.Table) {
	s.w.t.Helper()
	_, err := s.w.dm.Load(s.w.t.Context(), dm.Name(s.name), table, dm.LoadOptions{})
	require.NoError(s.w.t, err)
	_, err = s.w.dm.Resume(s.w.t.Context(), dm.Name(s.name))
	require.NoError(s.w.t, err)
}

// slicedPool is a pool on two slices, with thin device 1.
func (w *world) slicedPool() (*thinpool.Pool, *slice) {
	w.t.Helper()
	data, metadata := w.slice("data", 16<<20), w.slice("metadata", 4<<20)
	p := w.pool(func(o *thinpool.CreateOptions) {
		o.Loopback, o.DataSize, o.MetadataSize = false, 0, 0
		o.Data, o.Metadata = data.path(), metadata.path()
	})
	require.NoError(w.t, p.CreateThin(w.t.Context(), 1))
	return p, metadata
}

func ids(all []thinpool.DeviceDetails) []dm.DeviceID {
	found := []dm.DeviceID{}
	for _, d := range all {
		found = append(found, d.ID)
	}
	return found
}

// TestRolledBackMessageIsNotBelieved: the kernel answers a message with success whose commit failed.
func TestRolledBackMessageIsNotBelieved(t *testing.T) {
	w := newWorld(t)
	p, metadata := w.slicedPool()
	metadata.swap(dm.NewTable(metadata.length, dm.ErrorTarget{}))
	err := p.CreateSnapshot(t.Context(), 2, thinpool.SnapshotOptions{Origin: 1})
	require.ErrorIs(t, err, thinpool.ErrUnknownOutcome)
	require.ErrorIs(t, err, thinpool.ErrFailed)
	require.NotErrorIs(t, err, unix.EOPNOTSUPP, "the message itself succeeded")
	st, err := p.Status(t.Context())
	require.NoError(t, err)
	require.ErrorIs(t, st.Err(), thinpool.ErrFailed)
	err = p.CreateThin(t.Context(), 3)
	require.ErrorIs(t, err, thinpool.ErrFailed)
	require.NotErrorIs(t, err, thinpool.ErrUnknownOutcome, "a refusal is no doubt")
	require.ErrorIs(t, p.GrowData(t.Context(), 0), thinpool.ErrFailed)
	require.ErrorIs(t, p.SetTransactionID(t.Context(), 0, 1), thinpool.ErrFailed)

	metadata.swap(metadata.whole())
	require.NoError(t, p.Close(t.Context()))
	require.NoFileExists(t, p.Config().Tidy, "what the failed commit has left is not known")
	p, err = thinpool.Open(t.Context(), w.dm, p.Config())
	require.NoError(t, err)
	all, err := p.Devices(t.Context())
	require.NoError(t, err)
	require.Equal(t, []dm.DeviceID{1}, ids(all), "the snapshot was rolled back")
	require.NoError(t, p.CreateSnapshot(t.Context(), 2, thinpool.SnapshotOptions{Origin: 1}))
}

// TestFailedCommitNeedsCheck: the superblock can be written, the rest of the metadata cannot.
func TestFailedCommitNeedsCheck(t *testing.T) {
	w := newWorld(t)
	if _, err := w.dm.ProbeTarget(t.Context(), "flakey"); err != nil {
		t.Skipf("no dm-flakey in this kernel: %v", err)
	}
	p, metadata := w.slicedPool()
	table := dm.NewTable(8, dm.Linear{Device: metadata.under}).
		Append(metadata.length-8, dm.Flakey{Device: metadata.under, Offset: 8, Down: 600, ErrorWrites: true})
	metadata.swap(table)
	err := p.CreateSnapshot(t.Context(), 2, thinpool.SnapshotOptions{Origin: 1})
	require.ErrorIs(t, err, thinpool.ErrUnknownOutcome)
	require.ErrorIs(t, err, thinpool.ErrNeedsCheck)
	metadata.swap(metadata.whole())
	require.ErrorIs(t, p.CreateThin(t.Context(), 3), thinpool.ErrNeedsCheck, "a healthy disk does not heal it")
	require.NoError(t, p.Close(t.Context()))
	require.NoFileExists(t, p.Config().Tidy)

	sb, err := thinpool.ReadSuperblock(metadata.path())
	require.NoError(t, err)
	require.True(t, sb.NeedsCheck)
	p, err = thinpool.Open(t.Context(), w.dm, p.Config())
	require.NoError(t, err, "it opens, to be looked at")
	st, err := p.Status(t.Context())
	require.NoError(t, err)
	require.ErrorIs(t, st.Err(), thinpool.ErrNeedsCheck)
	require.ErrorContains(t, st.Err(), "thin_check", "and says how to mend it")
	require.ErrorIs(t, p.GrowData(t.Context(), 0), thinpool.ErrNeedsCheck, "the kernel would skip it and report success")
	all, err := p.Devices(t.Context())
	require.NoError(t, err, "reading is possible")
	require.Equal(t, []dm.DeviceID{1}, ids(all))
}

// When a commit fails, who asked for it is told. Another device whose new blocks were in it is told only if nothing is mapped at its
// beginning. The kernel forgets, before the commit can fail, that such a device has changed (dm-thin-metadata.c,
// __write_changed_details), and of an empty flush, as a file system's is, it then asks only whether the first block is there. So
// a file that was synced may be lost, which docs/reliability.md says.

func TestFlushAfterFailedCommit(t *testing.T) {
	require.Error(t, flushAfterFailedCommit(t, false))
}

// TestFlushAfterFailedCommitIsNotTold fails on a kernel that has mended it: then what docs/reliability.md says can go.
func TestFlushAfterFailedCommitIsNotTold(t *testing.T) {
	require.NoError(t, flushAfterFailedCommit(t, true))
}

// flushAfterFailedCommit is what a device's flush returns after another one's has failed, and the new block of both is gone.
func flushAfterFailedCommit(t *testing.T, begins bool) error {
	t.Helper()
	w := newWorld(t)
	if _, err := w.dm.ProbeTarget(t.Context(), "flakey"); err != nil {
		t.Skipf("no dm-flakey in this kernel: %v", err)
	}
	p, metadata := w.slicedPool()
	require.NoError(t, p.CreateThin(t.Context(), 2))
	require.NoError(t, p.CreateThin(t.Context(), 3))
	one, other := w.activate(p, 2), w.activate(p, 3)
	if begins {
		require.NoError(t, w.fill(other, 0, 1, 'x'))
	}
	metadata.swap(dm.NewTable(8, dm.Linear{Device: metadata.under}).
		Append(metadata.length-8, dm.Flakey{Device: metadata.under, Offset: 8, Down: 600, ErrorWrites: true}))
	block := bytes.Repeat([]byte{'x'}, 1<<16)
	_, err := other.WriteAt(block, 5<<16)
	require.NoError(t, err)
	_, err = one.WriteAt(block, 0)
	require.NoError(t, err)
	require.Error(t, one.Sync(), "the commit fails")
	err = other.Sync()
	require.Zero(t, w.first(other, 5), "its block is gone")
	w.closeAll()
	metadata.swap(metadata.whole())
	require.NoError(t, p.Deactivate(t.Context(), 2))
	require.NoError(t, p.Deactivate(t.Context(), 3))
	require.NoError(t, p.Close(t.Context()))
	return err
}

// TestOdometer: at 2^24 snapshots the kernel corrupts data in silence; we stop before.
func TestOdometer(t *testing.T) {
	w := newWorld(t)
	p := w.pool()
	require.NoError(t, p.CreateThin(t.Context(), 1))
	require.NoError(t, p.Close(t.Context()))
	setTime(t, p.Config().Metadata, thinpool.SnapshotLimit-2)
	p, err := thinpool.Open(t.Context(), w.dm, p.Config())
	require.NoError(t, err)
	require.NoError(t, p.CreateSnapshot(t.Context(), 2, thinpool.SnapshotOptions{Origin: 1}))
	st, err := p.Status(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, thinpool.SnapshotLimit-1, st.Snapshots)
	require.NoError(t, p.CreateSnapshot(t.Context(), 3, thinpool.SnapshotOptions{Origin: 1}))
	calls := w.called(func() {
		require.ErrorIs(t, p.CreateSnapshot(t.Context(), 4, thinpool.SnapshotOptions{Origin: 1}), thinpool.ErrWornOut)
	})
	require.Empty(t, calls, "the kernel is not even asked")
	st, err = p.Status(t.Context())
	require.NoError(t, err)
	require.ErrorIs(t, st.Err(), thinpool.ErrWornOut)
	require.NoError(t, p.Delete(t.Context(), 3))
	require.NoError(t, p.Close(t.Context()))
	p, err = thinpool.Open(t.Context(), w.dm, p.Config())
	require.NoError(t, err)
	require.ErrorIs(t, p.CreateSnapshot(t.Context(), 4, thinpool.SnapshotOptions{Origin: 1}), thinpool.ErrWornOut, "nor after opening again")
}

// setTime turns the superblock's count of snapshots.
func setTime(t *testing.T, path string, value uint32) {
	t.Helper()
	b := readBlock(t, path)
	binary.LittleEndian.PutUint32(b[44:], value)
	binary.LittleEndian.PutUint32(b, ^crc32.Checksum(b[4:], crc32.MakeTable(crc32.Castagnoli))^160774)
	writeBlock(t, path, b)
}

// TestFullMetadata: out of metadata is read-only, until it is grown.
func TestFullMetadata(t *testing.T) {
	w := newWorld(t)
	p := w.pool(func(o *thinpool.CreateOptions) { o.MetadataSize = 2 << 20 })
	require.NoError(t, p.CreateThin(t.Context(), 0))
	f := w.activate(p, 0)
	require.NoError(t, w.fill(f, 0, 400, 'm'))
	var err error
	made := dm.DeviceID(1)
	for ; err == nil && made < 2000; made++ {
		require.NoError(t, w.fill(f, int(made)%400, 1, 'n')) // breaks sharing, so that each snapshot has nodes of its own
		err = p.CreateSnapshot(t.Context(), made, thinpool.SnapshotOptions{Origin: 0})
	}
	t.Logf("after %d snapshots: %v", made, err)
	require.Error(t, err)
	require.True(t, errors.Is(err, thinpool.ErrReadOnly) || errors.Is(err, thinpool.ErrNoSpace), "%v", err)
	st, serr := p.Status(t.Context())
	require.NoError(t, serr)
	t.Logf("status: %s", st.ThinPoolStatus)
	require.False(t, st.NeedsCheck)
	require.NoError(t, p.GrowMetadata(t.Context(), 4<<20))
	st, err = p.Status(t.Context())
	require.NoError(t, err)
	require.NoError(t, st.Err(), "growing brings it back")
	require.NoError(t, p.CreateSnapshot(t.Context(), 5000, thinpool.SnapshotOptions{Origin: 0, Reclaim: true}))
	require.NoError(t, f.Close())
}

// TestQueueingPoolTimesOut: a pool that may queue turns to failing by itself, and growing turns it back.
func TestQueueingPoolTimesOut(t *testing.T) {
	w := newWorld(t)
	const parameter = "/sys/module/dm_thin_pool/parameters/no_space_timeout"
	before, err := os.ReadFile(parameter)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(parameter, []byte("1"), 0o644))
	t.Cleanup(func() { os.WriteFile(parameter, before, 0o644) })
	p := w.pool(func(o *thinpool.CreateOptions) { o.DataSize, o.QueueIfFull = 4<<20, true })
	require.NoError(t, p.CreateThin(t.Context(), 1))
	f := w.activate(p, 1)
	require.NoError(t, w.fill(f, 0, 64, 'q'))
	start := time.Now()
	require.ErrorIs(t, w.fill(f, 64, 1, 'q'), unix.ENOSPC)
	t.Logf("a write waited %v", time.Since(start))
	st, err := p.Status(t.Context())
	require.NoError(t, err)
	require.True(t, st.QueueTimedOut)
	require.NoError(t, p.GrowData(t.Context(), 8<<20))
	st, err = p.Status(t.Context())
	require.NoError(t, err)
	require.NoError(t, st.Err())
	require.Equal(t, dm.QueueIfNoSpace, st.Full)
	require.NoError(t, w.fill(f, 64, 1, 'q'))
	require.NoError(t, f.Close())
}

// TestHeldRootPinsSpace: a metadata snapshot that somebody left keeps deleted blocks; status shows it.
func TestHeldRootPinsSpace(t *testing.T) {
	w := newWorld(t)
	p := w.pool()
	require.NoError(t, p.CreateThin(t.Context(), 1))
	f := w.activate(p, 1)
	require.NoError(t, w.fill(f, 0, 100, 'h'))
	require.NoError(t, f.Close())
	require.NoError(t, p.Deactivate(t.Context(), 1))
	_, err := w.dm.Message(t.Context(), dm.UUID(p.Config().PoolUUID()), 0, dm.ReserveMetadataSnapMessage)
	require.NoError(t, err)
	require.NoError(t, p.Delete(t.Context(), 1))
	st, err := p.Commit(t.Context())
	require.NoError(t, err)
	require.NotZero(t, st.HeldRoot)
	require.EqualValues(t, 100, st.DataUsed, "deleted, and not free")
	require.NoError(t, p.ReleaseHeldRoot(t.Context()))
	require.NoError(t, p.ReleaseHeldRoot(t.Context()), "none is held: no error")
	st, err = p.Commit(t.Context())
	require.NoError(t, err)
	require.Zero(t, st.HeldRoot)
	require.Zero(t, st.DataUsed)
}

// TestFlushesAreCounted: what an operation costs the disks, by the kernel's own count of flushes.
func TestFlushesAreCounted(t *testing.T) {
	w := newWorld(t)
	p := w.pool()
	c := p.Config()
	flushes := func() (n uint64) {
		for _, path := range []string{c.Data, c.Metadata} {
			l, err := ioctl.FindLoop(path)
			require.NoError(t, err)
			b, err := os.ReadFile(fmt.Sprintf("/sys/block/loop%d/stat", l.Number()))
			require.NoError(t, err)
			require.NoError(t, l.Close())
			fields := strings.Fields(string(b))
			if len(fields) < 16 {
				t.Skip("this kernel does not count flushes")
			}
			var count uint64
			fmt.Sscan(fields[15], &count)
			n += count
		}
		return n
	}
	cost := func(f func() error) uint64 {
		before := flushes()
		require.NoError(t, f())
		return flushes() - before
	}
	require.NoError(t, p.CreateThin(t.Context(), 1))
	require.EqualValues(t, 3, cost(func() error {
		return p.CreateSnapshot(t.Context(), 2, thinpool.SnapshotOptions{Origin: 1, Quiet: true})
	}), "one commit")
	require.Zero(t, cost(func() error { _, err := p.Status(t.Context()); return err }))
	require.Zero(t, cost(func() error {
		_, err := p.Activate(t.Context(), 2, thinpool.ActivateOptions{Size: 1 << 20})
		return err
	}))
	require.Zero(t, cost(func() error { return p.Deactivate(t.Context(), 2) }))
	require.EqualValues(t, 3, cost(func() error { return p.Delete(t.Context(), 2) }))
	require.EqualValues(t, 3, cost(func() error { return p.SetTransactionID(t.Context(), 0, 1) }))
	require.EqualValues(t, 3, cost(func() error { _, err := p.Commit(t.Context()); return err }))
}

// TestManyAtOnce: no lock of ours serialises what the kernel can do side by side.
func TestManyAtOnce(t *testing.T) {
	w := newWorld(t)
	p := w.pool()
	require.NoError(t, p.CreateThin(t.Context(), 0))
	const n = 64
	errs := make(chan error, n)
	for i := range dm.DeviceID(n) {
		go func() {
			id := i + 1
			err := p.CreateSnapshot(t.Context(), id, thinpool.SnapshotOptions{Origin: 0, Quiet: true})
			if err == nil {
				_, err = p.Activate(t.Context(), id, thinpool.ActivateOptions{Size: 1 << 20})
			}
			if err == nil {
				err = p.Deactivate(t.Context(), id)
			}
			if err == nil && id%2 == 0 {
				err = p.Delete(t.Context(), id)
			}
			errs <- err
		}()
	}
	for range n {
		require.NoError(t, <-errs)
	}
	all, err := p.Devices(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 1+n/2)
}
