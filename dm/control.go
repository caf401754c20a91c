package dm

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"blockstore.dev/blockstore/ioctl"
	"golang.org/x/sys/unix"
)

// DefaultControlPath is where the kernel's control device is found.
const DefaultControlPath = "/dev/mapper/control"

// A control is the seam between the client and the kernel: one function from
// request to reply, and a way to wait. Tests put a fake kernel here.
type control interface {
	// ioctl issues one command; the reply replaces the buffer. Its error is an errno.
	ioctl(command uint32, buffer *ioctl.DMBuffer) error
	// events opens the waiting side, with its own position in the event stream.
	events() (poller, error)
	Close() error
}

// A poller waits on the control device's events.
type poller interface {
	// wait calls step until it returns true or the deadline passes
	// (os.ErrDeadlineExceeded), again each time the device becomes readable. step's
	// argument arms the poller: it makes the device unreadable until the next event.
	wait(step func(arm func(*ioctl.DMBuffer) error) bool) error
	setDeadline(time.Time) error
	Close() error
}

// kernelControl is the control device of the running kernel.
type kernelControl struct {
	path string
	file *os.File
}

func openControl(path string) (*kernelControl, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, openError(err)
	}
	return &kernelControl{path: path, file: file}, nil
}

// openError adds what the errno means for somebody who wants device-mapper.
func openError(err error) error {
	switch {
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fmt.Errorf("opening device-mapper: %w: %w", ErrPermission, err)
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return fmt.Errorf("opening device-mapper: %w (no device-mapper in this kernel, or its module dm-mod is not loaded): %w",
			ErrNotSupported, err)
	}
	return fmt.Errorf("opening device-mapper: %w", err)
}

func (k *kernelControl) ioctl(command uint32, buffer *ioctl.DMBuffer) error {
	raw, err := k.file.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	if err := raw.Control(func(fd uintptr) { result = ioctl.DMCall(int(fd), command, buffer) }); err != nil {
		return ErrClosed
	}
	return result
}

func (k *kernelControl) events() (poller, error) {
	file, err := os.OpenFile(k.path, os.O_RDWR, 0)
	if err != nil {
		return nil, openError(err)
	}
	return &kernelPoller{file: file}, nil
}

func (k *kernelControl) Close() error { return k.file.Close() }

// kernelPoller waits with the runtime's network poller, so that a waiting goroutine
// holds no thread and a deadline ends the wait. The file is touched through
// SyscallConn only: File.Fd would make it blocking.
type kernelPoller struct {
	file   *os.File
	closed atomic.Bool
}

func (p *kernelPoller) wait(step func(arm func(*ioctl.DMBuffer) error) bool) error {
	raw, err := p.file.SyscallConn()
	if err != nil {
		return p.orClosed(err)
	}
	return p.orClosed(raw.Read(func(fd uintptr) bool {
		return step(func(buffer *ioctl.DMBuffer) error {
			return ioctl.DMCall(int(fd), ioctl.DM_DEV_ARM_POLL_CMD, buffer)
		})
	}))
}

func (p *kernelPoller) setDeadline(t time.Time) error { return p.orClosed(p.file.SetReadDeadline(t)) }

func (p *kernelPoller) Close() error {
	p.closed.Store(true)
	return p.file.Close()
}

// orClosed is os.ErrClosed for an error of a closed file: the runtime's own has no name.
func (p *kernelPoller) orClosed(err error) error {
	if err != nil && p.closed.Load() {
		return os.ErrClosed
	}
	return err
}
