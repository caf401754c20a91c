package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// server is `blockstore serve --docker` on a store, under a driver name of its own:
// dockerd finds a plugin by its socket's name.
type server struct {
	t      *testing.T
	store  *store
	driver string
	log    string
	cmd    *exec.Cmd // nil when it does not run
}

// serve serves the store to Docker. Its end comes before the store's.
func (s *store) serve() *server {
	s.t.Helper()
	v := &server{t: s.t, store: s, driver: fmt.Sprintf("bstest%d", os.Getpid()), log: filepath.Join(scratch(s.t), "serve.log")}
	require.NoError(s.t, os.MkdirAll(filepath.Dir(v.socket()), 0o700))
	require.NoFileExists(s.t, v.socket())
	s.t.Cleanup(v.end)
	v.start()
	return v
}

func (v *server) socket() string { return filepath.Join("/run/docker/plugins", v.driver+".sock") }

// start starts it and waits until it listens.
func (v *server) start() {
	v.t.Helper()
	log, err := os.OpenFile(v.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	require.NoError(v.t, err)
	defer log.Close()
	cmd := exec.Command(v.store.bin, "--root", v.store.root, "serve", "--docker", "--docker-socket", v.socket())
	cmd.Stdout, cmd.Stderr = log, log
	require.NoError(v.t, cmd.Start())
	v.cmd = cmd
	go func() { _ = cmd.Wait() }()
	listens := func() bool {
		c, err := net.Dial("unix", v.socket())
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
	require.Eventually(v.t, func() bool { return !alive(cmd.Process.Pid) }, patience, tick, "the server does not end by %v", s)
}

func (v *server) end() {
	if v.t.Failed() {
		v.t.Logf("the server's log:\n%s", tail(v.log))
	}
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
	if _, err := os.Lstat(v.socket()); err == nil {
		v.t.Errorf("the server left %s", v.socket())
	}
}

// dockerOn is a dockerd on the served store.
func (v *server) dockerd(args ...string) *dockerd {
	v.t.Helper()
	return newDockerd(v.t, scratch(v.t), v.driver, args...)
}

// mustAgree: the store is whole, and has the containers that Docker has.
func (v *server) mustAgree(d *dockerd) {
	v.t.Helper()
	v.store.run("check")
	var all []struct{ Docker struct{ Name string } }
	v.store.json(&all, "ps")
	var ours []string
	for _, c := range all {
		if c.Docker.Name != "" { // BuildKit's layers and containers' init layers have none
			ours = append(ours, c.Docker.Name)
		}
	}
	require.ElementsMatch(v.t, strings.Fields(d.docker("ps", "-a", "--format", "{{.Names}}")), ours)
}

// mustBeEmpty: nothing of Docker's is in the store, nothing is mounted, no device of
// a layer is active.
func (v *server) mustBeEmpty() {
	v.t.Helper()
	var found struct{ Layers, Containers, Volumes int }
	v.store.json(&found, "check")
	require.Zero(v.t, found.Layers+found.Containers, "%+v", found)
	require.Equal(v.t, "[]", v.store.run("--json", "ps"))
	require.Equal(v.t, "[]", v.store.run("--json", "images"))
}
