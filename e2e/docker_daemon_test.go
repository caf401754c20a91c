package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// dockerd is a dockerd with everything of its own, in one directory: data, sockets, and
// Debian's its containerd. Nothing of the machine's is touched: no bridge, no firewall.
type dockerd struct {
	daemon
	program     string
	args        []string
	environment []string
	newest      bool // its storage is containerd's

	buildKit bool // docker build by BuildKit
}

// newDockerd starts Debian's dockerd in dir. When the test ends it is stopped with its
// containers, and nothing of it may be left.
func newDockerd(t *testing.T, dir, storageDriver string, args ...string) *dockerd {
	t.Helper()
	needsDocker(t, "dockerd")
	d := &dockerd{daemon: daemon{t: t, name: "dockerd", dir: dir}, program: "dockerd"}
	d.begin(storageDriver, "{}", append([]string{"--experimental"}, args...)...)
	return d
}

// newestDockerd starts Docker's newest engine on a containerd, from which it takes its
// images and its storage.
func newestDockerd(c *containerd, args ...string) *dockerd {
	c.t.Helper()
	needsDocker(c.t)
	d := &dockerd{
		daemon: daemon{t: c.t, name: "dockerd", dir: scratch(c.t)}, program: filepath.Join(partners(c.t), "newest", "dockerd"),
		// Debian 12's client speaks 1.41, and its runc knows no namespaces of time.
		environment: []string{"DOCKER_MIN_API_VERSION=1.41"},
		newest:      true,
	}
	d.begin(c.snapshotter, `{"features": {"time-namespaces": false}}`, append([]string{
		"--containerd", c.socket(), "--containerd-namespace", c.namespace, "--containerd-plugins-namespace", c.namespace + "-plugins",
	}, args...)...)
	return d
}

func needsDocker(t *testing.T, programs ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: dockerd does")
	}
	for _, program := range append(programs, dockerClient(), "containerd", "runc") {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("no %s on this machine: Debian's packages docker.io, containerd and runc have it", program)
		}
	}
}

// begin starts it for the first time. config is its daemon.json: the machine's own is not read.
func (d *dockerd) begin(storageDriver, config string, args ...string) {
	d.t.Helper()
	file := filepath.Join(d.dir, "daemon.json")
	d.args = append([]string{
		"--storage-driver", storageDriver, "--data-root", filepath.Join(d.dir, "data"), "--exec-root", filepath.Join(d.dir, "exec"),
		"-H", "unix://" + d.socket(), "-p", filepath.Join(d.dir, "pid"), "--config-file", file,
		"--bridge=none", "--iptables=false", "--ip6tables=false",
	}, args...)
	require.NoError(d.t, os.WriteFile(file, []byte(config), 0o600))
	d.t.Cleanup(d.end)
	d.start()
}

// dockerClient is Debian's client, whatever else is first in PATH: newer ones leave
// building to a plugin that need not be there.
func dockerClient() string {
	const debians = "/usr/bin/docker"
	if _, err := os.Stat(debians); err == nil {
		return debians
	}
	return "docker"
}

func (d *dockerd) socket() string { return filepath.Join(d.dir, "d.sock") }

// start starts it and waits until it answers.
func (d *dockerd) start() {
	d.t.Helper()
	// Of one that was killed. The number may be another's now, or a zombie's where the
	// first process of the machine does not reap; dockerd would wait for it.
	_ = os.Remove(filepath.Join(d.dir, "pid"))
	_ = os.Remove(filepath.Join(d.dir, "exec", "containerd", "containerd.pid"))
	cmd := exec.Command(d.program, d.args...)
	// dockerd has a containerd to which it could not connect at first say in TMPDIR what it does, and kills it.
	cmd.Env = append(append(d.env(), "TMPDIR="+d.dir), d.environment...)
	d.launch(cmd, func() error { return d.get("/_ping", nil) })
}

// env names this daemon to the client, and none of the user's own settings.
func (d *dockerd) env() []string {
	kit := "0"
	if d.buildKit {
		kit = "1"
	}
	return append(os.Environ(), "DOCKER_HOST=unix://"+d.socket(), "DOCKER_CONFIG="+filepath.Join(d.dir, "config"),
		"HOME="+d.dir, "DOCKER_DRIVER=", "DOCKER_BUILDKIT="+kit)
}

// stop stops it as a service manager does. With --live-restore containers go on.
func (d *dockerd) stop() {
	d.t.Helper()
	d.signal(unix.SIGTERM)
}

// kill ends it as the kernel's out-of-memory killer does: at once, and its
// containerd with it. Containers go on.
func (d *dockerd) kill() {
	d.t.Helper()
	d.signal(unix.SIGKILL)
	// dockerd has asked the kernel to kill containerd when it dies.
	require.Eventually(d.t, func() bool { return len(d.processes("containerd --config")) == 0 }, patience, tick, "containerd lives on")
}

// end removes the containers, and stops everything that is left. dockerd mounts its
// data root on itself, and after it was killed it does not know that this was its own
// doing.
func (d *dockerd) end() {
	if d.runs() {
		if ids := strings.Fields(d.try("ps", "-aq").stdout); len(ids) > 0 {
			d.try(append([]string{"rm", "-f"}, ids...)...)
		}
	}
	d.daemon.end(filepath.Join(d.dir, "data"))
}

// docker runs a docker command that must succeed, and returns what it prints on
// stdout without the last newline.
func (d *dockerd) docker(args ...string) string {
	d.t.Helper()
	return d.dockerIn("", args...)
}

// dockerIn is docker with a standard input.
func (d *dockerd) dockerIn(stdin string, args ...string) string {
	d.t.Helper()
	r := d.tryIn(stdin, args...)
	require.Zero(d.t, r.code, "docker %s: %s%s", strings.Join(args, " "), r.stdout, r.stderr)
	return r.text()
}

// stream runs a docker that must succeed, and has read take what it prints as it comes.
func (d *dockerd) stream(read func(io.Reader) error, args ...string) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	var errs bytes.Buffer
	cmd := exec.CommandContext(ctx, dockerClient(), args...)
	cmd.Env, cmd.Stderr = d.env(), &errs
	out, err := cmd.StdoutPipe()
	require.NoError(d.t, err)
	require.NoError(d.t, cmd.Start())
	readErr := read(out)
	_, restErr := io.Copy(io.Discard, out)
	require.NoError(d.t, cmd.Wait(), "docker %s: %s", strings.Join(args, " "), &errs)
	require.NoError(d.t, errors.Join(readErr, restErr))
}

func (d *dockerd) try(args ...string) result { return d.tryIn("", args...) }

func (d *dockerd) tryIn(stdin string, args ...string) result {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, dockerClient(), args...)
	cmd.Env = d.env()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return result{code: -1, stderr: err.Error()}
	}
	return result{code: cmd.ProcessState.ExitCode(), stdout: out.String(), stderr: errs.String()}
}

// get asks the Engine API, which tells exactly what the client rounds.
func (d *dockerd) get(path string, into any) error {
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", d.socket())
		},
	}}
	answer, err := client.Get("http://localhost" + path)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	switch {
	case err != nil:
		return err
	case answer.StatusCode != http.StatusOK:
		return fmt.Errorf("%s: %s", answer.Status, body)
	case into == nil:
		return nil
	}
	return json.Unmarshal(body, into)
}

// api is get that must succeed.
func (d *dockerd) api(path string, into any) {
	d.t.Helper()
	require.NoError(d.t, d.get(path, into), path)
}

// pid is the first process of a running container, as the machine numbers it.
func (d *dockerd) pid(container string) int {
	d.t.Helper()
	var c struct{ State struct{ Pid int } }
	d.api("/containers/"+container+"/json", &c)
	require.NotZero(d.t, c.State.Pid, "%s does not run", container)
	return c.State.Pid
}
