package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot"
)

// handshakeWait bounds each step in which one end waits for the other to say
// what it says at once if it is alive.
const handshakeWait = 10 * time.Second

// server is a process that serves a store, at the other end of its control
// socket.
type server struct {
	conn *net.UnixConn
	root string
	pid  int
	hello
}

// findServer asks who serves the store at root: nil if nobody does.
func findServer(ctx context.Context, root string) (*server, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeWait)
	defer cancel()
	conn, err := dial(ctx, filepath.Join(root, controlSocket))
	if err != nil {
		if nobodyThere(err) {
			return nil, nil
		}
		return nil, fmt.Errorf("asking who serves the store at %s: %w", root, err)
	}
	s := &server{conn: conn, root: root}
	err = s.greet(ctx)
	if err == nil {
		return s, nil
	}
	_ = conn.Close()
	if hungUp(err) {
		return nil, nil // it has just stopped
	}
	return nil, err
}

func (s *server) greet(ctx context.Context) error {
	cred, err := peerOf(s.conn)
	if err != nil {
		return err
	}
	if cred.Uid != 0 {
		return fmt.Errorf("the socket %s is not root's but user %d's, who is not trusted with the store: %w",
			filepath.Join(s.root, controlSocket), cred.Uid, snapshot.ErrInvalid)
	}
	s.pid = int(cred.Pid)
	stop := context.AfterFunc(ctx, func() { _ = s.conn.SetDeadline(time.Now()) })
	defer stop()
	if err := readFrame(s.conn, &s.hello); err != nil {
		switch {
		case errors.Is(ctx.Err(), context.Canceled):
			return ctx.Err()
		case errors.Is(err, os.ErrDeadlineExceeded):
			return fmt.Errorf("pid %d has the store at %s and does not answer: %w", s.pid, s.root, snapshot.ErrBusy)
		}
		return err
	}
	switch {
	case s.Refused != "":
		return fmt.Errorf("the server of the store at %s, pid %d, refused: %s: %w", s.root, s.pid, s.Refused, snapshot.ErrBusy)
	case s.Protocol != controlProtocol:
		return mendf(fmt.Errorf("the server of the store at %s is blockstore %s, which this version cannot talk to: %w", s.root, s.Version, snapshot.ErrNotSupported),
			"use that version, or restart the server with this one")
	}
	return nil
}

// hungUp says of an error that the other end is gone.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE)
}

// busy is the error of a verb that no server can do.
func (s *server) busy() error { return servedError(s.root, s.pid, s.Unit) }

func servedError(root string, pid int, unit string) error {
	stop := fmt.Sprintf("kill %d", pid)
	if unit != "" {
		stop = "systemctl stop " + unit
	}
	return mendf(fmt.Errorf("the store at %s is served by pid %d: %w", root, pid, snapshot.ErrBusy), "stop it first: %s", stop)
}

// refuseServed is for verbs that need the store for themselves.
func (a *app) refuseServed(ctx context.Context) error {
	if a.lent != nil {
		return servedError(a.root, os.Getpid(), a.lent.unit)
	}
	s, err := findServer(ctx, a.root)
	if err != nil || s == nil {
		return err
	}
	return errors.Join(s.busy(), s.conn.Close())
}

// handedOver is how a verb ends that a server did: all has been said.
type handedOver struct{ code int }

func (e handedOver) Error() string {
	return fmt.Sprintf("done by the server, with exit code %d", e.code)
}

// errNotBegun: the server went before it began, and nothing was done.
var errNotBegun = errors.New("the server stopped before it began")

// handOver has the server do this command line, on our own streams. The first
// Ctrl-C is passed on; the second ends us, and the server takes that for one.
func (a *app) handOver(ctx context.Context, s *server) error {
	defer s.conn.Close()
	streams, err := a.streams()
	if err != nil {
		return err
	}
	c := call{Version: a.versionOut().Version}
	for _, arg := range a.args {
		c.Args = append(c.Args, []byte(arg))
	}
	dir, _ := os.Getwd() // without it, absolute names still work
	c.Dir = []byte(dir)
	_ = s.conn.SetDeadline(time.Now().Add(handshakeWait))
	if err := sendCall(s.conn, c, streams); err != nil {
		return s.lost(err, false)
	}
	var writing sync.WaitGroup
	writing.Add(1)
	stop := context.AfterFunc(ctx, func() {
		defer writing.Done()
		_ = writeFrame(s.conn, notice{Interrupt: true}) // if that fails, so does reading
	})
	defer func() {
		if stop() {
			writing.Done()
		}
		writing.Wait()
	}()
	return s.await()
}

// await reads until the verb's exit code comes.
func (s *server) await() error {
	begun := false
	for {
		var r answer
		if err := readFrame(s.conn, &r); err != nil {
			return s.lost(err, begun)
		}
		if r.Code != nil {
			return handedOver{*r.Code}
		}
		if r.Begun {
			begun = true
			_ = s.conn.SetDeadline(time.Time{})
		}
	}
}

// lost is the error of a verb whose server went away.
func (s *server) lost(err error, begun bool) error {
	switch {
	case !begun && hungUp(err):
		return errNotBegun
	case !begun && errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("pid %d has the store at %s and does not answer: %w", s.pid, s.root, snapshot.ErrBusy)
	case hungUp(err):
		return mendf(fmt.Errorf("the server of the store at %s, pid %d, died in the middle", s.root, s.pid),
			"start it again, or run any verb: what was half done is undone when the store is opened next")
	}
	return fmt.Errorf("talking to the server of the store at %s, pid %d: %w", s.root, s.pid, err)
}

// streams are what the server reads from and writes to in our place.
func (a *app) streams() ([]*os.File, error) {
	var files []*os.File
	for _, s := range []any{a.stdin, a.stdout, a.stderr} {
		f, ok := s.(*os.File)
		if !ok {
			return nil, errors.New("a server takes a verb's streams as files only")
		}
		files = append(files, f)
	}
	return files, nil
}
