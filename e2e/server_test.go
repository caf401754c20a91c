package e2e

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// server is `blockstore serve` on a store, with one door open.
type server struct {
	t      *testing.T
	store  *store
	door   string
	socket string
	log    string
	cmd    *exec.Cmd     // nil when it does not run
	ended  chan struct{} // closed when the process is gone, see daemon

	args   []string
	driver string // its name to dockerd
	peer   string // the directory of the containerd that it serves
}

// serveAt serves the store to a daemon. Its end comes before the store's.
func (s *store) serveAt(door, socket string, args ...string) *server {
	s.t.Helper()
	v := &server{t: s.t, store: s, door: door, socket: socket, args: args, log: filepath.Join(scratch(s.t), "serve.log")}
	require.NoFileExists(s.t, v.socket)
	s.t.Cleanup(v.end)
	v.start()
	return v
}

// start starts it and waits until it listens.
func (v *server) start() {
	v.t.Helper()
	log, err := os.OpenFile(v.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	require.NoError(v.t, err)
	defer log.Close()
	args := append([]string{"--root", v.store.root, "serve", "--" + v.door, "--" + v.door + "-socket", v.socket}, v.args...)
	cmd := exec.Command(v.store.bin, args...)
	cmd.Stdout, cmd.Stderr = log, log
	require.NoError(v.t, cmd.Start())
	v.cmd = cmd
	ended := make(chan struct{})
	v.ended = ended
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	listens := func() bool {
		c, err := net.Dial("unix", v.socket)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	}
	require.Eventually(v.t, func() bool { return listens() || !alive(cmd.Process.Pid) }, patience, tick, "the server does not listen")
	require.True(v.t, alive(cmd.Process.Pid), "the server ended:\n%s", tail(v.log))
}

func (v *server) stop() { v.t.Helper(); v.signal(unix.SIGTERM) }
func (v *server) kill() { v.t.Helper(); v.signal(unix.SIGKILL) }

func (v *server) signal(s syscall.Signal) {
	v.t.Helper()
	cmd := v.cmd
	v.cmd = nil
	require.NoError(v.t, cmd.Process.Signal(s))
	require.Eventually(v.t, func() bool { return closed(v.ended) }, patience, tick, "the server does not end by %v", s)
}

func (v *server) end() {
	if v.t.Failed() {
		v.t.Logf("the server's log:\n%s", tail(v.log))
	}
	defer v.sweep()
	if v.cmd == nil {
		return
	}
	running := alive(v.cmd.Process.Pid)
	_ = v.cmd.Process.Signal(unix.SIGTERM)
	if !eventually(func() bool { return !alive(v.cmd.Process.Pid) }) {
		_ = v.cmd.Process.Kill()
		v.t.Error("the server had to be killed")
	}
	if !running {
		v.t.Errorf("the server had ended:\n%s", tail(v.log))
	}
	if _, err := os.Lstat(v.socket); err == nil {
		v.t.Errorf("the server left %s", v.socket)
	}
}

// sweep unmounts what a test that failed has left, so that the store can be destroyed.
func (v *server) sweep() {
	if v.t.Failed() {
		for _, m := range slices.Backward(mountsBelow(v.t, v.store.root)) {
			if filepath.Dir(filepath.Dir(m)) == v.store.root {
				_ = unix.Unmount(m, unix.MNT_DETACH)
			}
		}
	}
}
