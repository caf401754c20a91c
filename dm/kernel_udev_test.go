package dm_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"blockstore.dev/blockstore/dm"
	"github.com/stretchr/testify/require"
)

// udevLab is a lab whose client waits for a udev daemon that runs and has nothing to do.
func udevLab(t *testing.T) (*lab, *[]error) {
	t.Helper()
	_, running := os.Stat("/run/udev/control")
	if _, err := os.Stat(udevDaemon); err != nil && running != nil {
		t.Skip("no udev daemon is installed (package udev)")
	}
	if running != nil && os.Getenv("BLOCKSTORE_MACHINE") == "" {
		t.Skip("no udev daemon runs here, and this is no machine of our own to start one in")
	}
	l := newLab(t)
	if running != nil {
		startUdev(t)
	}
	// The tests before have left it their devices' events.
	output, err := exec.CommandContext(t.Context(), "udevadm", "settle", "--timeout=600").CombinedOutput()
	require.NoError(t, err, "%s", output)
	return l, l.waitForUdev(2 * time.Minute)
}

// waitForUdev gives the lab a client that waits so long, and returns how its waits end.
func (l *lab) waitForUdev(limit time.Duration) *[]error {
	t := l.t
	waits := &[]error{}
	client, err := dm.Open(dm.Options{Udev: dm.UdevWait, UdevTimeout: limit, Observer: func(call dm.Call) {
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
	return waits
}

const udevDaemon = "/lib/systemd/systemd-udevd"

// startUdev runs a udev daemon for one test, where the machine is our own.
func startUdev(t *testing.T) {
	t.Helper()
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
	before := semaphores(t)
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
	require.Equal(t, before, semaphores(t))
}

// semaphores is the kernel's list of them.
func semaphores(t *testing.T) string {
	t.Helper()
	list, err := os.ReadFile("/proc/sysvipc/sem")
	require.NoError(t, err)
	return string(list)
}

// ownUdev is the running daemon, where it may be stopped: in a machine of our own.
func ownUdev(t *testing.T) *os.Process {
	t.Helper()
	if os.Getenv("BLOCKSTORE_MACHINE") == "" {
		t.Skip("no udev daemon runs here that is ours to stop")
	}
	names, err := filepath.Glob("/proc/[0-9]*/comm")
	require.NoError(t, err)
	for _, file := range names { // in the order of pids mostly, and the daemon is older than its workers
		if name, err := os.ReadFile(file); err == nil && string(name) == "systemd-udevd\n" {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			require.NoError(t, err)
			process, err := os.FindProcess(pid)
			require.NoError(t, err)
			return process
		}
	}
	t.Fatal("udev listens and has no process")
	return nil
}

// TestKernelUdevStopped: beside a daemon that does nothing an operation takes the limit at most, its
// device is there all the same, no semaphore is left, and the daemon makes its link when it goes on.
func TestKernelUdevStopped(t *testing.T) {
	l, _ := udevLab(t)
	before := semaphores(t)
	daemon := ownUdev(t)
	waits := l.waitForUdev(time.Second)
	require.NoError(t, daemon.Signal(syscall.SIGSTOP))
	goOn := func() { require.NoError(t, daemon.Signal(syscall.SIGCONT)) }
	t.Cleanup(goOn)
	began := time.Now()
	info, err := l.CreateLoaded(t.Context(), l.name("stopped"), "", dm.NewTable(64, dm.Zero{}), dm.LoadOptions{})
	require.NoError(t, err)
	require.Less(t, time.Since(began), 10*time.Second, "the limit is one second")
	require.Len(t, *waits, 1)
	require.ErrorIs(t, (*waits)[0], os.ErrDeadlineExceeded)
	require.Equal(t, before, semaphores(t))
	device, err := dm.OpenDevice(info.Dev, os.O_RDONLY)
	require.NoError(t, err, "the node is the kernel's")
	require.NoError(t, device.Close())

	goOn()
	link := filepath.Join("/dev/mapper", l.name("stopped"))
	require.Eventually(t, func() bool {
		target, err := filepath.EvalSymlinks(link)
		return err == nil && target == dm.Path(info.Dev)
	}, time.Minute, 10*time.Millisecond)
	l.waitForUdev(time.Minute)
	_, err = l.Remove(t.Context(), dm.Name(l.name("stopped")), dm.RemoveOptions{Wait: 10 * time.Second})
	require.NoError(t, err)
	require.NoFileExists(t, link)
	require.Equal(t, before, semaphores(t))
}

// TestKernelUdevKilled: a daemon that is killed while somebody waits for it costs the limit once; after
// that nobody waits for it, and links are ours to make, although its socket's file is still there.
func TestKernelUdevKilled(t *testing.T) {
	l, _ := udevLab(t)
	before := semaphores(t)
	daemon := ownUdev(t)
	waits := l.waitForUdev(3 * time.Second)
	require.NoError(t, daemon.Signal(syscall.SIGSTOP)) // or it would be too quick to be killed in between
	created := make(chan error, 1)
	began := time.Now()
	go func() {
		_, err := l.CreateLoaded(context.Background(), l.name("killed"), "", dm.NewTable(64, dm.Zero{}), dm.LoadOptions{})
		created <- err
	}()
	require.Eventually(t, func() bool { return semaphores(t) != before }, time.Minute, time.Millisecond, "nobody waits")
	require.NoError(t, daemon.Kill())
	require.NoError(t, <-created)
	require.Less(t, time.Since(began), 20*time.Second, "the limit is three seconds")
	require.Len(t, *waits, 1)
	require.Equal(t, before, semaphores(t))
	if _, err := os.Stat("/run/systemd/system"); err == nil { // which starts it anew, perhaps in time
		_, err = l.Remove(t.Context(), dm.Name(l.name("killed")), dm.RemoveOptions{Wait: time.Minute})
		require.NoError(t, err)
		return
	}

	require.ErrorIs(t, (*waits)[0], os.ErrDeadlineExceeded)
	t.Cleanup(func() {
		output, err := exec.Command(udevDaemon, "--daemon").CombinedOutput()
		require.NoError(t, err, "%s", output)
	})
	require.FileExists(t, "/run/udev/control")
	info, err := l.Info(t.Context(), dm.Name(l.name("killed")))
	require.NoError(t, err)
	link, err := l.Publish(l.name("killed"), info.Dev)
	require.NoError(t, err)
	target, err := filepath.EvalSymlinks(link)
	require.NoError(t, err)
	require.Equal(t, dm.Path(info.Dev), target)
	_, err = l.Remove(t.Context(), dm.Name(l.name("killed")), dm.RemoveOptions{})
	require.NoError(t, err)
	require.NoError(t, l.Unpublish(l.name("killed")))
	require.NoFileExists(t, link)
	require.Len(t, *waits, 1, "nobody listens, so nobody waits")
	require.Equal(t, before, semaphores(t))
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
