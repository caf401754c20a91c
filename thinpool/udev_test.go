package thinpool_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/thinpool"
)

// udevWorld is a world in which udev runs; its semaphores are as before at the test's end.
func udevWorld(t *testing.T) *world {
	t.Helper()
	if _, err := os.Stat("/run/udev/control"); err != nil {
		t.Skip("no udev daemon runs here")
	}
	w := newWorld(t)
	before, err := os.ReadFile("/proc/sysvipc/sem")
	require.NoError(t, err)
	t.Cleanup(func() {
		after, err := os.ReadFile("/proc/sysvipc/sem")
		require.NoError(t, err)
		require.Equal(t, string(before), string(after), "semaphores are left")
	})
	return w
}

// TestThinDevicesBesideUdev: devices that come and go quickly are named by udev, each link leads to its own
// device, and none stays.
func TestThinDevicesBesideUdev(t *testing.T) {
	w := udevWorld(t)
	p := w.pool()
	require.NoError(t, p.CreateThin(t.Context(), 1))
	for id := dm.DeviceID(2); id < 12; id++ {
		require.NoError(t, p.CreateSnapshot(t.Context(), id, thinpool.SnapshotOptions{Origin: 1}))
		device, err := p.Activate(t.Context(), id, thinpool.ActivateOptions{Size: 32 << 20})
		require.NoError(t, err)
		link, err := p.Publish(t.Context(), id)
		require.NoError(t, err)
		target, err := filepath.EvalSymlinks(link)
		require.NoError(t, err)
		require.Equal(t, device.Path, target)
		require.NoError(t, p.Deactivate(t.Context(), id))
		require.NoError(t, p.Delete(t.Context(), id))
	}
	output, err := exec.Command("udevadm", "settle", "--timeout=60").CombinedOutput()
	require.NoError(t, err, "%s", output)
	left, err := filepath.Glob("/dev/mapper/bstest-*-[0-9]*")
	require.NoError(t, err)
	require.Empty(t, left)
}

// TestPublishBesideAStoppedUdev: a udev that does not answer is waited for for a bounded time, and the link
// is there all the same.
func TestPublishBesideAStoppedUdev(t *testing.T) {
	w := udevWorld(t)
	if os.Getenv("BLOCKSTORE_MACHINE") == "" {
		t.Skip("no udev daemon runs here that is ours to stop")
	}
	p := w.pool()
	require.NoError(t, p.CreateThin(t.Context(), 1))
	signal := func(name string) {
		output, err := exec.Command("pkill", "-"+name, "-x", "systemd-udevd").CombinedOutput()
		require.NoError(t, err, "%s", output)
	}
	signal("STOP")
	t.Cleanup(func() { signal("CONT") })
	device, err := p.Activate(t.Context(), 1, thinpool.ActivateOptions{Size: 32 << 20})
	require.NoError(t, err)
	began := time.Now()
	link, err := p.Publish(t.Context(), 1)
	require.NoError(t, err)
	require.Less(t, time.Since(began), 30*time.Second, "udev has five seconds")
	target, err := filepath.EvalSymlinks(link)
	require.NoError(t, err)
	require.Equal(t, device.Path, target)
	require.NoError(t, p.Deactivate(t.Context(), 1))
	require.NoFileExists(t, link)

	signal("CONT")
	output, err := exec.Command("udevadm", "settle", "--timeout=60").CombinedOutput()
	require.NoError(t, err, "%s", output)
	require.NoFileExists(t, link, "udev knew nothing of it")
}
