package dm

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"blockstore.dev/blockstore/ioctl"
	"golang.org/x/sys/unix"
)

// UdevMode says what the events that an operation causes tell udev, and whether somebody
// waits for it.
type UdevMode int

const (
	// UdevQuiet lets udev make its /dev/mapper links but tells its rules to leave the
	// device's content alone: no probing, no scanning, no watch. Nobody waits for
	// udev. That removes the main cause of EBUSY at removal.
	UdevQuiet UdevMode = iota
	// UdevWait does the same and waits, at most Options.UdevTimeout, until udev has
	// finished with the event. It is of use only where udev runs in the same IPC
	// namespace; where none runs nobody waits. A wait that fails or runs out
	// of time does not fail the operation, which has happened: the Observer
	// is told.
	UdevWait
)

// The flags of a cookie, its upper 16 bits (libdevmapper.h): the rules see them as
// DM_UDEV_*_FLAG. Without the primary source's flag they take the event for a spurious one.
const (
	udevNoSubsystemRules = 0x02
	udevNoDiskRules      = 0x04
	udevNoOtherRules     = 0x08
	udevPrimarySource    = 0x40

	// quietCookie has flags only: base 0 stands for no semaphore.
	quietCookie = (udevPrimarySource | udevNoOtherRules | udevNoDiskRules | udevNoSubsystemRules) << 16
	// cookieMagic is the upper half of a cookie's semaphore key; the base is the lower.
	cookieMagic = 0x0D4D << 16
	// udevWaitCall is what the observer sees of a wait.
	udevWaitCall = "UDEV_WAIT"
)

// announced issues one of the commands whose uevents carry a cookie: resume, remove, rename.
func (c *Client) announced(ctx context.Context, r request) (Info, error) {
	r.eventNr = quietCookie
	if err := r.ref.validate(); err != nil {
		return Info{}, err
	}
	r.size = smallBuffer
	if c.options.Udev != UdevWait || !c.udevRuns() {
		return c.info(c.do(ctx, r))
	}
	cookie, err := newCookie()
	if err != nil {
		c.observeUdev(r, err)
		return c.info(c.do(ctx, r))
	}
	r.eventNr |= uint32(cookie.base)
	reply, err := c.do(ctx, r)
	generated := err == nil && reply.Header().Flags&ioctl.DM_UEVENT_GENERATED_FLAG != 0
	c.observeUdev(r, cookie.finish(ctx, generated, c.options.UdevTimeout))
	return c.info(reply, err)
}

func (c *Client) observeUdev(r request, err error) {
	if c.options.Observer != nil {
		c.options.Observer(Call{Command: udevWaitCall, Device: r.ref.String(), Err: err})
	}
}

// udevRuns says whether a udev daemon listens. One that was killed leaves its socket's
// file behind, so the file alone is no answer. Connecting with another type than the
// socket's asks without the daemon's hearing of it: EPROTOTYPE means that somebody has
// it bound, ECONNREFUSED that nobody has (unix(7)).
func (c *Client) udevRuns() bool {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		_, err := os.Stat(c.run + udevSocket)
		return err == nil
	}
	defer unix.Close(fd)
	err = unix.Connect(fd, &unix.SockaddrUnix{Name: c.run + udevSocket})
	return !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.ENOENT)
}

// udevSocket is where udev listens, below the run directory: a SOCK_SEQPACKET socket.
const udevSocket = "/udev/control"

// A cookie is a semaphore that udev's rules count down when they have finished with
// the event that carries its base: libdevmapper's protocol.
type cookie struct {
	base uint16
	id   int
}

// newCookie makes a semaphore that stands at 2: one for the event, one for the waiter.
func newCookie() (cookie, error) {
	for range 16 {
		base := uint16(1 + rand.N(0xffff))
		id, err := ioctl.Semget(cookieMagic|uint32(base), 1, 0o600|ioctl.IPC_CREAT|ioctl.IPC_EXCL)
		if errors.Is(err, unix.EEXIST) {
			continue
		}
		if err != nil {
			return cookie{}, fmt.Errorf("making a semaphore for udev: %w", err)
		}
		made := cookie{base: base, id: id}
		if _, err := ioctl.Semctl(id, ioctl.SETVAL, 2); err != nil {
			return cookie{}, errors.Join(fmt.Errorf("setting udev's semaphore: %w", err), made.remove())
		}
		return made, nil
	}
	return cookie{}, fmt.Errorf("making a semaphore for udev: %w", unix.EEXIST)
}

// finish waits until udev is done with the event, if one was generated, and removes the semaphore
// in any case: it would outlive the process.
func (k cookie) finish(ctx context.Context, generated bool, limit time.Duration) error {
	var err error
	if generated {
		err = k.wait(ctx, limit)
	}
	return errors.Join(err, k.remove())
}

// wait counts the waiter's share down and waits for zero. A semaphore that is gone was
// completed by hand (dmsetup udevcomplete_all).
func (k cookie) wait(ctx context.Context, limit time.Duration) error {
	err := ioctl.Semtimedop(k.id, ioctl.Sembuf{SemOp: -1, SemFlg: ioctl.IPC_NOWAIT}, udevSlice)
	deadline := time.Now().Add(limit)
	for err == nil {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("waiting for udev: %w", context.Cause(ctx))
		}
		err = ioctl.Semtimedop(k.id, ioctl.Sembuf{}, min(udevSlice, max(time.Until(deadline), 0)))
		if err == nil {
			return nil
		}
		repeat := errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR)
		if repeat && time.Now().Before(deadline) {
			err = nil
		}
	}
	switch {
	case errors.Is(err, unix.EIDRM), errors.Is(err, unix.EINVAL):
		return nil
	case errors.Is(err, unix.EAGAIN):
		return fmt.Errorf("waiting for udev for %s: %w", limit, os.ErrDeadlineExceeded)
	}
	return fmt.Errorf("waiting for udev: %w", err)
}

func (k cookie) remove() error {
	if _, err := ioctl.Semctl(k.id, ioctl.IPC_RMID, 0); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EIDRM) {
		return fmt.Errorf("removing udev's semaphore: %w", err)
	}
	return nil
}

// udevSlice is the longest single wait for udev, which ends no sooner for a context.
const udevSlice = 50 * time.Millisecond
