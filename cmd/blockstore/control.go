package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// maxCallers is how many command lines a server works for at once.
const maxCallers = 128

// control is the door of the command line: it does verbs for other processes, on
// the store that the server has open.
type control struct {
	hello hello
	log   *slog.Logger
	// verbs is the life of all verbs; it outlives the listening, so that what was
	// begun can end.
	verbs context.Context
	// newVerb makes the app that does one call.
	newVerb func(by caller, stdin, stdout, stderr *os.File) *app
}

// Serve works for everybody who calls, and returns when ctx is done and the last
// verb has ended.
func (c *control) Serve(ctx context.Context, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	var callers sync.WaitGroup
	defer callers.Wait()
	slots := make(chan struct{}, maxCallers)
	for {
		conn, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = conn.Close()
			}
			return nil
		case errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ECONNABORTED):
			c.log.Warn("accepting a command line", "error", err)
			select { // until descriptors are free again
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		case err != nil:
			return fmt.Errorf("listening for the command line: %w", err)
		}
		select {
		case slots <- struct{}{}:
			callers.Go(func() {
				defer func() { <-slots }()
				c.answer(ctx, conn.(*net.UnixConn))
			})
		default:
			c.refuse(conn, fmt.Sprintf("it has %d verbs in work; try again later", maxCallers))
		}
	}
}

func (c *control) refuse(conn net.Conn, why string) {
	h := c.hello
	h.Refused = why
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	_ = writeFrame(conn, h)
	_ = conn.Close()
}

// answer is one connection: handshake, verb, exit code.
func (c *control) answer(ctx context.Context, conn *net.UnixConn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(handshakeWait))
	// Who has not asked for anything yet when the server stops asks in vain.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	defer stop()
	by, err := peerOf(conn)
	if err != nil {
		c.log.Warn("a command line without credentials", "error", err)
		return
	}
	if err := mayCall(by); err != nil {
		c.log.Warn("refused a command line", "pid", by.Pid, "uid", by.Uid)
		c.refuse(conn, err.Error())
		return
	}
	if err := writeFrame(conn, c.hello); err != nil {
		return
	}
	asked, fds, err := receiveCall(conn)
	if err != nil {
		if !errors.Is(err, io.EOF) { // who only looks says nothing
			c.log.Warn("a command line that cannot be understood", "pid", by.Pid, "error", err)
		}
		return
	}
	if !stop() || writeFrame(conn, answer{Begun: true}) != nil {
		closeAll(fds)
		return
	}
	_ = conn.SetDeadline(time.Time{})
	code := c.work(conn, asked, newCaller(int(by.Pid), string(asked.Dir)), fds)
	_ = conn.SetDeadline(time.Now().Add(handshakeWait))
	_ = writeFrame(conn, answer{Code: &code})
}

// mayCall: who talks to a server has its rights.
func mayCall(by *unix.Ucred) error {
	if by.Uid != 0 {
		return fmt.Errorf("user %d: %w", by.Uid, errNotRoot)
	}
	return nil
}

// work does a verb on the caller's own streams. They are closed before the caller
// hears of the end, so that who reads from them sees an end too.
func (c *control) work(conn *net.UnixConn, asked call, by caller, fds []int) (code int) {
	streams := make([]*os.File, len(fds))
	for i, name := range []string{"stdin", "stdout", "stderr"} {
		streams[i] = ownStream(fds[i], name)
	}
	ctx, cancel := context.WithCancel(c.verbs)
	var listening sync.WaitGroup
	listening.Go(func() {
		if listen(conn, cancel) {
			return
		}
		for _, f := range streams { // nobody reads on the other end
			_ = f.SetDeadline(time.Now())
		}
	})
	defer func() {
		cancel()
		for _, f := range streams {
			_ = f.Close()
		}
		_ = conn.SetReadDeadline(time.Now())
		listening.Wait()
	}()
	a := c.newVerb(by, streams[0], streams[1], streams[2])
	args := make([]string, len(asked.Args))
	for i, arg := range asked.Args {
		args[i] = string(arg)
	}
	start := time.Now()
	code = c.run(ctx, a, args)
	c.log.Debug("did a verb for a command line", "pid", by.pid, "args", args, "code", code, "took", time.Since(start))
	return code
}

// listen cancels the verb when the caller is interrupted or dies. It returns
// false if the caller is gone before the verb has ended.
func listen(conn *net.UnixConn, cancel context.CancelFunc) (ended bool) {
	for {
		var n notice
		if err := readFrame(conn, &n); err != nil {
			cancel()
			return errors.Is(err, os.ErrDeadlineExceeded)
		}
		if n.Interrupt {
			cancel()
		}
	}
}

// run is the verb's, except that a panic in it ends the verb and not the server.
func (c *control) run(ctx context.Context, a *app, args []string) (code int) {
	defer func() {
		if p := recover(); p != nil {
			c.log.Error("a verb panicked", "args", args, "panic", p, "stack", string(debug.Stack()))
			a.report(mendf(fmt.Errorf("internal error: %v", p), "the server goes on; please report what its log says about it"))
			code = exitFailed
		}
	}()
	return a.run(ctx, args)
}
