package dm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"blockstore.dev/blockstore/ioctl"
	"golang.org/x/sys/unix"
)

// Options are how a client is opened; the zero value is what almost everybody wants.
type Options struct {
	// ControlPath is the control device, by default [DefaultControlPath].
	ControlPath string
	// Observer, if set, is called after each ioctl, from the goroutine that issued
	// it, so it must be safe for concurrent use. Tests count ioctls with it.
	Observer func(Call)
	// Udev says what udev is told and whether it is waited for; by default [UdevQuiet].
	Udev UdevMode
	// UdevTimeout bounds the wait of [UdevWait], by default 10 seconds.
	UdevTimeout time.Duration
}

// A Call is one ioctl that was issued.
type Call struct {
	// Command is the kernel's name of the command: "DEV_CREATE". The wait for udev
	// is reported as "UDEV_WAIT", though it is no ioctl.
	Command string
	// Device is the name, uuid or major:minor that the command was about.
	Device string
	// Err is the kernel's answer: nil or an errno.
	Err error
}

// A Version is an interface's or a target's version.
type Version struct {
	Major, Minor, Patch uint32
}

func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch) }

// A Client issues device-mapper commands. It holds one open control device, no other
// state about the kernel, and is safe for concurrent use: commands about different
// devices run in parallel, as in the kernel.
//
// A context bounds what a client repeats or waits for. A single ioctl cannot be
// interrupted: a Suspend that waits for I/O returns when the I/O is done.
type Client struct {
	control control
	options Options
	version Version
	sys     string // where sysfs is mounted
	proc    string // where procfs is mounted
	dev     string // where device nodes are
	run     string // where udev has its control socket
}

// Open opens the control device and asks the kernel for its interface's version.
// The errors are [ErrPermission] without the rights and [ErrNotSupported] on a
// kernel without device-mapper or with another major version than 4.
func Open(options Options) (*Client, error) {
	if options.ControlPath == "" {
		options.ControlPath = DefaultControlPath
	}
	control, err := openControl(options.ControlPath)
	if err != nil {
		return nil, err
	}
	client, err := newClient(control, options)
	if err != nil {
		_ = control.Close() // the version's error is the one that tells
		return nil, err
	}
	return client, nil
}

func newClient(control control, options Options) (*Client, error) {
	if options.UdevTimeout == 0 {
		options.UdevTimeout = 10 * time.Second
	}
	c := &Client{control: control, options: options, sys: "/sys", proc: "/proc", dev: "/dev", run: "/run"}
	reply, err := c.do(context.Background(), request{command: ioctl.DM_VERSION_CMD, size: smallBuffer})
	if errors.Is(err, unix.EINVAL) { // the only reason for which VERSION is refused so
		return nil, fmt.Errorf("%w: device-mapper's interface is not %d.x: %w", ErrNotSupported, interfaceMajor, err)
	}
	if err != nil {
		return nil, fmt.Errorf("asking for device-mapper's version: %w", err)
	}
	v := reply.Header().Version
	c.version = Version{Major: v[0], Minor: v[1], Patch: v[2]}
	return c, nil
}

// Version is the kernel's interface version, read once by Open.
func (c *Client) Version() Version { return c.version }

// Close releases the control device. Commands that are under way finish; later ones
// report [ErrClosed]. Devices stay as they are.
func (c *Client) Close() error { return c.control.Close() }
