package btrfs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/btrfsvol"
	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/mount"
)

// counted is the environment variable with the number of volumes that exist
// beside those of the operations which TestCountedOperations performs, and marker
// the beginning of paths whose look-up marks an operation's begin in a trace.
const (
	counted = "BLOCKSTORE_TEST_COUNTED"
	marker  = "/bstest-mark-"
)

// A tally counts an operation's calls in a trace: ioctls by name, syncs, and new
// processes (a thread is none).
type tally map[string]int

// TestSystemCalls asserts by counting what operations cost: no fork, no fsync, and
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
	create := tally{"BTRFS_IOC_SNAP_CREATE_V2": 1}
	// Looking the subvolume up and looking for nested ones; the commit comes later.
	remove := tally{"BTRFS_IOC_INO_LOOKUP": 1, "BTRFS_IOC_TREE_SEARCH_V2": 1, "BTRFS_IOC_SNAP_DESTROY_V2": 1}
	if limited {
		create["BTRFS_IOC_QGROUP_CREATE"], create["BTRFS_IOC_QGROUP_LIMIT"] = 1, 1
		remove["BTRFS_IOC_QGROUP_ASSIGN"], remove["BTRFS_IOC_QGROUP_CREATE"] = 1, 1
	}
	require.Equal(t, create, few["create"])
	require.Equal(t, remove, few["remove"])
	require.Empty(t, few["mount"], "activate, mount, unmount, deactivate")
	require.Equal(t, tally{"BTRFS_IOC_SUBVOL_GETFLAGS": 1, "BTRFS_IOC_SUBVOL_SETFLAGS": 1, "BTRFS_IOC_SYNC": 1}, few["seal"])
	// One wait, and of each container: describing it and its origin, and what was added; all files of none.
	require.Equal(t, tally{"BTRFS_IOC_SYNC": 1, "BTRFS_IOC_GET_SUBVOL_INFO": 200, "BTRFS_IOC_TREE_SEARCH_V2": 100}, few["poll"])
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
	polled := boxes(t, s, 100)
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
		{"usage", func() error {
			_, err := s.driver.Usage(t.Context(), snapshot.Volume{ID: v.ID, Sealed: true})
			return err
		}},
		{"poll", func() error {
			_, err := s.driver.(snapshot.UsageCounter).Usages(t.Context(), polled)
			return err
		}},
		{"remove", func() error { return s.driver.Remove(t.Context(), v.ID) }},
	}
	for _, o := range operations {
		_ = unix.Access(marker+o.name, unix.F_OK)
		require.NoError(t, o.act())
		_ = unix.Access(marker+"end", unix.F_OK)
	}
}

// boxes makes n containers of a layer with many files, whose usage was asked for once.
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
	_, err := s.driver.(snapshot.UsageCounter).Usages(t.Context(), all)
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

func trace(t *testing.T, volumes int) map[string]tally {
	t.Helper()
	log := filepath.Join(t.TempDir(), "trace")
	command := exec.CommandContext(t.Context(), "strace", "-f", "-o", log,
		"-e", "trace=ioctl,fsync,fdatasync,sync,syncfs,sync_file_range,clone,clone3,fork,vfork,execve,access,faccessat,faccessat2",
		os.Args[0], "-test.run=^TestCountedOperations$")
	command.Env = append(os.Environ(), fmt.Sprintf("%s=%d", counted, volumes))
	output, err := command.CombinedOutput()
	require.NoError(t, err, "%s", output)
	text, err := os.ReadFile(log)
	require.NoError(t, err)
	return parseTrace(string(text))
}

var (
	callInTrace = regexp.MustCompile(`^\d+ +(\w+)\(`)
	// strace names several requests of one number: "FIRST or BTRFS_SECOND".
	requestInTrace = regexp.MustCompile(`^\d+ +ioctl\(\d+, (?:\w+ or )?(\w+)`)
)

// parseTrace counts the calls between marks.
func parseTrace(text string) map[string]tally {
	tallies := map[string]tally{}
	var now tally
	for line := range strings.Lines(text) {
		call := callInTrace.FindStringSubmatch(line)
		if call == nil {
			continue
		}
		_, mark, marked := strings.Cut(line, marker)
		switch name := call[1]; {
		case marked:
			mark, _, _ = strings.Cut(mark, `"`)
			if now = nil; mark != "end" {
				now = tally{}
				tallies[mark] = now
			}
		case now == nil, strings.Contains(line, "CLONE_THREAD"):
		case name == "ioctl":
			now[requestInTrace.FindStringSubmatch(line)[1]]++
		case strings.Contains(name, "access"):
		default:
			now[name]++
		}
	}
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
