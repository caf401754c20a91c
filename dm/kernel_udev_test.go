package dm_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"blockstore.dev/blockstore/dm"
	"github.com/stretchr/testify/require"
)

// udevLab is a lab whose client waits for a udev daemon that runs, long enough for a
// slow machine's daemon to work off the events of the tests before.
func udevLab(t *testing.T) (*lab, *[]error) {
	t.Helper()
	_, running := os.Stat("/run/udev/control")
	if _, err := os.Stat(udevDaemon); err != nil && running != nil {
		t.Skip("no udev daemon is installed (package udev)")
	}
	l := newLab(t)
	if running != nil {
		startUdev(t)
	}
	waits := &[]error{}
	client, err := dm.Open(dm.Options{Udev: dm.UdevWait, UdevTimeout: 2 * time.Minute, Observer: func(call dm.Call) {
		l.observe(call)
		if call.Command == "UDEV_WAIT" {
			*waits = append(*waits, call.Err)
		}
	}})
	require.NoError(t, err)
	quiet := l.Client
	l.Client = client
	t.Cleanup(func() {
		require.NoError(t, client.Close())
		l.Client = quiet // for the leak check
	})
	return l, waits
}

const udevDaemon = "/lib/systemd/systemd-udevd"

// startUdev runs a udev daemon for one test, where the machine is our own.
func startUdev(t *testing.T) {
	t.Helper()
	if os.Getenv("BLOCKSTORE_MACHINE") == "" {
		t.Skip("no udev daemon runs here, and this is no machine of our own to start one in")
	}
	output, err := exec.CommandContext(t.Context(), udevDaemon, "--daemon").CombinedOutput()
	require.NoError(t, err, "%s", output)
	t.Cleanup(func() {
		output, err := exec.Command("udevadm", "control", "--exit").CombinedOutput()
		require.NoError(t, err, "%s", output)
		require.NoError(t, os.RemoveAll("/run/udev")) // or others would believe that one runs
	})
}

// TestKernelUdevWait: when an operation returns, udev has made, moved or removed its link,
// and no semaphore is left.
func TestKernelUdevWait(t *testing.T) {
	l, waits := udevLab(t)
	before, err := os.ReadFile("/proc/sysvipc/sem")
	require.NoError(t, err)
	link := filepath.Join("/dev/mapper", l.name("udev"))
	info, err := l.CreateLoaded(t.Context(), l.name("udev"), "", dm.NewTable(64, dm.Zero{}), dm.LoadOptions{})
	require.NoError(t, err)
	target, err := filepath.EvalSymlinks(link)
	require.NoError(t, err)
	require.Equal(t, dm.Path(info.Dev), target)
	require.NoError(t, l.Rename(t.Context(), l.name("udev"), l.name("udev2")))
	_, err = os.Lstat(link + "2")
	require.NoError(t, err)
	_, err = os.Lstat(link)
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = l.Remove(t.Context(), dm.Name(l.name("udev2")), dm.RemoveOptions{})
	require.NoError(t, err)
	_, err = os.Lstat(link + "2")
	require.ErrorIs(t, err, os.ErrNotExist)
	require.Equal(t, []error{nil, nil, nil}, *waits)
	after, err := os.ReadFile("/proc/sysvipc/sem")
	require.NoError(t, err)
	require.Equal(t, string(before), string(after))
}

// TestKernelUdevLeavesContentAlone: with a file system on it a device is still not probed.
func TestKernelUdevLeavesContentAlone(t *testing.T) {
	l, _ := udevLab(t)
	disk := loop(t, 16<<20)
	info := l.device("quiet", "", dm.NewTable(32768, dm.Linear{Device: disk}))
	mkfs(t, dm.Path(info.Dev))
	_, err := l.Remove(t.Context(), dm.Dev(info.Dev), dm.RemoveOptions{Wait: 10 * time.Second})
	require.NoError(t, err)
	info = l.device("quiet", "", dm.NewTable(32768, dm.Linear{Device: disk}))
	database, err := os.ReadFile("/run/udev/data/b" + info.Dev.String())
	require.NoError(t, err)
	require.Contains(t, string(database), "DM_UDEV_DISABLE_OTHER_RULES_FLAG=1")
	require.NotContains(t, string(database), "ID_FS_TYPE")
	_, err = l.Remove(t.Context(), dm.Dev(info.Dev), dm.RemoveOptions{})
	require.NoError(t, err, "no udev worker holds the device")
}
