package dm

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"blockstore.dev/blockstore/ioctl"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

var linearTable = NewTable(2048, Linear{Device: Number{7, 0}})

// addDevice puts a device with an active linear table into a fake kernel.
func addDevice(t *testing.T, c *Client, name, uuid string) Info {
	t.Helper()
	info, err := c.CreateLoaded(t.Context(), name, uuid, linearTable, LoadOptions{})
	require.NoError(t, err)
	return info
}

func TestOpenNegotiatesTheVersion(t *testing.T) {
	kernel := newFake()
	kernel.version = [3]uint32{4, 27, 3}
	c, err := newClient(kernel, Options{})
	require.NoError(t, err)
	require.Equal(t, Version{4, 27, 3}, c.Version())
	require.Equal(t, "4.27.3", c.Version().String())

	kernel.version = [3]uint32{5, 0, 0}
	_, err = newClient(kernel, Options{})
	require.ErrorIs(t, err, ErrNotSupported, "a kernel of another major refuses 4.0.0")
}

func TestOpenNamesWhatIsMissing(t *testing.T) {
	_, err := Open(Options{ControlPath: t.TempDir() + "/control"})
	require.ErrorIs(t, err, ErrNotSupported)
	require.ErrorIs(t, err, unix.ENOENT)
	require.ErrorIs(t, openError(unix.EACCES), ErrPermission)
	require.ErrorIs(t, openError(unix.ENODEV), ErrNotSupported)
	require.ErrorIs(t, openError(unix.EMFILE), unix.EMFILE)
}

func TestCreateLoadedIsThreeCalls(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	c, kernel := fakeClient(t, Options{Observer: func(call Call) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, call.Command+" "+call.Device)
		require.NoError(t, call.Err)
	}})
	seen = nil
	info := addDevice(t, c, "one", "ID-1")
	require.Equal(t, []string{"DEV_CREATE one", "TABLE_LOAD one", "DEV_SUSPEND one"}, seen)
	require.Equal(t, []string{"DEV_CREATE", "TABLE_LOAD", "DEV_SUSPEND"}, kernel.calls)
	require.Equal(t, Info{Name: "one", UUID: "ID-1", Dev: Number{fakeMajor, 0}, Targets: 1, HasActive: true}, info)
	require.Equal(t, "/dev/dm-0", Path(info.Dev))
}

func TestCreateLoadedIsUndone(t *testing.T) {
	for name, command := range map[string]uint32{"load": ioctl.DM_TABLE_LOAD_CMD, "resume": ioctl.DM_DEV_SUSPEND_CMD} {
		t.Run(name, func(t *testing.T) {
			c, kernel := fakeClient(t, Options{})
			kernel.fails[command] = []error{unix.EINVAL}
			_, err := c.CreateLoaded(t.Context(), "one", "", linearTable, LoadOptions{})
			require.ErrorIs(t, err, unix.EINVAL)
			require.Empty(t, kernel.devices)
			kernel.fails[command] = []error{unix.ENOMEM}
			kernel.fails[ioctl.DM_DEV_REMOVE_CMD] = []error{unix.EIO}
			_, err = c.CreateLoaded(t.Context(), "one", "", linearTable, LoadOptions{})
			require.ErrorIs(t, err, unix.ENOMEM)
			require.ErrorIs(t, err, unix.EIO, "a failed undo is joined")
		})
	}
	t.Run("context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		kernel := newFake()
		c, err := newClient(kernel, Options{Observer: func(call Call) {
			if call.Command == "TABLE_LOAD" {
				cancel()
			}
		}})
		require.NoError(t, err)
		_, err = c.CreateLoaded(ctx, "one", "", linearTable, LoadOptions{})
		require.ErrorIs(t, err, context.Canceled)
		require.Empty(t, kernel.devices)
	})
}

func TestLifeOfADevice(t *testing.T) {
	c, kernel := fakeClient(t, Options{})
	ctx := t.Context()
	created := addDevice(t, c, "one", "ID-1")
	for _, ref := range []Ref{Name("one"), UUID("ID-1"), Dev(created.Dev)} {
		info, err := c.Info(ctx, ref)
		require.NoError(t, err)
		require.Equal(t, created, info)
	}
	info, err := c.Suspend(ctx, Name("one"), SuspendOptions{NoFlush: true, SkipLockFS: true})
	require.NoError(t, err)
	require.True(t, info.Suspended)
	info, err = c.Load(ctx, Name("one"), NewTable(8, Zero{}), LoadOptions{ReadOnly: true})
	require.NoError(t, err)
	require.True(t, info.HasInactive)
	_, lines, err := c.Table(ctx, Name("one"), TableOptions{Inactive: true})
	require.NoError(t, err)
	require.Equal(t, []Line{{Length: 8, Type: "zero"}}, lines)
	info, err = c.Clear(ctx, Name("one"))
	require.NoError(t, err)
	require.False(t, info.HasInactive)
	_, err = c.Resume(ctx, Name("one"))
	require.NoError(t, err)
	require.NoError(t, c.Rename(ctx, "one", "two"))
	require.ErrorIs(t, c.Rename(ctx, "one", "three"), ErrNotFound)
	_, lines, err = c.Table(ctx, Name("two"), TableOptions{})
	require.NoError(t, err)
	require.Equal(t, "0 2048 linear 7:0 0", lines[0].String())
	deps, err := c.Deps(ctx, Name("two"))
	require.NoError(t, err)
	require.Equal(t, []Number{{7, 1}, {8, 300}}, deps)
	deferred, err := c.Remove(ctx, UUID("ID-1"), RemoveOptions{})
	require.NoError(t, err)
	require.False(t, deferred)
	require.Empty(t, kernel.devices)
}

func TestSetUUID(t *testing.T) {
	c, _ := fakeClient(t, Options{})
	addDevice(t, c, "one", "")
	require.NoError(t, c.SetUUID(t.Context(), "one", "ID-1"))
	require.ErrorIs(t, c.SetUUID(t.Context(), "one", "ID-2"), unix.EINVAL)
	info, err := c.Info(t.Context(), UUID("ID-1"))
	require.NoError(t, err)
	require.Equal(t, "one", info.Name)
}

func TestExisting(t *testing.T) {
	c, _ := fakeClient(t, Options{})
	addDevice(t, c, "one", "ID-1")
	addDevice(t, c, "two", "")
	_, err := c.Create(t.Context(), "one", "")
	require.ErrorIs(t, err, ErrExists)
	require.ErrorIs(t, err, unix.EBUSY)
	require.NotErrorIs(t, err, ErrBusy)
	_, err = c.Create(t.Context(), "three", "ID-1")
	require.ErrorIs(t, err, ErrExists)
	require.ErrorIs(t, c.Rename(t.Context(), "two", "one"), ErrExists)
}

func TestRemoveBusy(t *testing.T) {
	ctx := t.Context()
	t.Run("at once", func(t *testing.T) {
		c, kernel := fakeClient(t, Options{})
		addDevice(t, c, "one", "")
		kernel.devices[0].busy = true
		_, err := c.Remove(ctx, Name("one"), RemoveOptions{})
		require.ErrorIs(t, err, ErrBusy)
		require.ErrorIs(t, err, unix.EBUSY)
	})
	t.Run("freed in time", func(t *testing.T) {
		c, kernel := fakeClient(t, Options{})
		addDevice(t, c, "one", "")
		kernel.fails[ioctl.DM_DEV_REMOVE_CMD] = []error{unix.EBUSY, unix.EBUSY}
		deferred, err := c.Remove(ctx, Name("one"), RemoveOptions{Wait: time.Minute})
		require.NoError(t, err)
		require.False(t, deferred)
		require.Empty(t, kernel.devices)
	})
	t.Run("deferred", func(t *testing.T) {
		c, kernel := fakeClient(t, Options{})
		addDevice(t, c, "one", "")
		kernel.devices[0].busy = true
		kernel.calls = nil
		deferred, err := c.Remove(ctx, Name("one"), RemoveOptions{Deferred: true})
		require.NoError(t, err)
		require.True(t, deferred)
		require.Equal(t, []string{"DEV_REMOVE"}, kernel.calls)
		info, err := c.Info(ctx, Name("one"))
		require.NoError(t, err)
		require.True(t, info.DeferredRemove)
		require.NoError(t, c.CancelRemove(ctx, Name("one")))
		require.Contains(t, string(kernel.last), "@cancel_deferred_remove\x00")
	})
	t.Run("deferred after waiting", func(t *testing.T) {
		c, kernel := fakeClient(t, Options{})
		addDevice(t, c, "one", "")
		kernel.devices[0].busy = true
		deferred, err := c.Remove(ctx, Name("one"), RemoveOptions{Wait: 5 * time.Millisecond, Deferred: true})
		require.NoError(t, err)
		require.True(t, deferred)
	})
	t.Run("deferral of an idle device", func(t *testing.T) {
		c, _ := fakeClient(t, Options{})
		addDevice(t, c, "one", "")
		deferred, err := c.Remove(ctx, Name("one"), RemoveOptions{Deferred: true})
		require.NoError(t, err)
		require.False(t, deferred)
	})
	t.Run("context ends the wait", func(t *testing.T) {
		c, kernel := fakeClient(t, Options{})
		addDevice(t, c, "one", "")
		kernel.devices[0].busy = true
		ended, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
		defer cancel()
		_, err := c.Remove(ended, Name("one"), RemoveOptions{Wait: time.Hour})
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

func TestInterruptedCallsAreRepeated(t *testing.T) {
	c, kernel := fakeClient(t, Options{})
	addDevice(t, c, "one", "")
	kernel.calls = nil
	kernel.fails[ioctl.DM_DEV_SUSPEND_CMD] = []error{unix.EINTR, unix.EINTR}
	_, err := c.Suspend(t.Context(), Name("one"), SuspendOptions{})
	require.NoError(t, err)
	require.Len(t, kernel.calls, 3)

	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("no longer wanted")
	cancel(why)
	_, err = c.Suspend(ctx, Name("one"), SuspendOptions{})
	require.ErrorIs(t, err, why)
	require.Len(t, kernel.calls, 3, "a context that has ended issues nothing")
}

func TestRepliesGrow(t *testing.T) {
	c, kernel := fakeClient(t, Options{})
	addDevice(t, c, "one", "")
	kernel.status = strings.Repeat("x", 100_000)
	kernel.calls = nil
	_, lines, err := c.Status(t.Context(), Name("one"), StatusOptions{})
	require.NoError(t, err)
	require.Equal(t, kernel.status, lines[0].Params)
	require.Equal(t, []string{"TABLE_STATUS", "TABLE_STATUS", "TABLE_STATUS", "TABLE_STATUS"}, kernel.calls, "16, 32, 64, 128 KiB")

	kernel.status = strings.Repeat("x", maxBuffer)
	_, _, err = c.Status(t.Context(), Name("one"), StatusOptions{})
	require.ErrorIs(t, err, ErrTooLarge)
}

func TestMessages(t *testing.T) {
	c, kernel := fakeClient(t, Options{})
	addDevice(t, c, "one", "")
	reply, err := c.Message(t.Context(), Name("one"), 7, "hello")
	require.NoError(t, err)
	require.Empty(t, reply)
	kernel.reply = "yes indeed"
	reply, err = c.Message(t.Context(), Name("one"), 7, "hello")
	require.NoError(t, err)
	require.Equal(t, "yes indeed", reply)

	kernel.calls = nil
	kernel.reply = strings.Repeat("x", messageSize)
	_, err = c.Message(t.Context(), Name("one"), 0, "hello")
	require.ErrorIs(t, err, ErrTooLarge)
	require.Len(t, kernel.calls, 1, "a message is never sent twice")

	for _, bad := range []string{"", "a\x00b"} {
		_, err = c.Message(t.Context(), Name("one"), 0, bad)
		require.ErrorIs(t, err, ErrInvalid)
	}
}

// TestSmallRequests: the kernel takes as much memory as a request's buffer has, for each of the many requests that a thin
// pool is sent.
func TestSmallRequests(t *testing.T) {
	c, kernel := fakeClient(t, Options{})
	addDevice(t, c, "one", "")
	for _, message := range []string{
		CreateThinMessage(1 << 23), CreateSnapMessage(1<<23, 1<<23), DeleteMessage(1), SetTransactionIDMessage(1, 2),
		ReserveMetadataSnapMessage, ReleaseMetadataSnapMessage,
	} {
		_, err := c.Message(t.Context(), Name("one"), 0, message)
		require.NoError(t, err)
		require.LessOrEqual(t, len(kernel.last), 512, message)
	}
	_, err := c.ThinStatus(t.Context(), Name("one"), StatusOptions{})
	require.ErrorIs(t, err, ErrSyntax, "it is no thin device")
	require.LessOrEqual(t, len(kernel.last), 1024)
}

func TestMessageErrors(t *testing.T) {
	c, kernel := fakeClient(t, Options{})
	addDevice(t, c, "one", "")
	kernel.fails[ioctl.DM_TARGET_MSG_CMD] = []error{unix.EEXIST}
	_, err := c.Message(t.Context(), Name("one"), 0, CreateThinMessage(1))
	require.ErrorIs(t, err, ErrExists)
	require.EqualError(t, err, "TARGET_MSG of one (create_thin 1): name or uuid already in use (file exists)")
	var detailed *Error
	require.ErrorAs(t, err, &detailed)
	require.Equal(t, unix.EEXIST, detailed.Errno)
}

func TestTargets(t *testing.T) {
	c, kernel := fakeClient(t, Options{})
	targets, err := c.Targets(t.Context())
	require.NoError(t, err)
	require.ElementsMatch(t, []TargetVersion{
		{"linear", Version{1, 4, 0}}, {"thin-pool", Version{1, 23, 0}}, {"thin", Version{1, 23, 0}},
	}, targets)
	kernel.calls = nil
	v, err := c.ProbeTarget(t.Context(), "thin")
	require.NoError(t, err)
	require.Equal(t, Version{1, 23, 0}, v)
	require.Len(t, kernel.calls, 2, "thin-pool is probed first: its module brings thin")
	_, err = c.ProbeTarget(t.Context(), "era")
	require.ErrorIs(t, err, ErrNotSupported)
	_, err = c.ProbeTarget(t.Context(), strings.Repeat("x", 16))
	require.ErrorIs(t, err, ErrInvalid)
}

func TestInvalidArgumentsReachNoKernel(t *testing.T) {
	c, kernel := fakeClient(t, Options{})
	ctx := t.Context()
	long := strings.Repeat("n", 128)
	for name, call := range map[string]func() error{
		"empty name":    func() error { _, err := c.Create(ctx, "", ""); return err },
		"long name":     func() error { _, err := c.Create(ctx, long, ""); return err },
		"slash":         func() error { _, err := c.Create(ctx, "a/b", ""); return err },
		"reserved":      func() error { _, err := c.Create(ctx, "control", ""); return err },
		"long uuid":     func() error { _, err := c.Create(ctx, "a", long+"n"); return err },
		"no reference":  func() error { _, err := c.Info(ctx, Ref{}); return err },
		"long lookup":   func() error { _, err := c.Info(ctx, Name(long)); return err },
		"rename to bad": func() error { return c.Rename(ctx, "a", "b/c") },
		"rename of bad": func() error { return c.Rename(ctx, "", "b") },
		"uuid empty":    func() error { return c.SetUUID(ctx, "a", "") },
		"long prefix":   func() error { _, err := c.List(ctx, Prefix{Name: long}); return err },
		"no rows":       func() error { _, err := c.Load(ctx, Name("a"), nil, LoadOptions{}); return err },
		"empty row":     func() error { _, err := c.Load(ctx, Name("a"), NewTable(0, Zero{}), LoadOptions{}); return err },
		"gap": func() error {
			_, err := c.Load(ctx, Name("a"), Table{{Start: 8, Length: 8, Target: Zero{}}}, LoadOptions{})
			return err
		},
		"nil target": func() error { _, err := c.Load(ctx, Name("a"), NewTable(8, nil), LoadOptions{}); return err },
		"long type": func() error {
			_, err := c.CreateLoaded(ctx, "a", "", NewTable(8, Raw{Kind: long}), LoadOptions{})
			return err
		},
		"pool block": func() error {
			_, err := c.CreateLoaded(ctx, "a", "", NewTable(8, ThinPool{BlockSize: 100}), LoadOptions{})
			return err
		},
		"five features": func() error {
			pool := ThinPool{
				BlockSize: 128, SkipBlockZeroing: true, IgnoreDiscard: true, NoDiscardPassdown: true,
				ReadOnly: true, ErrorIfNoSpace: true,
			}
			_, err := c.CreateLoaded(ctx, "a", "", NewTable(8, pool), LoadOptions{})
			return err
		},
		"thin id": func() error {
			_, err := c.CreateLoaded(ctx, "a", "", NewTable(8, Thin{ID: MaxDeviceID + 1}), LoadOptions{})
			return err
		},
	} {
		require.ErrorIs(t, call(), ErrInvalid, name)
	}
	require.Empty(t, kernel.calls)
}

// TestEveryMethodWithEveryErrno: whatever the kernel answers, the error carries command,
// device and errno, and the sentinel that the method's documentation promises.
func TestEveryMethodWithEveryErrno(t *testing.T) {
	c, kernel := fakeClient(t, Options{})
	addDevice(t, c, "one", "")
	ctx := t.Context()
	methods := map[string]struct {
		command uint32
		call    func() error
	}{
		"Create":  {ioctl.DM_DEV_CREATE_CMD, func() error { _, err := c.Create(ctx, "one", ""); return err }},
		"Info":    {ioctl.DM_DEV_STATUS_CMD, func() error { _, err := c.Info(ctx, Name("one")); return err }},
		"Load":    {ioctl.DM_TABLE_LOAD_CMD, func() error { _, err := c.Load(ctx, Name("one"), linearTable, LoadOptions{}); return err }},
		"Clear":   {ioctl.DM_TABLE_CLEAR_CMD, func() error { _, err := c.Clear(ctx, Name("one")); return err }},
		"Suspend": {ioctl.DM_DEV_SUSPEND_CMD, func() error { _, err := c.Suspend(ctx, Name("one"), SuspendOptions{}); return err }},
		"Resume":  {ioctl.DM_DEV_SUSPEND_CMD, func() error { _, err := c.Resume(ctx, Name("one")); return err }},
		"Rename":  {ioctl.DM_DEV_RENAME_CMD, func() error { return c.Rename(ctx, "one", "two") }},
		"SetUUID": {ioctl.DM_DEV_RENAME_CMD, func() error { return c.SetUUID(ctx, "one", "ID") }},
		"Remove":  {ioctl.DM_DEV_REMOVE_CMD, func() error { _, err := c.Remove(ctx, Name("one"), RemoveOptions{}); return err }},
		"Cancel":  {ioctl.DM_TARGET_MSG_CMD, func() error { return c.CancelRemove(ctx, Name("one")) }},
		"Message": {ioctl.DM_TARGET_MSG_CMD, func() error { _, err := c.Message(ctx, Name("one"), 0, "x"); return err }},
		"Status":  {ioctl.DM_TABLE_STATUS_CMD, func() error { _, _, err := c.Status(ctx, Name("one"), StatusOptions{}); return err }},
		"Table":   {ioctl.DM_TABLE_STATUS_CMD, func() error { _, _, err := c.Table(ctx, Name("one"), TableOptions{}); return err }},
		"Pool":    {ioctl.DM_TABLE_STATUS_CMD, func() error { _, err := c.ThinPoolStatus(ctx, Name("one"), StatusOptions{}); return err }},
		"Thin":    {ioctl.DM_TABLE_STATUS_CMD, func() error { _, err := c.ThinStatus(ctx, Name("one"), StatusOptions{}); return err }},
		"Deps":    {ioctl.DM_TABLE_DEPS_CMD, func() error { _, err := c.Deps(ctx, Name("one")); return err }},
		"Holders": {ioctl.DM_DEV_STATUS_CMD, func() error { _, err := c.Holders(ctx, Name("one")); return err }},
		"List":    {ioctl.DM_LIST_DEVICES_CMD, func() error { _, err := c.List(ctx, Prefix{Name: "one"}); return err }},
		"Targets": {ioctl.DM_LIST_VERSIONS_CMD, func() error { _, err := c.Targets(ctx); return err }},
		"Probe":   {ioctl.DM_GET_TARGET_VERSION_CMD, func() error { _, err := c.ProbeTarget(ctx, "one"); return err }},
	}
	errnos := []unix.Errno{
		unix.EPERM, unix.ENXIO, unix.ENOMEM, unix.EACCES, unix.EFAULT, unix.EBUSY, unix.EEXIST, unix.ENODEV,
		unix.EINVAL, unix.ENOTTY, unix.ENOSPC, unix.EROFS, unix.ENODATA, unix.EOPNOTSUPP, unix.EIO, unix.EAGAIN,
	}
	for name, method := range methods {
		for _, errno := range errnos {
			kernel.fails[method.command] = []error{errno}
			err := method.call()
			require.ErrorIs(t, err, errno, "%s", name)
			var detailed *Error
			require.ErrorAs(t, err, &detailed, "%s %s", name, errno)
			require.Equal(t, commandName(method.command), detailed.Command)
			want := map[unix.Errno]error{
				unix.EPERM: ErrPermission, unix.EACCES: ErrPermission, unix.ENXIO: ErrNotFound, unix.EBUSY: ErrBusy,
				unix.EEXIST: ErrExists, unix.ENOTTY: ErrNotSupported,
			}[errno]
			switch {
			case errno == unix.EBUSY && (name == "Create" || name == "Rename" || name == "SetUUID"):
				want = ErrExists
			case errno == unix.EINVAL && name == "Probe":
				want = ErrNotSupported
			}
			require.Equal(t, want, detailed.Kind, "%s %s", name, errno)
			require.Contains(t, err.Error(), detailed.Command)
			require.Contains(t, err.Error(), errno.Error())
		}
	}
	require.Len(t, kernel.devices, 1, "nothing was changed by what failed")
}

func TestParallelUse(t *testing.T) {
	c, kernel := fakeClient(t, Options{})
	var group sync.WaitGroup
	for i := range 16 {
		group.Go(func() {
			name := "dev" + string(rune('a'+i))
			for range 20 {
				if _, err := c.CreateLoaded(t.Context(), name, "", linearTable, LoadOptions{}); err != nil {
					t.Error(err)
				}
				if _, err := c.Remove(t.Context(), Name(name), RemoveOptions{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	require.Empty(t, kernel.devices)
}

func TestClose(t *testing.T) {
	c, kernel := fakeClient(t, Options{})
	require.NoError(t, c.Close())
	require.True(t, kernel.closed)
}
