package dm_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"blockstore.dev/blockstore/dm"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// These tests use the running kernel's device-mapper. Without one they are skipped; they run
// in User Mode Linux (vagrant/uml/run).

// A lab is a client of the running kernel whose devices are this test's own.
type lab struct {
	*dm.Client
	t      *testing.T
	prefix string

	mu    sync.Mutex
	calls []string
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{t: t, prefix: fmt.Sprintf("bstest-%d-", os.Getpid())}
	client, err := dm.Open(dm.Options{Observer: l.observe})
	if errors.Is(err, dm.ErrNotSupported) || errors.Is(err, dm.ErrPermission) {
		t.Skip("no device-mapper in this kernel")
	}
	require.NoError(t, err)
	l.Client = client
	t.Cleanup(l.close)
	l.take()
	return l
}

// close ends the test with a leak check: its devices must be gone.
func (l *lab) close() {
	devices, err := l.List(context.Background(), dm.Prefix{Name: l.prefix})
	if err != nil || len(devices) > 0 {
		l.t.Errorf("left behind: %v, %v", devices, err)
	}
	if err := l.Close(); err != nil {
		l.t.Error(err)
	}
}

func (l *lab) observe(call dm.Call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls = append(l.calls, call.Command)
}

// take returns the ioctls since the last time.
func (l *lab) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	calls := l.calls
	l.calls = nil
	return calls
}

func (l *lab) name(suffix string) string { return l.prefix + suffix }

// device makes a device that is removed when the test ends, and opens nothing.
func (l *lab) device(suffix, uuid string, table dm.Table) dm.Info {
	l.t.Helper()
	info, err := l.CreateLoaded(l.t.Context(), l.name(suffix), uuid, table, dm.LoadOptions{})
	require.NoError(l.t, err)
	l.removeLater(suffix)
	return info
}

// removeLater removes the device at the test's end unless the test has done so.
func (l *lab) removeLater(suffix string) {
	l.t.Cleanup(func() {
		_, err := l.Remove(context.Background(), dm.Name(l.name(suffix)), dm.RemoveOptions{Wait: 5 * time.Second})
		if err != nil && !errors.Is(err, dm.ErrNotFound) {
			l.t.Error(err)
		}
	})
}

// loop makes a loop device over a sparse file; it ends with the test.
func loop(t *testing.T, size int64) dm.Number {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	require.NoError(t, err)
	defer file.Close()
	require.NoError(t, file.Truncate(size))
	control, err := unix.Open("/dev/loop-control", unix.O_RDWR|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(control)
	for {
		index, err := unix.IoctlRetInt(control, unix.LOOP_CTL_GET_FREE)
		require.NoError(t, err)
		fd, err := unix.Open(fmt.Sprintf("/dev/loop%d", index), unix.O_RDWR|unix.O_CLOEXEC, 0)
		require.NoError(t, err)
		err = unix.IoctlLoopConfigure(fd, &unix.LoopConfig{Fd: uint32(file.Fd())})
		if errors.Is(err, unix.EBUSY) { // somebody else was quicker
			require.NoError(t, unix.Close(fd))
			continue
		}
		require.NoError(t, err)
		t.Cleanup(func() {
			_, _, errno := ioctlValue(fd, unix.LOOP_CLR_FD)
			if err := unix.Close(fd); err != nil || errno != nil {
				t.Error(err, errno)
			}
		})
		number, err := dm.BlockDeviceNumber(fmt.Sprintf("/dev/loop%d", index))
		require.NoError(t, err)
		return number
	}
}

func ioctlValue(fd int, request uint) (int, int, error) {
	return 0, 0, unix.IoctlSetInt(fd, request, 0)
}

func TestKernelLifeOfALinearDevice(t *testing.T) {
	l := newLab(t)
	ctx := t.Context()
	disk := loop(t, 4<<20)
	uuid := "BSTEST-" + l.name("linear")
	info := l.device("linear", uuid, dm.NewTable(2048, dm.Linear{Device: disk}).Append(1024, dm.ErrorTarget{}))
	require.Equal(t, []string{"DEV_CREATE", "TABLE_LOAD", "DEV_SUSPEND"}, l.take())
	require.Equal(t, uuid, info.UUID)
	require.Equal(t, 2, info.Targets)
	require.True(t, info.HasActive && !info.HasInactive && !info.Suspended && !info.ReadOnly)

	node, err := dm.OpenDevice(info.Dev, os.O_RDWR)
	require.NoError(t, err)
	_, err = node.WriteAt([]byte(strings.Repeat("x", 4096)), 4096)
	require.NoError(t, err)
	require.NoError(t, node.Sync())
	require.NoError(t, node.Close())

	for _, ref := range []dm.Ref{dm.Name(l.name("linear")), dm.UUID(uuid), dm.Dev(info.Dev)} {
		found, err := l.Info(ctx, ref)
		require.NoError(t, err)
		require.Equal(t, info.Dev, found.Dev)
		require.Equal(t, info.Name, found.Name)
	}
	_, lines, err := l.Table(ctx, dm.UUID(uuid), dm.TableOptions{})
	require.NoError(t, err)
	table, err := dm.ParseTable(lines)
	require.NoError(t, err)
	require.Equal(t, dm.NewTable(2048, dm.Linear{Device: disk}).Append(1024, dm.ErrorTarget{}), table)
	deps, err := l.Deps(ctx, dm.UUID(uuid))
	require.NoError(t, err)
	require.Equal(t, []dm.Number{disk}, deps)

	_, err = l.Create(ctx, l.name("linear"), "")
	require.ErrorIs(t, err, dm.ErrExists)
	_, err = l.Create(ctx, l.name("other"), uuid)
	require.ErrorIs(t, err, dm.ErrExists)
	_, err = l.Remove(ctx, dm.UUID(uuid), dm.RemoveOptions{})
	require.NoError(t, err)
	_, err = l.Info(ctx, dm.UUID(uuid))
	require.ErrorIs(t, err, dm.ErrNotFound)
	require.ErrorIs(t, err, unix.ENXIO)
	_, err = dm.OpenDevice(info.Dev, os.O_RDONLY)
	require.Error(t, err, "the node must be gone or another device's")
}

func TestKernelRefusedLoadIsUndone(t *testing.T) {
	l := newLab(t)
	_, err := l.CreateLoaded(t.Context(), l.name("bad"), "", dm.NewTable(8, dm.Linear{Device: dm.Number{Major: 4000, Minor: 1}}), dm.LoadOptions{})
	require.Error(t, err)
	_, err = l.Info(t.Context(), dm.Name(l.name("bad")))
	require.ErrorIs(t, err, dm.ErrNotFound)
	_, err = l.CreateLoaded(t.Context(), l.name("bad"), "", dm.NewTable(8, dm.Raw{Kind: "no-such", Text: "1"}), dm.LoadOptions{})
	require.ErrorIs(t, err, unix.EINVAL)
}

func TestKernelSuspendSwapResume(t *testing.T) {
	l := newLab(t)
	ctx := t.Context()
	ref := dm.Name(l.name("swap"))
	l.device("swap", "", dm.NewTable(64, dm.Zero{}))
	for _, options := range []dm.SuspendOptions{{}, {NoFlush: true}, {SkipLockFS: true}, {NoFlush: true, SkipLockFS: true}} {
		info, err := l.Suspend(ctx, ref, options)
		require.NoError(t, err)
		require.True(t, info.Suspended)
		info, err = l.Resume(ctx, ref)
		require.NoError(t, err)
		require.False(t, info.Suspended)
	}
	info, err := l.Load(ctx, ref, dm.NewTable(128, dm.ErrorTarget{}), dm.LoadOptions{ReadOnly: true})
	require.NoError(t, err)
	require.True(t, info.HasInactive)
	_, lines, err := l.Table(ctx, ref, dm.TableOptions{Inactive: true})
	require.NoError(t, err)
	require.Equal(t, []dm.Line{{Length: 128, Type: "error"}}, lines)
	info, err = l.Resume(ctx, ref)
	require.NoError(t, err)
	require.True(t, info.ReadOnly && info.HasActive && !info.HasInactive)
	_, err = l.Load(ctx, ref, dm.NewTable(64, dm.Zero{}), dm.LoadOptions{})
	require.NoError(t, err)
	info, err = l.Clear(ctx, ref)
	require.NoError(t, err)
	require.False(t, info.HasInactive)
}

func TestKernelRename(t *testing.T) {
	l := newLab(t)
	ctx := t.Context()
	l.device("old", "", dm.NewTable(64, dm.Zero{}))
	l.device("other", "", dm.NewTable(64, dm.Zero{}))
	l.removeLater("new")
	require.ErrorIs(t, l.Rename(ctx, l.name("old"), l.name("other")), dm.ErrExists)
	require.NoError(t, l.SetUUID(ctx, l.name("old"), "BSTEST-"+l.name("late")))
	require.ErrorIs(t, l.SetUUID(ctx, l.name("old"), "BSTEST-again"), unix.EINVAL)
	require.NoError(t, l.Rename(ctx, l.name("old"), l.name("new")))
	info, err := l.Info(ctx, dm.UUID("BSTEST-"+l.name("late")))
	require.NoError(t, err)
	require.Equal(t, l.name("new"), info.Name)
	require.ErrorIs(t, l.Rename(ctx, l.name("old"), l.name("third")), dm.ErrNotFound)
}

func TestKernelList(t *testing.T) {
	l := newLab(t)
	ctx := t.Context()
	for i := range 5 {
		uuid := ""
		if i%2 == 0 {
			uuid = fmt.Sprintf("BSTEST-%s%d", l.prefix, i)
		}
		l.device(fmt.Sprint("list", i), uuid, dm.NewTable(8, dm.Zero{}))
	}
	names := func(prefix dm.Prefix) (names []string) {
		l.take()
		devices, err := l.List(ctx, prefix)
		require.NoError(t, err)
		require.Equal(t, []string{"LIST_DEVICES"}, l.take())
		for _, d := range devices {
			info, err := l.Info(ctx, dm.Name(d.Name))
			require.NoError(t, err)
			require.Equal(t, dm.Device{Name: info.Name, UUID: info.UUID, Dev: info.Dev, EventNr: info.EventNr}, d)
			names = append(names, strings.TrimPrefix(d.Name, l.prefix))
		}
		return names
	}
	require.Equal(t, []string{"list0", "list1", "list2", "list3", "list4"}, names(dm.Prefix{Name: l.prefix}))
	require.Equal(t, []string{"list0", "list2", "list4"}, names(dm.Prefix{Name: l.prefix, UUID: "BSTEST-"}))
	require.Equal(t, []string{"list2"}, names(dm.Prefix{UUID: "BSTEST-" + l.prefix + "2"}))
	require.Empty(t, names(dm.Prefix{Name: "no-such-device"}))
}

// TestKernelLongReply fills more than the first buffer.
func TestKernelLongReply(t *testing.T) {
	l := newLab(t)
	var table dm.Table
	for range 600 {
		table = table.Append(8, dm.Zero{}).Append(8, dm.ErrorTarget{})
	}
	l.device("long", "", table)
	l.take()
	_, lines, err := l.Table(t.Context(), dm.Name(l.name("long")), dm.TableOptions{})
	require.NoError(t, err)
	require.Equal(t, []string{"TABLE_STATUS", "TABLE_STATUS", "TABLE_STATUS", "TABLE_STATUS"}, l.take(), "48 bytes a row: 1, 16, 32, 64 KiB")
	read, err := dm.ParseTable(lines)
	require.NoError(t, err)
	require.Equal(t, table, read)
}

func TestKernelBusyNamesItsHolders(t *testing.T) {
	l := newLab(t)
	ctx := t.Context()
	below := l.device("below", "", dm.NewTable(64, dm.Zero{}))
	above := l.device("above", "", dm.NewTable(32, dm.Linear{Device: below.Dev, Offset: 32}))
	_, err := l.Remove(ctx, dm.Dev(below.Dev), dm.RemoveOptions{})
	require.ErrorIs(t, err, dm.ErrBusy)
	var busy *dm.Error
	require.ErrorAs(t, err, &busy)
	require.Equal(t, []dm.Holder{{Device: l.name("above")}}, busy.Holders)

	node, err := dm.OpenDevice(above.Dev, os.O_RDONLY)
	require.NoError(t, err)
	_, err = l.Remove(ctx, dm.Dev(above.Dev), dm.RemoveOptions{Wait: 20 * time.Millisecond})
	require.ErrorAs(t, err, &busy)
	require.Len(t, busy.Holders, 1)
	require.Equal(t, os.Getpid(), busy.Holders[0].PID)
	require.NotEmpty(t, busy.Holders[0].Command)

	released := make(chan error)
	time.AfterFunc(50*time.Millisecond, func() { released <- node.Close() })
	deferred, err := l.Remove(ctx, dm.Dev(above.Dev), dm.RemoveOptions{Wait: time.Minute})
	require.NoError(t, <-released)
	require.NoError(t, err)
	require.False(t, deferred)
}

func TestKernelDeferredRemoval(t *testing.T) {
	l := newLab(t)
	ctx := t.Context()
	info := l.device("deferred", "", dm.NewTable(64, dm.Zero{}))
	node, err := dm.OpenDevice(info.Dev, os.O_RDONLY)
	require.NoError(t, err)
	watcher, err := l.Watch(dm.Prefix{Name: l.prefix})
	require.NoError(t, err)
	defer watcher.Close()
	_, err = watcher.Next(ctx)
	require.NoError(t, err)

	for _, wait := range []time.Duration{0, 5 * time.Millisecond} {
		deferred, err := l.Remove(ctx, dm.Dev(info.Dev), dm.RemoveOptions{Deferred: true, Wait: wait})
		require.NoError(t, err)
		require.True(t, deferred)
		found, err := l.Info(ctx, dm.Dev(info.Dev))
		require.NoError(t, err)
		require.True(t, found.DeferredRemove)
		if wait == 0 {
			require.NoError(t, l.CancelRemove(ctx, dm.Dev(info.Dev)))
			found, err = l.Info(ctx, dm.Dev(info.Dev))
			require.NoError(t, err)
			require.False(t, found.DeferredRemove)
		}
	}
	require.NoError(t, node.Close())
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		changes, err := watcher.Next(ctx)
		require.NoError(t, err, "the last close removes the device")
		if changes[0].Kind == dm.Removed {
			return
		}
	}
}

func TestKernelMount(t *testing.T) {
	l := newLab(t)
	if _, err := os.Stat("/usr/sbin/mkfs.ext4"); err != nil {
		t.Skip("no mkfs.ext4")
	}
	disk := loop(t, 16<<20)
	info := l.device("mounted", "", dm.NewTable(32768, dm.Linear{Device: disk}))
	mkfs(t, dm.Path(info.Dev))
	dir := filepath.Join(t.TempDir(), "a b")
	require.NoError(t, os.Mkdir(dir, 0o700))
	require.NoError(t, unix.Mount(dm.Path(info.Dev), dir, "ext4", 0, ""))
	holders, err := l.Holders(t.Context(), dm.Dev(info.Dev))
	require.NoError(t, unix.Unmount(dir, 0))
	require.NoError(t, err)
	require.NotEmpty(t, holders)
	require.Equal(t, dir, holders[0].Mount)
	require.Contains(t, holders[0].String(), "mount "+dir)
}

func TestKernelTargets(t *testing.T) {
	l := newLab(t)
	_, err := l.ProbeTarget(t.Context(), "thin")
	require.NoError(t, err)
	_, err = l.ProbeTarget(t.Context(), "no-such")
	require.ErrorIs(t, err, dm.ErrNotSupported)
	targets, err := l.Targets(t.Context())
	require.NoError(t, err)
	names := map[string]bool{}
	for _, target := range targets {
		names[target.Name] = true
	}
	for _, name := range []string{"linear", "striped", "error", "thin-pool", "thin"} {
		require.True(t, names[name], name)
	}
}

// TestKernelMessageReply: dm's own messages answer to any target.
func TestKernelMessageReply(t *testing.T) {
	l := newLab(t)
	info := l.device("stats", "", dm.NewTable(64, dm.Zero{}))
	reply, err := l.Message(t.Context(), dm.Dev(info.Dev), 0, "@stats_create - /1")
	require.NoError(t, err)
	require.Equal(t, "0", reply)
	reply, err = l.Message(t.Context(), dm.Dev(info.Dev), 0, "@stats_list")
	require.NoError(t, err)
	require.Equal(t, "0: 0+64 64 - -\n", reply)
	_, err = l.Message(t.Context(), dm.Dev(info.Dev), 0, "no such message")
	require.ErrorIs(t, err, unix.EINVAL)
}

func TestKernelClosedClient(t *testing.T) {
	newLab(t)
	client, err := dm.Open(dm.Options{})
	require.NoError(t, err)
	require.NoError(t, client.Close())
	_, err = client.List(t.Context(), dm.Prefix{})
	require.ErrorIs(t, err, dm.ErrClosed)
}

// TestKernelDeviceWithoutNode: a container may have no devtmpfs; the device opens all the same.
func TestKernelDeviceWithoutNode(t *testing.T) {
	if os.Getenv("BLOCKSTORE_MACHINE") == "" {
		t.Skip("no device-mapper in a machine of our own, whose /dev could be changed")
	}
	l := newLab(t)
	info := l.device("nodeless", "", dm.NewTable(64, dm.Zero{}))
	require.NoError(t, os.Remove(dm.Path(info.Dev)))
	t.Setenv("TMPDIR", "/dev") // systemd mounts the others with nodev
	file, err := dm.OpenDevice(info.Dev, os.O_RDWR)
	require.NoError(t, err)
	_, err = file.Write(make([]byte, 512))
	require.NoError(t, err)
	require.NoError(t, file.Close())

	// Another device's node in the way is no such device.
	require.NoError(t, unix.Mknod(dm.Path(info.Dev), unix.S_IFCHR|0o600, int(dm.Number{Major: 1, Minor: 3}.Dev())))
	_, err = dm.OpenDevice(info.Dev, os.O_RDWR)
	require.ErrorIs(t, err, dm.ErrNotFound)
	require.NoError(t, os.Remove(dm.Path(info.Dev)))
	left, err := filepath.Glob("/dev/dm-node-*")
	require.NoError(t, err)
	require.Empty(t, left)
}
