package dm

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"blockstore.dev/blockstore/ioctl"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// cookies collects the event numbers that a kernel is sent.
type cookies struct {
	control
	seen map[string]uint32
	// udev is called with a cookie's base where udev would run.
	udev func(base uint32)
}

func (k *cookies) ioctl(command uint32, buffer *ioctl.DMBuffer) error {
	k.seen[commandName(command)] = buffer.Header().EventNr
	base := buffer.Header().EventNr & 0xffff
	err := k.control.ioctl(command, buffer)
	if err == nil && base != 0 && k.udev != nil {
		buffer.Header().Flags |= ioctl.DM_UEVENT_GENERATED_FLAG
		k.udev(base)
	}
	return err
}

// udevClient is a client in front of a udev that answers with the given function.
func udevClient(t *testing.T, options Options, udev func(base uint32)) (*Client, *cookies) {
	t.Helper()
	kernel := &cookies{control: newFake(), seen: map[string]uint32{}, udev: udev}
	c, err := newClient(kernel, options)
	require.NoError(t, err)
	c.run = t.TempDir()
	listenAsUdev(t, c)
	return c, kernel
}

// listenAsUdev opens the socket by which a udev that runs is known.
func listenAsUdev(t *testing.T, c *Client) {
	t.Helper()
	require.NoError(t, os.Mkdir(filepath.Join(c.run, "udev"), 0o700))
	socket, err := net.Listen("unixpacket", c.run+udevSocket)
	require.NoError(t, err)
	t.Cleanup(func() { _ = socket.Close() }) // may be closed: udev was killed
}

// TestUdevRuns: a daemon that was killed leaves its socket's file.
func TestUdevRuns(t *testing.T) {
	c, _ := fakeClient(t, Options{})
	require.False(t, c.udevRuns())
	require.NoError(t, os.Mkdir(filepath.Join(c.run, "udev"), 0o700))
	socket, err := net.Listen("unixpacket", c.run+udevSocket)
	require.NoError(t, err)
	require.True(t, c.udevRuns())
	socket.(*net.UnixListener).SetUnlinkOnClose(false)
	require.NoError(t, socket.Close())
	require.FileExists(t, c.run+udevSocket)
	require.False(t, c.udevRuns())
}

// semaphore looks a cookie's semaphore up.
func semaphore(base uint32) (int, error) { return ioctl.Semget(cookieMagic|base, 1, 0) }

func complete(t *testing.T, base uint32) {
	id, err := semaphore(base)
	if err == nil {
		err = ioctl.Semtimedop(id, ioctl.Sembuf{SemOp: -1}, time.Second)
	}
	if err != nil {
		t.Error(err)
	}
}

func TestQuietCookieGoesWithEachAnnouncement(t *testing.T) {
	c, kernel := udevClient(t, Options{}, nil)
	addDevice(t, c, "a", "")
	require.Equal(t, uint32(0x4E<<16), kernel.seen["DEV_SUSPEND"])
	require.Zero(t, kernel.seen["DEV_CREATE"])
	require.Zero(t, kernel.seen["TABLE_LOAD"])
	require.NoError(t, c.Rename(t.Context(), "a", "b"))
	require.Equal(t, uint32(0x4E<<16), kernel.seen["DEV_RENAME"])
	_, err := c.Suspend(t.Context(), Name("b"), SuspendOptions{})
	require.NoError(t, err)
	require.Zero(t, kernel.seen["DEV_SUSPEND"], "a suspend raises no uevent")
	_, err = c.Remove(t.Context(), Name("b"), RemoveOptions{})
	require.NoError(t, err)
	require.Equal(t, uint32(0x4E<<16), kernel.seen["DEV_REMOVE"])
}

func TestWaitForUdev(t *testing.T) {
	var waits []error
	var bases []uint32
	options := Options{Udev: UdevWait, UdevTimeout: time.Minute, Observer: func(call Call) {
		if call.Command == udevWaitCall {
			waits = append(waits, call.Err)
		}
	}}
	c, kernel := udevClient(t, options, func(base uint32) {
		bases = append(bases, base)
		time.AfterFunc(10*time.Millisecond, func() { complete(t, base) })
	})
	addDevice(t, c, "a", "")
	_, err := c.Remove(t.Context(), Name("a"), RemoveOptions{})
	require.NoError(t, err)
	require.Equal(t, []error{nil, nil}, waits)
	require.Equal(t, uint32(0x4E), kernel.seen["DEV_REMOVE"]>>16)
	for _, base := range bases {
		_, err := semaphore(base)
		require.ErrorIs(t, err, unix.ENOENT, "a semaphore outlived its wait")
	}
}

// TestUdevWaitIsBounded: a udev that never answers costs the limit, no error, no semaphore.
func TestUdevWaitIsBounded(t *testing.T) {
	for name, c := range map[string]struct {
		limit time.Duration
		ends  bool // the context, once the kernel has been asked
		want  error
	}{
		"limit":   {20 * time.Millisecond, false, os.ErrDeadlineExceeded},
		"context": {time.Hour, true, context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var waits []error
			var base uint32
			options := Options{Udev: UdevWait, UdevTimeout: c.limit, Observer: func(call Call) {
				if call.Command == udevWaitCall {
					waits = append(waits, call.Err)
				}
			}}
			client, _ := udevClient(t, options, func(b uint32) {
				base = b
				if c.ends {
					cancel()
				}
			})
			_, err := client.Create(t.Context(), "a", "")
			require.NoError(t, err)
			_, err = client.Resume(ctx, Name("a"))
			require.NoError(t, err, "the resume has happened")
			require.Len(t, waits, 1)
			require.ErrorIs(t, waits[0], c.want)
			_, err = semaphore(base)
			require.ErrorIs(t, err, unix.ENOENT)
		})
	}
}

// TestNoEventNoWait: without an event, or after an error, nobody would count the semaphore down.
func TestNoEventNoWait(t *testing.T) {
	c, kernel := udevClient(t, Options{Udev: UdevWait, UdevTimeout: time.Hour}, nil)
	_, err := c.Create(t.Context(), "a", "")
	require.NoError(t, err)
	_, err = c.Resume(t.Context(), Name("a"))
	require.NoError(t, err)
	_, err = semaphore(kernel.seen["DEV_SUSPEND"] & 0xffff)
	require.ErrorIs(t, err, unix.ENOENT)
	require.ErrorIs(t, c.Rename(t.Context(), "none", "b"), ErrNotFound)
	_, err = semaphore(kernel.seen["DEV_RENAME"] & 0xffff)
	require.ErrorIs(t, err, unix.ENOENT)
}

func TestNoUdevNoCookie(t *testing.T) {
	c, kernel := udevClient(t, Options{Udev: UdevWait}, nil)
	c.run = t.TempDir()
	addDevice(t, c, "a", "")
	require.Equal(t, uint32(0x4E<<16), kernel.seen["DEV_SUSPEND"])
}

func TestCompletedByHand(t *testing.T) {
	k, err := newCookie()
	require.NoError(t, err)
	time.AfterFunc(10*time.Millisecond, func() {
		if err := k.remove(); err != nil {
			t.Error(err)
		}
	})
	require.NoError(t, k.finish(t.Context(), true, time.Minute))
}
