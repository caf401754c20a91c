package zfsds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/ioctl"
	"blockstore.dev/blockstore/zfsds/nvlist"
)

// SendOptions say what Send writes.
type SendOptions struct {
	// Snapshot is what is sent.
	Snapshot string
	// From, if set, is an earlier snapshot of it or its origin: only what changed is sent.
	From string
	// Raw sends blocks as they lie on disk, encrypted ones too.
	Raw bool
}

// ReceiveOptions say what Receive makes of a stream.
type ReceiveOptions struct {
	// Snapshot is the name that what is received gets. Its dataset is made by a whole
	// stream, and exists for an incremental one.
	Snapshot string
	// Origin, if set, is the snapshot that an incremental stream makes a clone of.
	Origin string
	// Force takes the dataset back to its latest snapshot first.
	Force bool
}

// Send writes a snapshot as a stream, zfs-send(8). It ends with the context, and with the
// first error of w.
func (h *Handle) Send(ctx context.Context, w io.Writer, o SendOptions) error {
	checks := []error{checkSnapshot(o.Snapshot)}
	if o.From != "" {
		checks = append(checks, checkSnapshot(o.From))
	}
	if err := ready(ctx, checks...); err != nil {
		return err
	}
	return failure(opSend, o.Snapshot, h.send(ctx, w, o))
}

// Receive makes a snapshot of a stream. The stream says what it holds, and is not trusted: the
// kernel checks it. A stream of several snapshots (zfs send -R) is refused. What was made of a
// stream that broke off is taken away again.
func (h *Handle) Receive(ctx context.Context, r io.Reader, o ReceiveOptions) error {
	checks := []error{checkSnapshot(o.Snapshot)}
	if o.Origin != "" {
		checks = append(checks, checkSnapshot(o.Origin))
	}
	if err := ready(ctx, checks...); err != nil {
		return err
	}
	return failure(opReceive, o.Snapshot, h.receive(ctx, r, o))
}

// piped runs work, undisturbed, on one end of a pipe and copies at the other, until both have ended.
// The module takes nothing but pipes from Linux 5.10 on.
func piped(ctx context.Context, copying func(end *os.File) error, working func(end *os.File) error, reading bool) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	mine, theirs := r, w
	if reading {
		mine, theirs = w, r
	}
	stop := context.AfterFunc(ctx, func() { mine.Close() })
	defer stop()
	copied := make(chan error, 1)
	go func() {
		err := copying(mine)
		copied <- errors.Join(err, ignoreClosed(mine.Close()))
	}()
	err = undisturbed(func() error { return working(theirs) })
	closed := theirs.Close()
	copyErr := <-copied
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case copyErr != nil && (err == nil || errors.Is(err, unix.EPIPE) || errors.Is(err, unix.EINTR)):
		return copyErr
	}
	return errors.Join(err, closed)
}

func ignoreClosed(err error) error {
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

func (k *kernel) send(ctx context.Context, w io.Writer, o SendOptions) error {
	copying := func(end *os.File) error {
		_, err := io.Copy(w, end)
		return err
	}
	return piped(ctx, copying, func(end *os.File) error {
		arguments := new(nvlist.List).Set("fd", int32(end.Fd()))
		if o.From != "" {
			arguments.Set("fromsnap", o.From)
		}
		for _, flag := range []string{"largeblockok", "embedok", "compressok"} {
			arguments.Set(flag, nvlist.Flag{})
		}
		if o.Raw {
			arguments.Set("rawok", nvlist.Flag{})
		}
		_, _, err := k.do(request{number: ioctl.ZFS_IOC_SEND_NEW, name: o.Snapshot, arguments: arguments})
		return err
	}, false)
}

func (k *kernel) receive(ctx context.Context, r io.Reader, o ReceiveOptions) error {
	// The first record is an argument, the rest comes through the pipe.
	begin := make([]byte, ioctl.ZFSBeginRecordSize)
	if _, err := io.ReadFull(r, begin); err != nil {
		return fmt.Errorf("%w: the stream's first record: %w", ErrInvalid, err)
	}
	copying := func(end *os.File) error {
		_, err := io.Copy(end, r)
		if errors.Is(err, unix.EPIPE) { // the module has what it wants, or says itself what is wrong
			err = nil
		}
		return err
	}
	return piped(ctx, copying, func(end *os.File) error {
		arguments := new(nvlist.List).Set("snapname", o.Snapshot).Set("input_fd", int32(end.Fd())).Set("begin_record", begin)
		if o.Origin != "" {
			arguments.Set("origin", o.Origin)
		}
		if o.Force {
			arguments.Set("force", nvlist.Flag{})
		}
		_, _, err := k.do(request{number: ioctl.ZFS_IOC_RECV_NEW, name: Dataset{Name: o.Snapshot}.Parent(), arguments: arguments, room: firstRoom})
		return err
	}, true)
}

func (*commands) send(ctx context.Context, w io.Writer, o SendOptions) error {
	arguments := []string{"send", "-L", "-e", "-c"}
	if o.Raw {
		arguments = append(arguments, "-w")
	}
	if o.From != "" {
		arguments = append(arguments, "-i", o.From)
	}
	return runWith(ctx, nil, w, "zfs", append(arguments, o.Snapshot)...)
}

func (*commands) receive(ctx context.Context, r io.Reader, o ReceiveOptions) error {
	arguments := []string{"receive", "-u"}
	if o.Origin != "" {
		arguments = append(arguments, "-o", "origin="+o.Origin)
	}
	if o.Force {
		arguments = append(arguments, "-F")
	}
	return runWith(ctx, r, io.Discard, "zfs", append(arguments, o.Snapshot)...)
}
