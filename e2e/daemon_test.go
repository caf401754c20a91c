package e2e

import (
	"bytes"
	"fmt"
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
// calls are slow, and in a virtual machine that is emulated everything is.
var patience = patienceIn(os.Getenv("BLOCKSTORE_MACHINE"))

func patienceIn(machine string) time.Duration {
	if machine == "vm" {
		return 10 * time.Minute
	}
	return 3 * time.Minute
}

// tick is how often a condition is looked at.
const tick = 50 * time.Millisecond

// daemon runs containers, with everything of its own in one directory.
type daemon struct {
	t    *testing.T
	name string
	dir  string
	cmd  *exec.Cmd // nil when it does not run

	// ended is closed when the process is gone. One whose first thread has ended may still
	// have its sockets, and take connections that it will never serve.
	ended chan struct{}
}

func (d *daemon) log() string { return filepath.Join(d.dir, d.name+".log") }

// launch starts it and waits until it answers.
func (d *daemon) launch(cmd *exec.Cmd, answers func() error) {
	d.t.Helper()
	log, err := os.OpenFile(d.log(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	require.NoError(d.t, err)
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	require.NoError(d.t, cmd.Start())
	d.cmd = cmd
	ended := make(chan struct{})
	d.ended = ended
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	require.Eventually(d.t, func() bool { return answers() == nil || !alive(cmd.Process.Pid) }, patience, tick, "%s does not answer", d.name)
	require.NoError(d.t, answers(), "%s ended", d.name)
}

// runs says whether it does, and fails the test if it should.
func (d *daemon) runs() bool {
	if d.cmd != nil && !alive(d.cmd.Process.Pid) {
		d.t.Errorf("%s had ended: %v", d.name, d.cmd.ProcessState)
		d.cmd = nil
	}
	return d.cmd != nil
}

func (d *daemon) signal(s syscall.Signal) {
	d.t.Helper()
	cmd := d.cmd
	d.cmd = nil
	require.NoError(d.t, cmd.Process.Signal(s))
	require.Eventually(d.t, func() bool { return closed(d.ended) }, patience, tick, "%s does not end by %v", d.name, s)
}

// end stops it and everything of it that is left, and says what should not have been
// left; own are mounts of its own.
func (d *daemon) end(own ...string) {
	if d.runs() {
		if err := d.cmd.Process.Signal(unix.SIGTERM); err == nil && !eventually(func() bool { return !alive(d.cmd.Process.Pid) }) {
			_ = d.cmd.Process.Kill()
		}
	}
	if d.t.Failed() {
		d.t.Logf("%s's log:\n%s", d.name, tail(d.log()))
	}
	left := d.endProcesses()
	mounts := mountsBelow(d.t, d.dir)
	for _, m := range slices.Backward(mounts) {
		_ = unix.Unmount(m, unix.MNT_DETACH)
	}
	mounts = slices.DeleteFunc(mounts, func(m string) bool { return slices.Contains(own, m) })
	if !d.t.Failed() {
		require.Empty(d.t, left, "processes were left behind")
		require.Empty(d.t, mounts, "mounts were left behind")
	}
}

// endProcesses ends what a daemon that was killed has left: containers, shims, with
// dockerd its containerd. They are known by our directory on the shim's command line, and the
// containers as a shim's children.
func (d *daemon) endProcesses() []string {
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
func (d *daemon) processes(word string) []int {
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

func closed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
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

// filling is a shell's command that writes a file of so many MiB in a container, which no file system can make less of, by
// compressing them or, as cat has it do where it can, by sharing blocks; and waits until they are on disk.
func filling(file string, mib int) string {
	return fmt.Sprintf("head -c 10M /dev/urandom >/seed && for i in $(seq %[1]d); do cat /seed || exit; done | cat >%[2]s && sync %[2]s", mib/10, file)
}
