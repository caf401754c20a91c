package machinetest

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// World is a place for machines of one kind whose temporary files can be
// counted.
type World struct {
	Bin string   // the kind's program
	Env []string // what it wants beside this process's environment
	tmp string
}

// NewWorld builds the program in the working directory, since the test binary
// cannot be a machine's init. The test's end fails when a machine has left
// anything.
func NewWorld(t *testing.T, env ...string) World {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("booting in a PID namespace needs root")
	}
	w := World{Bin: filepath.Join(t.TempDir(), "machine"), Env: env, tmp: t.TempDir()}
	build := exec.Command("go", "build", "-buildvcs=false", "-o", w.Bin, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	t.Cleanup(func() { w.AssertClean(t) })
	return w
}

// AssertClean fails when a machine has left files or processes.
func (w World) AssertClean(t *testing.T) {
	t.Helper()
	left, err := os.ReadDir(w.tmp)
	require.NoError(t, err)
	assert.Empty(t, left, "temporary files")
	assert.Empty(t, processesNaming(t, w.tmp))
}

// processesNaming lists the processes whose command line contains text.
func processesNaming(t *testing.T, text string) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(t, err)
	var found []string
	for _, f := range files {
		if line, err := os.ReadFile(f); err == nil && bytes.Contains(line, []byte(text)) {
			found = append(found, f+": "+strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return found
}

// Command is a run that has not started. Flags come before "--".
func (w World) Command(args ...string) (cmd *exec.Cmd, stdout, stderr *bytes.Buffer) {
	cmd = exec.Command(w.Bin, args...)
	cmd.Env = append(append(os.Environ(), "TMPDIR="+w.tmp), w.Env...)
	stdout, stderr = &bytes.Buffer{}, &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	return cmd, stdout, stderr
}

// Run returns the exit status and what was printed.
func (w World) Run(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	cmd, out, errs := w.Command(args...)
	if err := cmd.Run(); err != nil {
		require.ErrorAs(t, err, new(*exec.ExitError))
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// StartSleeper boots a machine whose command never ends and returns once the
// command runs.
func (w World) StartSleeper(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd, _ := w.started(t, "echo up; exec sleep 1000")
	return cmd
}

// started boots a machine with a script that begins with saying "up", and returns when that has been read.
func (w World) started(t *testing.T, script string) (*exec.Cmd, io.ReadCloser) {
	t.Helper()
	cmd, _, _ := w.Command("--timeout=5m", "--", "sh", "-c", script)
	cmd.Stdout = nil
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	buf := make([]byte, 3)
	_, err = io.ReadFull(out, buf)
	require.NoError(t, err)
	require.Equal(t, "up\n", string(buf))
	return cmd, out
}

// AssertSignalsEnd sends a signal to a machine's program, which has to end the
// machine and say so in its exit status.
func (w World) AssertSignalsEnd(t *testing.T, signal syscall.Signal) {
	t.Helper()
	cmd := w.StartSleeper(t)
	require.NoError(t, cmd.Process.Signal(signal))
	require.Error(t, cmd.Wait())
	assert.Equal(t, 128+int(signal), cmd.ProcessState.ExitCode())
}

// AssertClosedOutputEnds has nobody read what a machine's command prints any more, as where `head` has seen enough.
func (w World) AssertClosedOutputEnds(t *testing.T) {
	t.Helper()
	cmd, out := w.started(t, "while echo up; do sleep 0.1; done")
	require.NoError(t, out.Close())
	require.Error(t, cmd.Wait())
	assert.Equal(t, 128+int(syscall.SIGPIPE), cmd.ProcessState.ExitCode())
	w.AssertClean(t)
}

// AssertKillEnds kills a machine's program, which has to end the machine all
// the same.
func (w World) AssertKillEnds(t *testing.T) {
	t.Helper()
	cmd := w.StartSleeper(t)
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	// The kernel ends the others right after; nobody is left who could be waited for.
	require.Eventually(t, func() bool { return len(processesNaming(t, w.tmp)) == 0 }, 10*time.Second, 10*time.Millisecond)
	left, err := filepath.Glob(filepath.Join(w.tmp, "*"))
	require.NoError(t, err)
	require.Len(t, left, 1, "only the temporary directory cannot be removed after kill -9")
	require.NoError(t, os.RemoveAll(left[0]))
}
