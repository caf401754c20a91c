package btrfs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/btrfsvol"
	"blockstore.dev/blockstore/internal/systrace"
	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/mount"
)

// counted is the environment variable with the number of volumes that exist
// beside those of the operations which TestCountedOperations performs.
const counted = "BLOCKSTORE_TEST_COUNTED"

// TestSystemCalls asserts by counting what operations cost: no fork, no fsync, the mounts and
// the ioctls named here, whatever the number of volumes.
func TestSystemCalls(t *testing.T) {
	needBtrfs(t)
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("no strace to count system calls with")
	}
	few, many := trace(t, 10), trace(t, 1000)
	require.Equal(t, few, many, "calls with 10 volumes and with 1000")
	limited := func() bool {
		s := newLoopStore(t)
		return s.driver.(loopDriver).config.SimpleQuota
	}()
	create := systrace.Tally{"BTRFS_IOC_SNAP_CREATE_V2": 1}
	// Looking the subvolume up and looking for nested ones; the commit comes later.
	remove := systrace.Tally{"BTRFS_IOC_INO_LOOKUP": 1, "BTRFS_IOC_TREE_SEARCH_V2": 1, "BTRFS_IOC_SNAP_DESTROY_V2": 1}
	if limited {
		create["BTRFS_IOC_QGROUP_CREATE"], create["BTRFS_IOC_QGROUP_LIMIT"] = 1, 1
		remove["BTRFS_IOC_QGROUP_ASSIGN"], remove["BTRFS_IOC_QGROUP_CREATE"] = 1, 1
	}
	require.Equal(t, create, few["create"])
	require.Equal(t, remove, few["remove"])
	require.Equal(t, systrace.Tally{"mount": 1, "umount2": 1}, few["mount"], "activate, mount, unmount, deactivate")
	require.Equal(t, systrace.Tally{"BTRFS_IOC_SUBVOL_GETFLAGS": 1, "BTRFS_IOC_SUBVOL_SETFLAGS": 1, "BTRFS_IOC_SYNC": 1}, few["seal"])
	// One wait, and of each container: describing it and its origin, and what was added; all files of none.
	require.Equal(t, systrace.Tally{"BTRFS_IOC_SYNC": 1, "BTRFS_IOC_GET_SUBVOL_INFO": 200, "BTRFS_IOC_TREE_SEARCH_V2": 100}, few["poll"])
	require.Equal(t, systrace.Tally{"BTRFS_IOC_SYNC": 1, "BTRFS_IOC_GET_SUBVOL_INFO": 200}, few["referenced"], "known of their layer")
	// What a layer adds to one of many files takes a search that finds it and one that finds no more; what it refers to, all of them.
	require.Equal(t, systrace.Tally{"BTRFS_IOC_GET_SUBVOL_INFO": 2, "BTRFS_IOC_TREE_SEARCH_V2": 2}, few["layerusage"])
	require.Greater(t, few["layerreferenced"]["BTRFS_IOC_TREE_SEARCH_V2"], 5)
	for operation, calls := range few {
		t.Logf("%s: %v", operation, calls)
	}
}

// TestCountedOperations is what TestSystemCalls traces, in a process of its own.
func TestCountedOperations(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv(counted))
	if err != nil {
		t.Skip("no " + counted + ": TestSystemCalls runs this")
	}
	s := newLoopStore(t)
	crowd(t, s, n)
	target := t.TempDir()
	v := snapshot.Volume{ID: 20_000}
	polled := boxes(t, s, 101)
	layer := polled[100]
	polled = polled[:100]
	require.NoError(t, os.WriteFile(filepath.Join(s.driver.(loopDriver).dirOf(layer.ID), "one"), []byte("content"), 0o600))
	require.NoError(t, s.driver.Seal(t.Context(), layer))
	layer.Sealed = true
	operations := []struct {
		name string
		act  func() error
	}{
		{"create", func() error {
			return s.driver.Create(t.Context(), v.ID, snapshot.CreateOptions{Origin: base, Size: 1 << 30})
		}},
		{"mount", func() error {
			mounts, err := s.driver.Activate(t.Context(), v, false)
			if err == nil {
				err = mount.All(mounts, target)
			}
			if err == nil {
				err = mount.Unmount(target)
			}
			if err == nil {
				err = s.driver.Deactivate(t.Context(), v.ID)
			}
			return err
		}},
		{"seal", func() error { return s.driver.Seal(t.Context(), v) }},
		{"poll", func() error {
			_, err := s.driver.(snapshot.UsageCounter).Usages(t.Context(), polled)
			return err
		}},
		{"referenced", func() error {
			_, err := s.driver.Referenced(t.Context(), polled...)
			return err
		}},
		{"layerusage", func() error {
			_, err := s.driver.Usage(t.Context(), layer)
			return err
		}},
		{"layerreferenced", func() error {
			_, err := s.driver.Referenced(t.Context(), layer)
			return err
		}},
		{"remove", func() error { return s.driver.Remove(t.Context(), v.ID) }},
	}
	for _, o := range operations {
		systrace.Mark(o.name)
		require.NoError(t, o.act())
		systrace.End()
	}
}

// boxes makes n containers of a layer with many files, of which it was asked once what they refer to.
func boxes(t *testing.T, s *store, n int) []snapshot.Volume {
	t.Helper()
	layer := snapshot.Volume{ID: 30_000}
	require.NoError(t, s.driver.Create(t.Context(), layer.ID, snapshot.CreateOptions{Origin: base, Size: 1 << 30}))
	for i := range 3000 {
		require.NoError(t, os.WriteFile(filepath.Join(s.driver.(loopDriver).dirOf(layer.ID), fmt.Sprint(i)), []byte("content"), 0o600))
	}
	require.NoError(t, s.driver.Seal(t.Context(), layer))
	layer.Sealed = true
	var all []snapshot.Volume
	for i := range n {
		v := snapshot.Volume{ID: layer.ID + 1 + snapshot.VolumeID(i), Origin: layer.ID}
		require.NoError(t, s.driver.Create(t.Context(), v.ID, snapshot.CreateOptions{Origin: layer, Size: 1 << 30}))
		all = append(all, v)
	}
	_, err := s.driver.Referenced(t.Context(), all...)
	require.NoError(t, err)
	return all
}

// crowd makes n volumes, some at a time.
func crowd(t testing.TB, s *store, n int) {
	t.Helper()
	var wg sync.WaitGroup
	errs := make([]error, n)
	for worker := range shards {
		wg.Go(func() {
			for i := worker; i < n; i += shards {
				errs[i] = s.driver.Create(t.Context(), snapshot.VolumeID(16+i), snapshot.CreateOptions{Origin: base, Size: 1 << 30})
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
}

// trace counts the calls of the operations beside that many volumes.
func trace(t *testing.T, volumes int) map[string]systrace.Tally {
	t.Helper()
	log := filepath.Join(t.TempDir(), "trace")
	command := exec.CommandContext(t.Context(), "strace",
		append(systrace.Arguments(log), os.Args[0], "-test.run=^TestCountedOperations$")...)
	command.Env = append(os.Environ(), fmt.Sprintf("%s=%d", counted, volumes))
	output, err := command.CombinedOutput()
	require.NoError(t, err, "%s", output)
	f, err := os.Open(log)
	require.NoError(t, err)
	defer f.Close()
	tallies, err := systrace.Read(f)
	require.NoError(t, err)
	return tallies
}

// BenchmarkLife is a container's life on the driver, against the bare calls.
func BenchmarkLife(b *testing.B) {
	b.Run("driver", func(b *testing.B) {
		s := newLoopStore(b)
		target := b.TempDir()
		for i := 0; b.Loop(); i++ {
			v := snapshot.Volume{ID: snapshot.VolumeID(16 + i)}
			require.NoError(b, s.driver.Create(b.Context(), v.ID, snapshot.CreateOptions{Origin: base, Size: 1 << 30}))
			mounts, err := s.driver.Activate(b.Context(), v, false)
			require.NoError(b, err)
			require.NoError(b, mount.All(mounts, target))
			require.NoError(b, mount.Unmount(target))
			require.NoError(b, s.driver.Deactivate(b.Context(), v.ID))
			require.NoError(b, s.driver.Remove(b.Context(), v.ID))
		}
	})
	b.Run("floor", func(b *testing.B) {
		s := newLoopStore(b)
		target := b.TempDir()
		fs := s.driver.(loopDriver).fs
		for i := 0; b.Loop(); i++ {
			path := pathOf(snapshot.VolumeID(16 + i))
			require.NoError(b, fs.Snapshot(pathOf(snapshot.Base), path, noOptions))
			require.NoError(b, unix.Mount(filepath.Join(fs.Dir(), path), target, "", unix.MS_BIND, ""))
			require.NoError(b, unix.Unmount(target, 0))
			id, _, err := fs.Lookup(path)
			require.NoError(b, err)
			_, err = fs.Delete(id)
			require.NoError(b, err)
		}
	})
	b.Run("btrfs-progs", func(b *testing.B) {
		if _, err := exec.LookPath("btrfs"); err != nil {
			b.Skip("no btrfs (install btrfs-progs)")
		}
		s := newLoopStore(b)
		target := b.TempDir()
		dir := s.driver.(loopDriver).fs.Dir()
		for i := 0; b.Loop(); i++ {
			path := filepath.Join(dir, pathOf(snapshot.VolumeID(16+i)))
			require.NoError(b, exec.Command("btrfs", "subvolume", "snapshot", filepath.Join(dir, pathOf(snapshot.Base)), path).Run())
			require.NoError(b, unix.Mount(path, target, "", unix.MS_BIND, ""))
			require.NoError(b, unix.Unmount(target, 0))
			require.NoError(b, exec.Command("btrfs", "subvolume", "delete", path).Run())
		}
	})
}

var noOptions = btrfsvol.CreateOptions{}
