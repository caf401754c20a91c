package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/ioctl"
)

func TestNothingLeftIsNoError(t *testing.T) {
	before, err := takeTraces()
	require.NoError(t, err)
	assert.Empty(t, leaks(before, []string{t.TempDir()}))
}

func TestAFileIsALeak(t *testing.T) {
	before, err := takeTraces()
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "pool.img"), nil, 0o600))
	found := leaks(before, []string{dir})
	require.Len(t, found, 1)
	assert.Contains(t, found[0].Error(), "pool.img")
}

func TestAMountIsALeak(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := t.TempDir()
	mnt := filepath.Join(dir, "mnt")
	require.NoError(t, os.Mkdir(mnt, 0o700))
	before, err := takeTraces()
	require.NoError(t, err)
	require.NoError(t, unix.Mount("bstest", mnt, "tmpfs", 0, ""))
	found := leaks(before, []string{dir})
	require.NoError(t, unix.Unmount(mnt, 0))
	require.Len(t, found, 2, "the mount and its directory")
	assert.Contains(t, found[0].Error(), "mount "+mnt)
}

// TestSweepingLeavesWhatIsMountedAlone: and no loop device on a file of its own, but others'.
func TestSweepingLeavesWhatIsMountedAlone(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	foreign, dir := t.TempDir(), filepath.Join(t.TempDir(), "bstest")
	keep := filepath.Join(foreign, "keep")
	require.NoError(t, os.WriteFile(keep, nil, 0o600))
	mnt := filepath.Join(dir, "a", "mnt")
	require.NoError(t, os.MkdirAll(mnt, 0o700))
	require.NoError(t, unix.Mount(foreign, mnt, "", unix.MS_BIND, ""))
	attach := func(file string) string {
		require.NoError(t, os.WriteFile(file, make([]byte, 1<<20), 0o600))
		device, err := ioctl.AttachLoop(t.Context(), file, ioctl.LoopOptions{})
		require.NoError(t, err)
		require.NoError(t, device.Close()) // it stays attached
		t.Cleanup(func() {
			for _, l := range attachedTo(t, file) {
				assert.NoError(t, detach(l))
			}
		})
		return file
	}
	ours, others := attach(filepath.Join(dir, "image")), attach(filepath.Join(foreign, "image"))
	require.NoError(t, sweep(dir))
	assert.NoDirExists(t, dir)
	assert.FileExists(t, keep)
	assert.Empty(t, attachedTo(t, ours))
	assert.Len(t, attachedTo(t, others), 1)
}

// TestAFileMountedElsewhere of a swept directory is a leak, and swept: /etc/subuid, in a test of user namespaces.
func TestAFileMountedElsewhere(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir, err := os.MkdirTemp(t.TempDir(), "bstest-")
	require.NoError(t, err)
	own, over := filepath.Join(dir, "own"), filepath.Join(t.TempDir(), "over")
	for file, text := range map[string]string{own: "own", over: "over"} {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	}
	before, err := takeTraces()
	require.NoError(t, err)
	require.NoError(t, unix.Mount(own, over, "", unix.MS_BIND, ""))
	found := leaks(before, nil, filepath.Base(dir))
	require.Len(t, found, 1)
	assert.Contains(t, found[0].Error(), "mount "+over)
	require.NoError(t, sweep(dir))
	assert.Empty(t, leaks(before, nil, filepath.Base(dir)))
	text, err := os.ReadFile(over)
	require.NoError(t, err)
	assert.Equal(t, "over", string(text))
}

// attachedTo are the loop devices on a file, which may be removed: the kernel says so behind its name.
func attachedTo(t *testing.T, file string) (found []loop) {
	t.Helper()
	all, err := loops()
	require.NoError(t, err)
	for _, l := range all {
		if strings.HasPrefix(l.file, file) {
			found = append(found, l)
		}
	}
	return found
}

func TestAProcessIsALeakAndIsEnded(t *testing.T) {
	require.NoError(t, adoptOrphans())
	t.Cleanup(func() { assert.NoError(t, unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)) })
	require.NoError(t, exec.Command("sh", "-c", "sleep 1000 >/dev/null 2>&1 &").Run())
	require.Eventually(t, func() bool {
		c := children()
		return len(c) == 1 && strings.HasPrefix(c[0].command, "sleep 1000")
	}, time.Minute, time.Millisecond, "the child of sh becomes a sleep")
	found := nameChildren()
	require.Len(t, found, 1)
	assert.Contains(t, found[0].Error(), "sleep 1000")
	assert.Empty(t, leftProcesses())
}
