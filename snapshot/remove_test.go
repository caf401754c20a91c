package snapshot_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/drivertest/dirdriver"
	"blockstore.dev/blockstore/snapshot/mount"
)

// crowd makes containers on a layer.
func (f *fixture) crowd(layer string, n int) []string {
	f.t.Helper()
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("crowd-%s-%d", strings.Repeat("x", 200), i) // long ones, as they lie in the journal
		_, err := f.s.Create(ctx, names[i], snapshot.CreateRequest{Parent: layer})
		require.NoError(f.t, err)
	}
	return names
}

// TestRemoveAllCommits: many go in a few commits, and nothing is left when the store is
// closed, nor before when somebody sweeps.
func TestRemoveAllCommits(t *testing.T) {
	for name, later := range map[string]func(*fixture){
		"sweep": func(f *fixture) { require.NoError(t, f.s.Sweep(ctx)) },
		"close": func(f *fixture) { f.reopen() },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			layer := f.load("i", 1).Layers[0]
			names := f.crowd(layer, 600)
			got := f.cost(func() error { return errors.Join(append(f.s.RemoveAll(ctx, names...), f.s.Sweep(ctx))...) })
			require.LessOrEqual(t, got.Commits, 4, "three for the removals, and one for the sweep behind them")
			for _, in := range names {
				_, err := f.s.Stat(ctx, in)
				require.ErrorIs(t, err, snapshot.ErrNotFound)
			}
			later(f)
			f.exact("afterwards")
		})
	}
}

// TestRemoveAllOrder: a chain of more layers than go in one commit, the lowest first.
func TestRemoveAllOrder(t *testing.T) {
	f := newFixture(t)
	var names []string
	for i := range 300 {
		parent := ""
		if i > 0 {
			parent = names[i-1]
		}
		_, err := f.s.Create(ctx, fmt.Sprint("c", i), snapshot.CreateRequest{Parent: parent})
		require.NoError(t, err)
		_, err = f.s.Freeze(ctx, fmt.Sprint("c", i), snapshot.FreezeRequest{Name: fmt.Sprint("layer", i)})
		require.NoError(t, err)
		names = append(names, fmt.Sprint("layer", i))
	}
	for _, err := range f.s.RemoveAll(ctx, names...) {
		require.NoError(t, err)
	}
	require.NoError(t, f.s.Sweep(ctx))
	f.exact("afterwards")
}

// TestRemoveAllEach: what cannot go stays with its reason, and keeps nothing else.
func TestRemoveAllEach(t *testing.T) {
	f := newFixture(t)
	layer := f.load("i", 1).Layers[0]
	for _, name := range []string{"mounted", "read", "free"} {
		_, err := f.s.Create(ctx, name, snapshot.CreateRequest{Parent: layer})
		require.NoError(t, err)
	}
	_, err := f.s.Mount(ctx, "mounted")
	require.NoError(t, err)
	_, release, err := f.s.Use(ctx, "read")
	require.NoError(t, err)
	_, err = f.s.View(ctx, "view", snapshot.CreateRequest{Parent: layer})
	require.NoError(t, err)

	errs := f.s.RemoveAll(ctx, "mounted", "nobody", "read", "free", layer, "view", "free")
	require.ErrorIs(t, errs[0], snapshot.ErrBusy)
	require.ErrorContains(t, errs[0], "umount")
	require.ErrorIs(t, errs[1], snapshot.ErrNotFound)
	require.ErrorIs(t, errs[2], snapshot.ErrBusy)
	require.NoError(t, errs[3])
	require.ErrorIs(t, errs[4], snapshot.ErrBusy)
	require.NoError(t, errs[5])
	require.ErrorIs(t, errs[6], snapshot.ErrNotFound)

	require.NoError(t, release())
	require.NoError(t, f.s.Unmount(ctx, "mounted"))
	for _, err := range f.s.RemoveAll(ctx, "mounted", "read") {
		require.NoError(t, err)
	}
	require.Empty(t, f.s.RemoveAll(ctx))
	require.NoError(t, f.s.Sweep(ctx))
	f.exact("afterwards")
}

// TestRemoveAllBesideOthers: who works with one of the names is waited for.
func TestRemoveAllBesideOthers(t *testing.T) {
	f := newFixture(t)
	layer := f.load("i", 1).Layers[0]
	names := f.crowd(layer, 20)
	compared, err := f.s.Compare(ctx, snapshot.CompareRequest{Name: names[7], Below: layer})
	require.NoError(t, err)
	done := make(chan []error)
	go func() { done <- f.s.RemoveAll(ctx, names...) }()
	require.Eventually(t, func() bool {
		on, err := f.s.Children(ctx, layer)
		return err == nil && len(on) == 1 && on[0].Name == names[7]
	}, 10*time.Second, time.Millisecond)
	require.NoError(t, compared.Close())
	for _, err := range <-done {
		require.NoError(t, err)
	}
	require.NoError(t, f.s.Sweep(ctx))
	f.exact("afterwards")
}

// TestRemoveAllFails: a volume that the driver does not let go of is tried again.
func TestRemoveAllFails(t *testing.T) {
	f := newFixture(t)
	names := f.crowd(f.load("i", 1).Layers[0], 5)
	f.kind.Faults.FailAt(3, dirdriver.ErrInjected)
	for _, err := range f.s.RemoveAll(ctx, names...) {
		require.NoError(t, err)
	}
	f.reopen()
	f.exact("afterwards")
}

// TestCreateTakesRemovedSpace: a creation that finds no room waits for what was removed, and is tried again.
func TestCreateTakesRemovedSpace(t *testing.T) {
	f := newFixture(t)
	layer := f.load("i", 1).Layers[0]
	for _, name := range f.crowd(layer, 3) {
		require.NoError(t, f.s.Drop(ctx, name)) // what another goroutine has committed a moment ago, and not swept yet
	}
	f.kind.Faults.Calls()
	f.kind.Faults.FailAt(1, snapshot.ErrNoSpace)
	_, err := f.s.Create(ctx, "new", snapshot.CreateRequest{Parent: layer})
	require.NoError(t, err)
	require.Equal(t, []string{"create", "remove", "remove", "remove", "create"}, f.kind.Faults.Calls())

	f.kind.Faults.FailAt(1, snapshot.ErrNoSpace)
	_, err = f.s.Create(ctx, "another", snapshot.CreateRequest{Parent: layer})
	require.ErrorIs(t, err, snapshot.ErrNoSpace, "nothing was removed meanwhile")
	f.exact("afterwards")
}

// TestDiscard: it is one commit and back, its volume goes afterwards, and that it went is written with what is committed next.
func TestDiscard(t *testing.T) {
	f := newFixture(t)
	names := f.crowd(f.load("i", 1).Layers[0], 5)
	_, err := f.s.Mount(ctx, names[1])
	require.NoError(t, err)
	release := f.s.HoldSweeps()
	discarded := f.cost(func() error {
		for _, name := range names {
			require.NoError(t, f.s.Discard(ctx, name))
		}
		return nil
	})
	require.Equal(t, 5, discarded.Commits)
	require.NotContains(t, discarded.Calls, "remove", "nobody waits for a volume to go")
	f.kind.Faults.FailAt(1, dirdriver.ErrInjected) // a volume that the driver does not let go of is tried again with the next
	gone := f.cost(func() error { release(); f.s.WaitSwept(); return nil })
	require.Zero(t, gone.Commits)
	require.Equal(t, slices.Repeat([]string{"remove"}, 6), gone.Calls)
	f.exact("afterwards")
}

// TestCommitsOnAFullDisk: a disk without a byte left is one that something has to be removed from. Where the catalog
// finds no room it makes a checkpoint, and takes the pages of the states before that.
func TestCommitsOnAFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	disk := t.TempDir()
	require.NoError(t, mount.At(mount.Mount{Type: "tmpfs", Source: "bstest", Options: []string{"size=16m"}}, disk))
	t.Cleanup(func() { require.NoError(t, mount.Unmount(disk)) })
	t.Setenv("TMPDIR", disk)
	f := newFixture(t)
	names := f.crowd(f.load("i", 1).Layers[0], 100)
	fillDisk(t, filepath.Join(disk, "fill"))
	for i := range 1000 {
		_, err := f.s.Relabel(ctx, names[0], func(map[string]string) (map[string]string, error) {
			return map[string]string{"n": fmt.Sprint(i)}, nil
		})
		require.NoError(t, err)
	}
	require.NoError(t, errors.Join(append(f.s.RemoveAll(ctx, names...), f.s.Sweep(ctx))...))
	require.NoError(t, os.Remove(filepath.Join(disk, "fill")))
	for _, in := range names {
		_, err := f.s.Stat(ctx, in)
		require.ErrorIs(t, err, snapshot.ErrNotFound)
	}
	f.exact("afterwards")
}

// fillDisk leaves no byte of it.
func fillDisk(t *testing.T, file string) {
	t.Helper()
	f, err := os.Create(file)
	require.NoError(t, err)
	for _, size := range []int{1 << 20, 4 << 10} {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
		require.ErrorIs(t, err, unix.ENOSPC)
	}
	require.NoError(t, f.Close())
}
