package zfs

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/drivertest"
	"blockstore.dev/blockstore/zfsds"
)

// track compares two volumes by the driver's account, and sees that it tells what a walk tells. upper may be mounted, at dir.
func (b *bare) track(t drivertest.Tester, lower, upper snapshot.Volume, since time.Time, dir string) {
	t.Helper()
	a, err := b.Track(b.t.Context(), lower, []snapshot.Volume{upper}, since)
	require.NoError(t, err)
	b.with(lower, func(below string) {
		drivertest.TracksLikeWalk(t, below, dir, since, a)
	})
}

// TestTrack: what was written a moment ago is told of a volume that is mounted, which has no snapshot afterwards. What cannot be
// told is not.
func TestTrack(t *testing.T) {
	b := newBare(t)
	layer := b.make(1, base)
	b.write(layer, "f", 1<<10)
	layer = b.sealed(layer)
	frozen := time.Now()
	same := b.make(2, layer)
	l, err := b.Track(t.Context(), layer, []snapshot.Volume{same}, frozen)
	require.NoError(t, err)
	require.Empty(t, l.(*account).rewritten)

	upper := b.make(3, layer)
	b.with(upper, func(dir string) {
		f, err := os.OpenFile(filepath.Join(dir, "f"), os.O_WRONLY, 0)
		require.NoError(t, err)
		defer f.Close()
		_, err = f.WriteAt([]byte("above"), 100)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "new"), nil, 0o600))
		b.track(t, layer, upper, frozen, dir)
		b.track(t, base, upper, time.Time{}, dir)
	})
	for s, err := range b.zfs.Snapshots(t.Context(), b.root.volume(upper.ID)) {
		require.NoError(t, err)
		t.Error("left: ", s.Name)
	}

	for name, v := range map[string][]snapshot.Volume{"nothing above": nil, "unrelated": {b.sealed(same)}} {
		_, err := b.Track(t.Context(), b.sealed(b.make(4+snapshot.VolumeID(len(v)), base)), v, frozen)
		require.ErrorIs(t, err, snapshot.ErrNotSupported, name)
	}
	_, err = b.Track(t.Context(), upper, []snapshot.Volume{same}, frozen)
	require.ErrorIs(t, err, snapshot.ErrNotSupported, "it may be written to")
}

// TestTrackByCommand: the commands tell nothing, and make nothing for that.
func TestTrackByCommand(t *testing.T) {
	b := newBareBy(t, zfsds.CLI)
	_, err := b.Track(t.Context(), base, []snapshot.Volume{b.make(1, base)}, time.Now())
	require.ErrorIs(t, err, snapshot.ErrNotSupported)
}

// TestTrackLikeWalk: whatever was done to the files of a volume.
func TestTrackLikeWalk(t *testing.T) {
	b := newBare(t)
	drivertest.Chain{Base: base, Create: b.make, Seal: b.sealed, With: b.with, Track: b.track}.TrackLikeWalk(t, 10)
}

// TestTrackCost: three changes among a thousand files cost a look at what was changed and at its neighbours, and at the names
// beside these and beside the directories above.
func TestTrackCost(t *testing.T) {
	b := newBare(t)
	lower := b.make(1, base)
	const dirs, files = 20, 50
	b.with(lower, func(dir string) {
		for i := range dirs {
			require.NoError(t, os.MkdirAll(filepath.Join(dir, fmt.Sprint(i), "e"), 0o755))
			for j := range files {
				require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprint(i), "e", fmt.Sprint(j)), []byte("x"), 0o600))
			}
		}
	})
	lower = b.sealed(lower)
	drivertest.ClockGoesOn(t)
	frozen := time.Now()
	upper := b.make(2, lower)
	const block = 32 // objects: four were written, and one is gone
	b.with(upper, func(dir string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "2/e/3"), []byte("y"), 0o600))
		require.NoError(t, os.Chmod(filepath.Join(dir, "3/e"), 0o700))
		require.NoError(t, os.Remove(filepath.Join(dir, "4/e/5")))
		a, err := b.Track(t.Context(), lower, []snapshot.Volume{upper}, frozen)
		require.NoError(t, err)
		b.with(lower, func(below string) {
			cost := drivertest.CountTrack(t, below, dir, frozen, a)
			require.Len(t, cost.Changes, 3+5, "with the directories above")
			require.LessOrEqual(t, len(cost.Looked), 4*block+1)
			require.Less(t, cost.Names, dirs*files/2)
		})
	})
}
