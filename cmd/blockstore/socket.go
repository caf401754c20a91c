package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot"
)

// socket is a unix socket that this process made at a path, for root only.
type socket struct {
	*net.UnixListener
	path string
	made os.FileInfo
}

// listenAt makes the socket, and its directory if that is missing. A socket file
// that nobody answers on is a dead process's and is replaced; one that somebody
// answers on is ErrBusy, and any other file is refused.
func listenAt(ctx context.Context, path string) (_ *socket, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	// Of two processes that look at one stale socket, one has to replace it before
	// the other looks.
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != nil {
		return nil, fmt.Errorf("locking %s: %w", dir.Name(), err)
	}
	if err := clearSocket(ctx, dir, path); err != nil {
		return nil, err
	}
	config := net.ListenConfig{Control: rootOnly}
	l, err := config.Listen(ctx, "unix", nameBelow(dir, filepath.Base(path)))
	if err != nil {
		return nil, fmt.Errorf("making the socket %s: %w", path, err)
	}
	s := &socket{UnixListener: l.(*net.UnixListener), path: path}
	s.SetUnlinkOnClose(false) // it would go by a name that ends with dir
	if s.made, err = os.Lstat(path); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// rootOnly sets the mode that bind(2) gives the file: it takes it from the
// socket's inode (linux/net/unix/af_unix.c, unix_bind_bsd), so that there is no
// moment at which others can connect.
func rootOnly(_, _ string, c syscall.RawConn) error {
	return onDescriptor(c, func(fd int) error { return unix.Fchmod(fd, 0o600) })
}

// onDescriptor calls do with the descriptor behind c.
func onDescriptor(c syscall.RawConn, do func(fd int) error) error {
	var err error
	if e := c.Control(func(fd uintptr) { err = do(int(fd)) }); e != nil {
		return e
	}
	return err
}

// nameBelow names a file in an open directory. The kernel's socket addresses
// hold 108 bytes (unix(7), sun_path), and a directory's path can be longer.
func nameBelow(dir *os.File, base string) string {
	return "/proc/self/fd/" + strconv.Itoa(int(dir.Fd())) + "/" + base
}

// clearSocket removes a dead process's socket at path, which lies in dir.
func clearSocket(ctx context.Context, dir *os.File, path string) error {
	st, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case st.Mode().Type() != os.ModeSocket:
		return fmt.Errorf("%s is there and is no socket; move it away, or name another socket: %w", path, snapshot.ErrExists)
	}
	conn, err := dialIn(ctx, dir, filepath.Base(path))
	switch {
	case err == nil:
		defer conn.Close()
		by := "another process"
		if cred, err := peerOf(conn); err == nil {
			by = fmt.Sprintf("pid %d", cred.Pid)
		}
		return fmt.Errorf("%s answers on the socket %s: %w", by, path, snapshot.ErrBusy)
	case nobodyThere(err):
		return ignore(os.Remove(path), os.ErrNotExist)
	}
	return fmt.Errorf("asking who has the socket %s: %w", path, err)
}

// remove takes the socket's file away, unless another process has put its own
// there meanwhile.
func (s *socket) remove() error {
	st, err := os.Lstat(s.path)
	// An inode's number can be used again; its time tells two sockets apart.
	if err != nil || !os.SameFile(st, s.made) || !st.ModTime().Equal(s.made.ModTime()) {
		return ignore(err, os.ErrNotExist)
	}
	return ignore(os.Remove(s.path), os.ErrNotExist)
}

// dial connects to the socket at path.
func dial(ctx context.Context, path string) (*net.UnixConn, error) {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return dialIn(ctx, dir, filepath.Base(path))
}

func dialIn(ctx context.Context, dir *os.File, base string) (*net.UnixConn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", nameBelow(dir, base))
	if err != nil {
		return nil, err
	}
	return conn.(*net.UnixConn), nil
}

// nobodyThere says of an error from dial that no process listens.
func nobodyThere(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ENOTDIR)
}

// peerOf says who is at the other end (unix(7), SO_PEERCRED).
func peerOf(conn *net.UnixConn) (*unix.Ucred, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	err = onDescriptor(raw, func(fd int) (err error) {
		cred, err = unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		return err
	})
	return cred, err
}
