package thinpool_test

import (
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/thinpool"
)

func needTools(t *testing.T) {
	t.Helper()
	for _, name := range []string{"thin_check", "thin_repair"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("no %s: package thin-provisioning-tools is not installed", name)
		}
	}
}

// Places in the superblock where the blocks of trees are named.
const (
	dataSpaceMap = 64 + 16
	mappingTree  = 320
)

// damage spoils a metadata block that the superblock names, or the superblock itself for 0.
func damage(t *testing.T, path string, at int) {
	t.Helper()
	block := uint64(0)
	if at != 0 {
		block = binary.LittleEndian.Uint64(readBlock(t, path)[at:])
		require.NotZero(t, block)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("this was written by somebody who thought that the disk was his"), int64(block)*4096+4)
	require.NoError(t, errors.Join(err, f.Sync(), f.Close()))
}

// repairOf repairs a pool and checks it with thin_check.
func (w *world) repair(c thinpool.Config) thinpool.Repaired {
	w.t.Helper()
	found, err := thinpool.Repair(w.t.Context(), w.dm, c, thinpool.RepairOptions{
		Dir: w.dir, TransactionID: 7, Say: func(step string) { w.t.Log(step) },
	})
	require.NoError(w.t, err)
	require.NoError(w.t, found.Status.Err())
	out, err := exec.Command("thin_check", c.Metadata).CombinedOutput()
	require.NoError(w.t, err, "%s", out)
	return found
}

// used is a pool that was used: thin device 1 with 20 blocks, and its snapshot 2 with ten others. It is down.
func (w *world) used(p *thinpool.Pool) {
	w.t.Helper()
	ctx := w.t.Context()
	if err := p.CreateThin(ctx, 1); !errors.Is(err, thinpool.ErrExists) {
		require.NoError(w.t, err)
	}
	require.NoError(w.t, w.fill(w.activate(p, 1), 0, 20, 'a'))
	require.NoError(w.t, p.CreateSnapshot(ctx, 2, thinpool.SnapshotOptions{Origin: 1}))
	require.NoError(w.t, w.fill(w.activate(p, 2), 10, 10, 'b'))
	require.NoError(w.t, p.SetTransactionID(ctx, 0, 7))
	w.closeAll()
	for id := range dm.DeviceID(3) {
		require.NoError(w.t, p.Deactivate(ctx, id))
	}
	require.NoError(w.t, p.Close(ctx))
}

// whole opens the pool and reads back what used wrote.
func (w *world) whole(c thinpool.Config) {
	w.t.Helper()
	p, err := thinpool.Open(w.t.Context(), w.dm, c)
	require.NoError(w.t, err)
	st, err := p.Status(w.t.Context())
	require.NoError(w.t, err)
	require.NoError(w.t, st.Err())
	require.EqualValues(w.t, 7, st.TransactionID)
	require.EqualValues(w.t, 30, st.DataUsed)
	one, two := w.activate(p, 1), w.activate(p, 2)
	for i := range 20 {
		require.Equal(w.t, byte('a'), w.first(one, i))
		require.Equal(w.t, map[bool]byte{true: 'b', false: 'a'}[i >= 10], w.first(two, i))
	}
	require.NoError(w.t, w.fill(two, 20, 10, 'c'), "it takes writes")
	require.NoError(w.t, p.CreateSnapshot(w.t.Context(), 3, thinpool.SnapshotOptions{Origin: 2, Reclaim: true}))
	w.closeAll()
	for id := range dm.DeviceID(3) {
		require.NoError(w.t, p.Deactivate(w.t.Context(), id))
	}
}

// TestRepairTakesTheMarkOff: a commit failed, and the metadata are those of the commit before it, whole.
func TestRepairTakesTheMarkOff(t *testing.T) {
	w := newWorld(t)
	needTools(t)
	if _, err := w.dm.ProbeTarget(t.Context(), "flakey"); err != nil {
		t.Skipf("no dm-flakey in this kernel: %v", err)
	}
	p, metadata := w.slicedPool()
	w.used(p)
	p, err := thinpool.Open(t.Context(), w.dm, p.Config())
	require.NoError(t, err)
	metadata.swap(dm.NewTable(8, dm.Linear{Device: metadata.under}).
		Append(metadata.length-8, dm.Flakey{Device: metadata.under, Offset: 8, Down: 600, ErrorWrites: true}))
	require.ErrorIs(t, p.CreateSnapshot(t.Context(), 9, thinpool.SnapshotOptions{Origin: 1}), thinpool.ErrNeedsCheck)
	metadata.swap(metadata.whole())

	f := w.activate(p, 1)
	before := readBlock(t, metadata.path())
	_, err = thinpool.Repair(t.Context(), w.dm, p.Config(), thinpool.RepairOptions{Dir: w.dir})
	require.ErrorIs(t, err, thinpool.ErrBusy, "somebody uses it")
	require.Equal(t, before, readBlock(t, metadata.path()))
	require.NoError(t, f.Close())

	found := w.repair(p.Config())
	require.False(t, found.Rebuilt)
	require.Empty(t, found.Damage)
	require.Equal(t, []dm.DeviceID{1, 2}, found.After)
	w.whole(p.Config())
	_, err = os.Stat(filepath.Join(w.dir, "metadata.repaired"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

// TestRepairRebuilds: the kernel meets a damaged space map in a live pool, which then needs a check.
func TestRepairRebuilds(t *testing.T) {
	w := newWorld(t)
	needTools(t)
	p := w.pool()
	c := p.Config()
	w.used(p)
	damage(t, c.Metadata, dataSpaceMap)
	damaged, err := os.ReadFile(c.Metadata)
	require.NoError(t, err)
	p, err = thinpool.Open(t.Context(), w.dm, c)
	if err == nil {
		f := w.activate(p, 1)
		require.Error(t, w.fill(f, 30, 10, 'x'))
		w.closeAll()
		st, serr := p.Status(t.Context())
		require.NoError(t, serr)
		t.Logf("status: %s", st.ThinPoolStatus)
		require.Error(t, st.Err())
	} else {
		t.Logf("it does not even open: %v", err)
	}
	found := w.repair(c)
	require.True(t, found.Rebuilt)
	require.NotEmpty(t, found.Damage)
	require.Equal(t, []dm.DeviceID{1, 2}, found.After)
	kept, err := os.ReadFile(found.Kept)
	require.NoError(t, err)
	require.Equal(t, damaged[4096:], kept[4096:], "but for the kernel's mark in the superblock")
	w.whole(c)
	require.NoError(t, os.Remove(found.Kept))

	// A whole pool is left as it is.
	p, err = thinpool.Open(t.Context(), w.dm, c)
	require.NoError(t, err)
	require.NoError(t, p.Close(t.Context()))
	found = w.repair(c)
	require.False(t, found.Rebuilt)
	require.Equal(t, []dm.DeviceID{1, 2, 3}, found.After)
}

// TestRepairLostSuperblock: what the superblock said is known otherwise.
func TestRepairLostSuperblock(t *testing.T) {
	w := newWorld(t)
	needTools(t)
	p := w.pool()
	c := p.Config()
	w.used(p)
	damage(t, c.Metadata, 0)
	_, err := thinpool.Open(t.Context(), w.dm, c)
	require.ErrorIs(t, err, thinpool.ErrCorrupt)
	found := w.repair(c)
	require.True(t, found.Rebuilt)
	require.False(t, found.Known)
	require.Equal(t, []dm.DeviceID{1, 2}, found.After)
	w.whole(c)
}

// TestRepairOnDevices: new metadata are copied onto the device, the old ones are kept in a file, and a copy that was cut
// short is finished.
func TestRepairOnDevices(t *testing.T) {
	w := newWorld(t)
	needTools(t)
	p, metadata := w.slicedPool()
	c := p.Config()
	w.used(p)
	damage(t, metadata.path(), mappingTree)
	found := w.repair(c)
	require.True(t, found.Rebuilt)
	require.FileExists(t, found.Kept)
	t.Logf("before %v (%v), after %v", found.Before, found.Known, found.After)

	good, err := os.ReadFile(metadata.path())
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(w.dir, "metadata.repaired"), good, 0o600))
	f, err := os.OpenFile(metadata.path(), os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt(make([]byte, 100<<12), 0)
	require.NoError(t, errors.Join(err, f.Sync(), f.Close()))
	again := w.repair(c)
	require.True(t, again.Rebuilt)
	require.Equal(t, found.After, again.After)
	require.NoFileExists(t, filepath.Join(w.dir, "metadata.repaired"))
}

// TestRepairRefuses: what it cannot repair is as it was.
func TestRepairRefuses(t *testing.T) {
	w := newWorld(t)
	needTools(t)
	p := w.pool()
	c := p.Config()
	require.NoError(t, p.Close(t.Context()))
	other := c
	other.Identity = uuid.New()
	_, err := thinpool.Repair(t.Context(), w.dm, other, thinpool.RepairOptions{})
	require.ErrorIs(t, err, thinpool.ErrForeign)

	good, err := os.ReadFile(c.Metadata)
	require.NoError(t, err)
	bad := make([]byte, len(good))
	copy(bad, "there is no pool in here at all")
	require.NoError(t, os.WriteFile(c.Metadata, bad, 0o600))
	_, err = thinpool.Repair(t.Context(), w.dm, c, thinpool.RepairOptions{})
	require.ErrorIs(t, err, thinpool.ErrNotRepaired)
	now, err := os.ReadFile(c.Metadata)
	require.NoError(t, err)
	require.Equal(t, bad, now)
	require.NoFileExists(t, filepath.Join(w.dir, "metadata.building"))
	require.NoError(t, os.WriteFile(c.Metadata, good, 0o600))

	share := c
	share.Share = &thinpool.Share{PoolName: "somebody's", First: thinpool.ShareNumbers}
	_, err = thinpool.Repair(t.Context(), w.dm, share, thinpool.RepairOptions{})
	require.ErrorIs(t, err, thinpool.ErrForeign)
	require.ErrorContains(t, err, "lvconvert --repair")

	t.Setenv("PATH", w.dir)
	_, err = thinpool.Repair(t.Context(), w.dm, c, thinpool.RepairOptions{})
	require.ErrorIs(t, err, thinpool.ErrNoTools)
	require.ErrorContains(t, err, "thin-provisioning-tools")
}
