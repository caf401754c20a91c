package units

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	packaging = "../../packaging/systemd"
	installed = "/usr/local/bin/blockstore" // where the units look
	units     = "/etc/systemd/system"
	docker    = "/run/docker/plugins/blockstore.sock"
	snapshots = "/run/blockstore/containerd.sock"
)

// machine is one with the program and its units, as `make install` leaves it.
type machine struct{ *testing.T }

// newMachine installs them. The machine is thrown away afterwards, so nothing is taken back.
func newMachine(t *testing.T) machine {
	if os.Getenv("BLOCKSTORE_MACHINE") == "" {
		t.Skip("installs systemd's units: needs a virtual machine with systemd of its own")
	}
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		t.Skip("needs systemd running")
	}
	m := machine{t}
	bin := os.Getenv("BLOCKSTORE_BIN")
	if bin == "" {
		bin = "../../bin/blockstore" // built on the host before
	}
	m.copy(bin, installed, 0o755)
	names, err := filepath.Glob(packaging + "/*")
	require.NoError(t, err)
	require.Len(t, names, 3)
	for _, name := range names {
		m.copy(name, filepath.Join(units, filepath.Base(name)), 0o644)
	}
	m.run("systemctl", "daemon-reload")
	return m
}

func (m machine) copy(from, to string, mode os.FileMode) {
	m.Helper()
	raw, err := os.ReadFile(from)
	require.NoError(m, err)
	require.NoError(m, os.MkdirAll(filepath.Dir(to), 0o755))
	require.NoError(m, os.WriteFile(to, raw, mode))
}

// run runs a command and returns what it wrote, and on failure shows the service's log.
func (m machine) run(name string, args ...string) string {
	m.Helper()
	ctx, cancel := context.WithTimeout(m.Context(), 5*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		log, _ := exec.Command("journalctl", "--no-pager", "-n", "60").CombinedOutput()
		m.Logf("%s", log)
	}
	require.NoError(m, err, "%s %v: %s", name, args, out)
	return strings.TrimSpace(string(out))
}

func (m machine) property(unit, name string) string {
	m.Helper()
	return m.run("systemctl", "show", "--value", "--property", name, unit)
}

// activate asks the plugin what it is, as dockerd does first.
func (m machine) activate() {
	m.Helper()
	client := http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", docker)
		},
	}}
	answer, err := client.Post("http://plugin/Plugin.Activate", "application/json", nil)
	require.NoError(m, err)
	defer answer.Body.Close()
	raw, err := io.ReadAll(answer.Body)
	require.NoError(m, err)
	var is struct{ Implements []string }
	require.NoError(m, json.Unmarshal(raw, &is), string(raw))
	require.Equal(m, []string{"GraphDriver"}, is.Implements)
}

// died waits until systemd has another process of the server's.
func (m machine) died(pid string) (next string) {
	m.Helper()
	require.Eventually(m, func() bool {
		next = m.property("blockstore.service", "MainPID")
		return next != pid && next != "0" && m.property("blockstore.service", "ActiveState") == "active"
	}, 2*time.Minute, 200*time.Millisecond)
	return next
}

// store makes one where the units look.
func (m machine) store() {
	m.Helper()
	m.run(installed, "init", "--driver", "btrfs", "--loopback", "2G")
}

// end stops the service and then its socket, which is systemd's until then.
func (m machine) end(unit, socket string) {
	m.Helper()
	m.run("systemctl", "stop", "blockstore.service")
	require.Equal(m, "success", m.property("blockstore.service", "Result"))
	require.FileExists(m, socket)
	m.run("systemctl", "stop", unit)
	require.NoFileExists(m, socket)
	m.run("systemctl", "disable", "blockstore.service", unit)
	m.run(installed, "check")
	m.run(installed, "destroy", "--yes")
}

// TestDocker goes the way of docs/docker.md: the socket alone, the server by its first call, a server that is killed, dockerd
// on it, and the end.
func TestDocker(t *testing.T) {
	m := newMachine(t)
	m.store()
	m.run("systemctl", "enable", "--now", "blockstore-docker.socket")
	st, err := os.Stat(docker)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), st.Mode().Perm())
	require.Equal(t, "inactive", m.property("blockstore.service", "ActiveState"), "nobody has called")

	m.activate()
	require.Equal(t, "active", m.property("blockstore.service", "ActiveState"))
	require.Equal(t, "running", m.property("blockstore.service", "SubState"))
	require.Equal(t, "inactive", m.property("blockstore-containerd.socket", "ActiveState"), "it was not enabled")
	require.NoFileExists(t, snapshots)
	m.run("systemctl", "enable", "--now", "blockstore.service")

	pid := m.property("blockstore.service", "MainPID")
	m.run("systemctl", "kill", "--signal", "KILL", "blockstore.service")
	m.activate()
	m.died(pid)

	require.NoError(t, os.MkdirAll("/etc/docker", 0o755))
	require.NoError(t, os.WriteFile("/etc/docker/daemon.json", []byte(
		`{"storage-driver": "blockstore", "experimental": true, "bridge": "none", "iptables": false, "ip6tables": false}`), 0o600))
	m.run("systemctl", "restart", "docker.service")
	require.Equal(t, "blockstore", m.run("docker", "info", "--format", "{{.Driver}}"))
	require.Contains(t, m.run("docker", "info"), "Health: ok")
	tree := t.TempDir()
	m.copy(installed, filepath.Join(tree, "blockstore"), 0o755)
	m.run("sh", "-c", "tar -C "+tree+" -c . | docker import - bstest:1")
	require.Contains(t, m.run("docker", "run", "--net", "none", "--name", "first", "bstest:1", "/blockstore", "version"), "blockstore")

	pid = m.property("blockstore.service", "MainPID")
	m.run("systemctl", "kill", "--signal", "KILL", "blockstore.service")
	m.run("docker", "create", "--net", "none", "--name", "second", "bstest:1", "/blockstore", "version") // waits for the next server
	m.died(pid)
	listed := m.run(installed, "ps")
	require.Contains(t, listed, "docker/first")
	require.Contains(t, listed, "docker/second")
	m.run("docker", "start", "--attach", "second")
	m.run("docker", "rm", "first", "second")

	m.run("systemctl", "restart", "blockstore.service")
	m.run("docker", "rmi", "bstest:1")
	require.Empty(t, m.run("docker", "ps", "--all", "--quiet"))
	m.run("systemctl", "stop", "docker.service", "docker.socket")
	m.end("blockstore-docker.socket", docker)
}

// TestContainerd goes the way of docs/containerd.md.
func TestContainerd(t *testing.T) {
	m := newMachine(t)
	m.store()
	m.run("systemctl", "enable", "--now", "blockstore-containerd.socket", "blockstore.service")
	require.Equal(t, "inactive", m.property("blockstore-docker.socket", "ActiveState"), "it was not enabled")
	st, err := os.Stat(snapshots)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), st.Mode().Perm())
	config := m.run(installed, "serve", "--print-containerd-config", "1.7")
	require.NoError(t, os.MkdirAll("/etc/containerd", 0o755))
	require.NoError(t, os.WriteFile("/etc/containerd/config.toml", []byte(config+"\n"), 0o600))
	m.run("systemctl", "restart", "containerd.service")

	ctr := func(args ...string) string {
		t.Helper()
		return m.run("ctr", append([]string{"--namespace", "bstest", "snapshots", "--snapshotter", "blockstore"}, args...)...)
	}
	ctr("prepare", "first")
	pid := m.property("blockstore.service", "MainPID")
	m.run("systemctl", "kill", "--signal", "KILL", "blockstore.service")
	m.died(pid)
	require.Eventually(t, func() bool { // containerd's calls fail until it has connected again
		return exec.Command("ctr", "--namespace", "bstest", "snapshots", "--snapshotter", "blockstore", "prepare", "second").Run() == nil
	}, time.Minute, time.Second)
	listed := ctr("list")
	require.Contains(t, listed, "first")
	require.Contains(t, listed, "second")
	ctr("remove", "first", "second")
	m.run("systemctl", "stop", "containerd.service")
	m.end("blockstore-containerd.socket", snapshots)
}
