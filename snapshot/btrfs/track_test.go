package btrfs

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"blockstore.dev/blockstore/btrfsvol"
	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/drivertest"
	"blockstore.dev/blockstore/snapshot/layertar"
	"blockstore.dev/blockstore/snapshot/layertar/treetest"
)

// chain is volumes that are snapshots of each other, the lowest first.
type chain struct {
	*store
	volumes []snapshot.Volume
	next    snapshot.VolumeID
}

func newChain(t testing.TB) *chain {
	return &chain{store: newStore(t, snapshot.InitOptions{Loopback: 2 << 30}), next: 16}
}

func (c *chain) newID() snapshot.VolumeID {
	c.next++
	return c.next - 1
}

// push seals the top and makes a snapshot of it the top, at least once.
func (c *chain) push(t drivertest.Tester) {
	t.Helper()
	v := snapshot.Volume{ID: c.newID(), Origin: snapshot.Base}
	if n := len(c.volumes); n > 0 {
		c.seal(t)
		v.Origin = c.volumes[n-1].ID
	}
	require.NoError(t, c.driver.Create(t.Context(), v.ID, snapshot.CreateOptions{Origin: snapshot.Volume{ID: v.Origin, Sealed: true}}))
	c.volumes = append(c.volumes, v)
}

func (c *chain) seal(t drivertest.Tester) {
	t.Helper()
	top := &c.volumes[len(c.volumes)-1]
	if !top.Sealed {
		require.NoError(t, c.driver.Seal(t.Context(), *top))
		top.Sealed = true
	}
}

func (c *chain) top() string { return c.path(len(c.volumes) - 1) }

func (c *chain) path(i int) string { return c.driver.(loopDriver).dirOf(c.volumes[i].ID) }

// clear removes everything.
func (c *chain) clear(t drivertest.Tester) {
	var ids []snapshot.VolumeID
	for _, v := range c.volumes {
		ids = append(ids, v.ID)
	}
	require.NoError(t, c.driver.Remove(t.Context(), ids...))
	c.volumes = nil
}

func (c *chain) track(lower, upper int) (layertar.Account, error) {
	return c.driver.(snapshot.Tracker).Track(context.Background(), c.volumes[lower], c.volumes[lower+1:upper+1], time.Time{})
}

// same compares two of the chain, by account and by a walk over everything.
func (c *chain) same(t drivertest.Tester, lower, upper int) {
	t.Helper()
	a, err := c.track(lower, upper)
	require.NoError(t, err)
	drivertest.TracksLikeWalk(t, c.path(lower), c.path(upper), time.Time{}, a)
}

// TestTrackLikeWalk: whatever was done, the driver's account gives what a walk over
// both trees gives, over one or several layers, sealed or not.
func TestTrackLikeWalk(t *testing.T) {
	c := newChain(t)
	rapid.Check(t, func(r *rapid.T) {
		defer c.clear(r)
		for range rapid.IntRange(2, 4).Draw(r, "layers") {
			c.push(r)
			m := treetest.Mess{R: r, Dir: c.top()}
			steps := 1 + rapid.IntRange(0, 25).Draw(r, "steps")
			for range steps {
				m.Step()
			}
		}
		n := len(c.volumes)
		for lower := range n - 1 {
			c.same(r, lower, n-1) // the top has unwritten data
		}
		c.seal(r)
		for lower := range n - 1 {
			for upper := lower + 1; upper < n; upper++ {
				c.same(r, lower, upper)
			}
		}
	})
}

// TestTrackCost: three changes among many files cost a look at what is beside them
// and above, by name, and at nothing else.
func TestTrackCost(t *testing.T) {
	c := newChain(t)
	c.push(t)
	const dirs, files = 200, 100
	for i := range dirs {
		dir := filepath.Join(c.top(), fmt.Sprintf("d%d", i%10), fmt.Sprintf("e%d", i))
		require.NoError(t, os.MkdirAll(dir, 0o755))
		for j := range files {
			require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprint(j)), []byte("x"), 0o600))
		}
	}
	c.push(t)
	at := func(name string) string { return filepath.Join(c.top(), name) }
	require.NoError(t, os.WriteFile(at("d1/e11/5"), []byte("y"), 0o600))
	require.NoError(t, os.Chmod(at("d2/e22"), 0o700))
	require.NoError(t, os.Remove(at("d3/e33/7")))
	a, err := c.track(0, 1)
	require.NoError(t, err)
	cost := drivertest.CountTrack(t, c.path(0), c.path(1), time.Time{}, a)
	require.Len(t, cost.Changes, 3+5, "with the directories above")
	require.Equal(t, map[string]int{
		"d1": 1, "d1/e11": 1, "d1/e11/5": 1, "d2": 1, "d2/e22": 1, "d3": 1, "d3/e33": 1, "d3/e33/7": 1,
	}, cost.Looked)

	looked := map[string]int{}
	_, err = layertar.Changes(t.Context(), c.path(0), c.path(1), layertar.CompareOptions{Looked: func(path string) { looked[path]++ }})
	require.NoError(t, err)
	require.Len(t, looked, 10+dirs+dirs*files, "a walk looks at everything")
	c.clear(t)
}

// TestTrackCannotTell: what has not been accounted for is said to be so.
func TestTrackCannotTell(t *testing.T) {
	cannot := func(c *chain, lower, upper int, why string) {
		t.Helper()
		_, err := c.track(lower, upper)
		require.ErrorIs(t, err, snapshot.ErrNotSupported)
		require.ErrorContains(t, err, why)
	}
	c := newChain(t)
	d := c.driver.(loopDriver)
	c.push(t)
	write(t, filepath.Join(c.top(), "f"), 10)
	c.push(t)
	cannot(c, 0, 0, "nothing above")

	// Somebody had the lower one open when its snapshot was taken.
	require.NoError(t, d.fs.SetReadOnly(pathOf(c.volumes[0].ID), false))
	write(t, filepath.Join(c.path(0), "f"), 20)
	c.volumes[0].Sealed = false
	cannot(c, 0, 1, "later than its snapshot")
	c.seal(t)
	require.NoError(t, d.fs.SetReadOnly(pathOf(c.volumes[0].ID), true))
	c.volumes[0].Sealed = true
	cannot(c, 0, 1, "later than its snapshot")
	c.push(t)
	c.same(t, 1, 2)

	// A container makes subvolumes.
	require.NoError(t, d.fs.Create(pathOf(c.volumes[2].ID)+"/sub", btrfsvol.CreateOptions{}))
	cannot(c, 1, 2, "a subvolume was made")
	c.push(t)
	cannot(c, 2, 3, "subvolumes in it")
	cannot(c, 1, 3, "a subvolume was made")
	c.push(t)
	// What a snapshot shows in a subvolume's stead has the times at which the kernel came to know it, until it forgets it.
	known := func(volume int) unix.Timespec {
		held, err := os.Open(filepath.Join(c.path(volume), "sub"))
		require.NoError(t, err)
		t.Cleanup(func() { held.Close() })
		var s unix.Stat_t
		require.NoError(t, unix.Fstat(int(held.Fd()), &s))
		return s.Mtim
	}
	lower, upper := 3, 4
	for ; known(lower) != known(upper); lower, upper = lower+2, upper+2 { // not within a tick of the file systems' clock
		require.Less(t, upper, 100)
		c.push(t)
		c.push(t)
	}
	c.same(t, lower, upper)

	// One between is gone, or of another line.
	gone := c.volumes[3]
	require.NoError(t, c.driver.Remove(t.Context(), gone.ID))
	cannot(c, 3, 4, "is gone")
	c.volumes[3].ID = c.volumes[1].ID
	cannot(c, 3, 4, "not a snapshot")
	c.volumes[3] = gone
	c.clear(t)
}
