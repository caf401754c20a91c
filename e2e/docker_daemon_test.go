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
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// patience is how long a daemon may take for anything. In User Mode Linux system
// calls are slow.
const patience = 3 * time.Minute

// tick is how often a condition is looked at.
const tick = 50 * time.Millisecond

// dockerd is Debian's dockerd with everything of its own, in one directory: data,
// sockets, containerd. Nothing of the machine's is touched: no bridge, no firewall.
type dockerd struct {
	t    *testing.T
	dir  string
	args []string
	cmd  *exec.Cmd // nil when it does not run

	buildKit bool // docker build by BuildKit
}

// newDockerd starts a dockerd in dir. When the test ends it is stopped with its
// containers, and nothing of it may be left.
func newDockerd(t *testing.T, dir, storageDriver string, args ...string) *dockerd {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: dockerd does")
	}
	for _, program := range []string{"dockerd", dockerClient(), "containerd", "runc"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("no %s on this machine: Debian's packages docker.io, containerd and runc have it", program)
		}
	}
	d := &dockerd{t: t, dir: dir}
	d.args = append([]string{
		"--experimental", "--storage-driver", storageDriver,
		"--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"),
		"-H", "unix://" + d.socket(), "-p", filepath.Join(dir, "pid"), "--config-file", filepath.Join(dir, "none.json"),
		"--bridge=none", "--iptables=false", "--ip6tables=false",
	}, args...)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "none.json"), []byte("{}"), 0o600)) // the machine's own is not read
	t.Cleanup(d.end)
	d.start()
	return d
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
func (d *dockerd) log() string    { return filepath.Join(d.dir, "dockerd.log") }

// start starts it and waits until it answers.
func (d *dockerd) start() {
	d.t.Helper()
	_ = os.Remove(filepath.Join(d.dir, "pid")) // of one that was killed; the number may be another's now
	log, err := os.OpenFile(d.log(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	require.NoError(d.t, err)
	defer log.Close()
	cmd := exec.Command("dockerd", d.args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = d.env()
	require.NoError(d.t, cmd.Start())
	d.cmd = cmd
	go func() { _ = cmd.Wait() }()
	require.Eventually(d.t, func() bool {
		return d.get("/_ping", nil) == nil || !alive(cmd.Process.Pid)
	}, patience, tick, "dockerd does not answer")
	require.NoError(d.t, d.get("/_ping", nil), "dockerd ended")
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
	require.Eventually(d.t, func() bool { return len(d.processes("containerd")) == 0 }, patience, tick, "containerd lives on")
}

func (d *dockerd) signal(s syscall.Signal) {
	d.t.Helper()
	cmd := d.cmd
	d.cmd = nil
	require.NoError(d.t, cmd.Process.Signal(s))
	require.Eventually(d.t, func() bool { return !alive(cmd.Process.Pid) }, patience, tick, "dockerd does not end by %v", s)
}

// end stops everything that is left, and says what should not have been left.
func (d *dockerd) end() {
	if d.t.Failed() {
		d.t.Logf("dockerd's log:\n%s", tail(d.log()))
	}
	if d.cmd != nil && !alive(d.cmd.Process.Pid) {
		d.t.Errorf("dockerd had ended: %v", d.cmd.ProcessState)
	} else if d.cmd != nil {
		if ids := strings.Fields(d.try("ps", "-aq").stdout); len(ids) > 0 {
			d.try(append([]string{"rm", "-f"}, ids...)...)
		}
		if err := d.cmd.Process.Signal(unix.SIGTERM); err == nil && !eventually(func() bool { return !alive(d.cmd.Process.Pid) }) {
			_ = d.cmd.Process.Kill()
		}
	}
	left := d.endProcesses()
	mounts := mountsBelow(d.t, d.dir)
	for _, m := range slices.Backward(mounts) {
		_ = unix.Unmount(m, unix.MNT_DETACH)
	}
	if !d.t.Failed() {
		require.Empty(d.t, left, "processes were left behind")
		require.Empty(d.t, mounts, "mounts were left behind")
	}
}

// endProcesses ends what a dockerd that was killed has left: containers, shims and
// containerd. They are known by our directory on the shim's command line, and the
// containers as a shim's children.
func (d *dockerd) endProcesses() []string {
	var left []string
	gone := eventually(func() bool {
		left = left[:0]
		for _, p := range d.processes("") {
			for _, child := range childrenOf(p) {
				_ = unix.Kill(child, unix.SIGKILL)
			}
			_ = unix.Kill(p, unix.SIGKILL)
			left = append(left, cmdline(p))
		}
		return len(left) == 0
	})
	if !gone {
		d.t.Errorf("processes that cannot be ended: %v", left)
	}
	return left
}

// processes are those with our directory and this word on their command line.
func (d *dockerd) processes(word string) []int {
	var found []int
	entries, err := os.ReadDir("/proc")
	require.NoError(d.t, err)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() || d.cmd != nil && pid == d.cmd.Process.Pid {
			continue
		}
		args := cmdline(pid)
		// Our own children are the commands that we run, with paths of the directory in them.
		if strings.Contains(args, d.dir+"/") && strings.Contains(args, word) && parentOf(pid) != os.Getpid() {
			found = append(found, pid)
		}
	}
	return found
}

func cmdline(pid int) string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return strings.ReplaceAll(strings.TrimSuffix(string(text), "\x00"), "\x00", " ")
}

// stat is a process's state and its parent; zero when there is no such process.
func stat(pid int) (state string, parent int) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	// proc(5): the command's name, which may hold anything, is in parentheses.
	rest := text[bytes.LastIndexByte(text, ')')+1:]
	_, _ = fmt.Sscan(string(rest), &state, &parent)
	return state, parent
}

func parentOf(pid int) int { _, parent := stat(pid); return parent }

func alive(pid int) bool { state, _ := stat(pid); return state != "" && state != "Z" }

func childrenOf(pid int) []int {
	var found []int
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		text, _ := os.ReadFile(list)
		for _, f := range strings.Fields(string(text)) {
			if child, err := strconv.Atoi(f); err == nil {
				found = append(found, child)
			}
		}
	}
	return found
}

// eventually waits for a condition where a test may not fail for it.
func eventually(condition func() bool) bool {
	deadline := time.Now().Add(patience)
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for time.Now().Before(deadline) {
		if condition() {
			return true
		}
		<-ticker.C
	}
	return false
}

// tail is what is to be worried about at the end of a daemon's log.
func tail(file string) string {
	const most = 60
	text, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	lines := slices.DeleteFunc(strings.Split(string(text), "\n"), func(line string) bool {
		return strings.Contains(line, "level=info") || strings.Contains(line, "cleanup warnings") || strings.Contains(line, "cleaning up after shim") ||
			strings.Contains(line, "devmapper") || strings.Contains(line, "blkio")
	})
	return strings.Join(lines[max(0, len(lines)-most):], "\n")
}

// mountsBelow are the mount points in and below a directory, in the order of mounting.
func mountsBelow(t *testing.T, dir string) []string {
	t.Helper()
	info, err := os.ReadFile("/proc/self/mountinfo")
	require.NoError(t, err)
	var found []string
	for line := range strings.Lines(string(info)) {
		if at := strings.Fields(line)[4]; at == dir || strings.HasPrefix(at, dir+"/") {
			found = append(found, at)
		}
	}
	return found
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
