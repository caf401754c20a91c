package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot"
)

// pretend is a server that answers each connection with one step of play.
func (s *served) pretend(play ...func(*net.UnixConn)) {
	s.Helper()
	l, err := listenAt(s.Context(), filepath.Join(s.root, controlSocket))
	require.NoError(s, err)
	go func() {
		for _, step := range play {
			conn, err := l.AcceptUnix()
			if err != nil {
				return
			}
			step(conn)
			_ = conn.Close()
		}
		_ = l.Close()
	}()
	s.Cleanup(func() { _ = l.Close() })
}

func TestServersThatFail(t *testing.T) {
	greet := func(conn *net.UnixConn) { _ = writeFrame(conn, hello{Protocol: controlProtocol, Version: "v1"}) }
	take := func(conn *net.UnixConn) {
		if _, fds, err := receiveCall(conn); err == nil {
			closeAll(fds)
		}
	}
	tests := []struct {
		name string
		play func(*net.UnixConn)
		code int
		says string
	}{
		{"gone before its greeting", func(*net.UnixConn) {}, exitDone, ""},
		{"gone before the call", greet, exitDone, ""},
		{"gone before it began", func(c *net.UnixConn) { greet(c); take(c) }, exitDone, ""},
		{"gone in the middle", func(c *net.UnixConn) { greet(c); take(c); _ = writeFrame(c, answer{Begun: true}) }, exitFailed, "died in the middle"},
		{"of another protocol", func(c *net.UnixConn) { _ = writeFrame(c, hello{Protocol: 2, Version: "v9"}) }, exitFailed, "is blockstore v9"},
		{"busy", func(c *net.UnixConn) {
			_ = writeFrame(c, hello{Protocol: controlProtocol, Refused: "too much"})
		}, exitInUse, "refused: too much"},
		{"that is none", func(c *net.UnixConn) { _, _ = c.Write([]byte("\x00\x00\x00\x04what")) }, exitFailed, "malformed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newServed(t, filepath.Join(t.TempDir(), "store"))
			s.pretend(tt.play)
			code, _, errs := s.run("ps")
			require.Equal(t, tt.code, code, errs)
			require.Contains(t, errs, tt.says)
		})
	}
}

func TestCallersFiles(t *testing.T) {
	c := newCaller(os.Getpid(), "/somewhere")
	require.True(t, c.here)
	proc := "/proc/" + strconv.Itoa(os.Getpid())
	for name, want := range map[string]string{
		"a/b": "/somewhere/a/b", "../b": "/b", "/a": "/a",
		"/dev/stdin": proc + "/fd/0", "/dev/stderr": proc + "/fd/2", "/dev/fd/63": proc + "/fd/63",
		"/proc/self/fd/5": proc + "/fd/5", "/dev/fd": "/dev/fd",
	} {
		got, err := c.file(name)
		require.NoError(t, err)
		require.Equal(t, want, got, name)
	}
	c.dir = ""
	_, err := c.file("a")
	require.ErrorIs(t, err, os.ErrNotExist)
	for _, elsewhere := range []caller{{}, newCaller(0, "/")} {
		_, err = elsewhere.file("/a")
		require.ErrorIs(t, err, snapshot.ErrNotSupported)
		require.Contains(t, mendOf(err, defaultRoot), "redirect")
	}
}

func TestMayCall(t *testing.T) {
	require.NoError(t, mayCall(&unix.Ucred{Uid: 0, Pid: 1}))
	require.ErrorIs(t, mayCall(&unix.Ucred{Uid: 1000, Pid: 1}), errNotRoot)
}

func TestSocketIsRoots(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("being somebody else needs root")
	}
	path := filepath.Join(t.TempDir(), "sock")
	l, err := listenAt(t.Context(), path)
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	dir, err := os.Open(filepath.Dir(path))
	require.NoError(t, err)
	defer dir.Close()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_, err = unix.SetfsuidRetUid(65534)
	require.NoError(t, err)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	err = unix.Connect(fd, &unix.SockaddrUnix{Name: "/proc/self/task/" + strconv.Itoa(unix.Gettid()) + "/fd/" + strconv.Itoa(int(dir.Fd())) + "/sock"})
	_, _ = unix.SetfsuidRetUid(0)
	require.NoError(t, unix.Close(fd))
	require.ErrorIs(t, err, unix.EACCES)
	conn, err := dial(t.Context(), path)
	require.NoError(t, err)
	cred, err := peerOf(conn)
	require.NoError(t, err)
	require.EqualValues(t, os.Getpid(), cred.Pid)
	require.NoError(t, conn.Close())
}

func TestListenAt(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "made", "sock")
	first, err := listenAt(t.Context(), path)
	require.NoError(t, err)
	st, err := os.Stat(filepath.Dir(path))
	require.NoError(t, err)
	require.Equal(t, os.ModeDir|0o700, st.Mode())

	_, err = listenAt(t.Context(), path)
	require.ErrorIs(t, err, snapshot.ErrBusy)
	require.ErrorContains(t, err, "pid "+strconv.Itoa(os.Getpid()))

	require.NoError(t, first.Close())
	require.FileExists(t, path, "as after kill -9")
	second, err := listenAt(t.Context(), path)
	require.NoError(t, err)
	require.NoError(t, first.remove())
	require.FileExists(t, path, "another's socket stays")
	require.NoError(t, second.Close())
	require.NoError(t, second.remove())
	require.NoFileExists(t, path)

	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, []byte("x"), 0o600))
	_, err = listenAt(t.Context(), file)
	require.ErrorIs(t, err, snapshot.ErrExists)
	require.FileExists(t, file)
}

func TestNobodyServes(t *testing.T) {
	for _, root := range []string{"/nowhere/store", "/dev/null", t.TempDir()} {
		s, err := findServer(context.Background(), root)
		require.NoError(t, err)
		require.Nil(t, s)
	}
}

// TestOwnStream: what is opened again does not block, and stays what it is.
func TestOwnStream(t *testing.T) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	defer master.Close()
	require.NoError(t, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	fd, err := unix.Open("/dev/pts/"+strconv.Itoa(n), unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	terminal := ownStream(fd, "stderr")
	defer terminal.Close()
	require.True(t, isTerminal(terminal))

	var p [2]int
	require.NoError(t, unix.Pipe2(p[:], unix.O_CLOEXEC))
	r := ownStream(p[0], "stdin")
	read := make(chan error)
	go func() { _, err := r.Read(make([]byte, 1)); read <- err }()
	require.NoError(t, r.Close())
	require.ErrorIs(t, <-read, os.ErrClosed, "a read ends when the file is closed")
	require.NoError(t, unix.Close(p[1]))

	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, []byte("ab"), 0o600))
	fd, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	again, err := unix.Dup(fd)
	require.NoError(t, err)
	f := ownStream(again, "stdin")
	_, err = f.Read(make([]byte, 1))
	require.NoError(t, err)
	at, err := unix.Seek(fd, 0, 1)
	require.NoError(t, err)
	require.EqualValues(t, 1, at, "a file's offset is shared with the caller")
	require.NoError(t, f.Close())
	require.NoError(t, unix.Close(fd))
}
