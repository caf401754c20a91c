package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/vagrant/machine"
)

// program builds the program once per test that boots, since the test binary
// cannot be the machine's init.
func program(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("linux.uml"); err != nil {
		t.Skip("no linux.uml: apt-get install user-mode-linux")
	}
	if os.Getuid() != 0 {
		t.Skip("booting in a PID namespace needs root")
	}
	bin := filepath.Join(t.TempDir(), "uml")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", bin, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return bin
}

// world is a place for machines whose temporary files can be counted.
type world struct {
	bin, tmp string
}

func newWorld(t *testing.T) world {
	t.Helper()
	w := world{bin: program(t), tmp: t.TempDir()}
	t.Cleanup(func() { w.assertClean(t) })
	return w
}

// assertClean fails when a machine has left files or processes.
func (w world) assertClean(t *testing.T) {
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

// command is a run that has not started. Flags come before "--".
func (w world) command(args ...string) (cmd *exec.Cmd, stdout, stderr *bytes.Buffer) {
	cmd = exec.Command(w.bin, args...)
	cmd.Env = append(os.Environ(), "TMPDIR="+w.tmp)
	stdout, stderr = &bytes.Buffer{}, &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	return cmd, stdout, stderr
}

// run returns the exit status and what was printed.
func (w world) run(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	cmd, out, errs := w.command(args...)
	if err := cmd.Run(); err != nil {
		require.ErrorAs(t, err, new(*exec.ExitError))
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

func TestMachine(t *testing.T) {
	w := newWorld(t)
	share := t.TempDir()
	host := t.TempDir() // not shared
	here, err := os.Getwd()
	require.NoError(t, err)
	// One boot answers many questions; a line each.
	script := `
pwd
echo "$BLOCKSTORE_MACHINE $GREETING"
lsblk -bdno SIZE /dev/ubda /dev/ubdb | tr -d ' ' | paste -sd' '
cat doc.go | head -n 1
stat -f -c %T "$BSTEST_DIR"
test -c /dev/mapper/control && echo dm
truncate -s 1G "$TMPDIR/f" && losetup -f --show --direct-io=on "$TMPDIR/f"
strace -f -o "$TMPDIR/trace" true && grep -c execve "$TMPDIR/trace"
cat
echo out > "$SHARE/file"
echo out > "$HOST/file"
printf 'a\r\nb\000c' >&2
exit 42`
	status, stdout, stderr := w.run(t, "--disk=64M", "--disk=1G", "--share", share, "-e", "GREETING=hello you",
		"-e", "SHARE="+share, "-e", "HOST="+host, "--", "sh", "-c", script)
	assert.Equal(t, 42, status, stderr)
	assert.Equal(t, strings.Join([]string{
		here, "uml hello you", "67108864 1073741824", "// Command uml runs one command inside User Mode Linux, a Linux kernel that is",
		"ext2/ext3", "dm", "/dev/loop0", "1", "",
	}, "\n"), stdout)
	assert.Equal(t, "a\r\nb\x00c", stderr)
	assert.FileExists(t, filepath.Join(share, "file"))
	assert.NoFileExists(t, filepath.Join(host, "file"))
}

func TestExitStatus(t *testing.T) {
	w := newWorld(t)
	for _, test := range []struct {
		name   string
		args   []string
		status int
		stderr string
	}{
		{"not found", []string{"--", "bstest-no-such-command"}, machine.ExitNotFound, "executable file not found"},
		{"signal", []string{"--", "sh", "-c", "kill -9 $$"}, 128 + 9, "killed"},
		{"time limit", []string{"--timeout=4s", "--", "sleep", "1000"}, machine.ExitTimeout, "time limit of 4s reached"},
		{"panic", []string{"--", "sh", "-c", "echo c >/proc/sysrq-trigger; sleep 1000"}, machine.ExitMachine, "Kernel panic"},
		{"power off", []string{"--", "sh", "-c", "echo o >/proc/sysrq-trigger; sleep 1000"}, machine.ExitMachine, "without a result"},
		{"no memory", []string{"--mem=1M", "--timeout=20s", "--", "true"}, machine.ExitMachine, "without a result"},
		{"usage", []string{"--"}, machine.ExitUsage, "no command"},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, _, stderr := w.run(t, test.args...)
			assert.Equal(t, test.status, status, stderr)
			assert.Contains(t, stderr, test.stderr)
			w.assertClean(t)
		})
	}
}

func TestALotOfOutputArrivesWhole(t *testing.T) {
	w := newWorld(t)
	status, stdout, stderr := w.run(t, "--", "sh", "-c", "head -c 20000000 /dev/zero | tr '\\0' x")
	require.Equal(t, 0, status, stderr)
	assert.Len(t, stdout, 20_000_000)
}

func TestASignalEndsTheMachine(t *testing.T) {
	for _, test := range []struct {
		name   string
		signal syscall.Signal
	}{{"interrupt", syscall.SIGINT}, {"terminate", syscall.SIGTERM}} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			cmd := w.startSleeper(t)
			require.NoError(t, cmd.Process.Signal(test.signal))
			require.Error(t, cmd.Wait())
			assert.Equal(t, 128+int(test.signal), cmd.ProcessState.ExitCode())
		})
	}
}

func TestKillingTheRunnerEndsTheMachine(t *testing.T) {
	w := newWorld(t)
	cmd := w.startSleeper(t)
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	// The kernel ends the others right after; nobody is left who could be waited for.
	require.Eventually(t, func() bool { return len(processesNaming(t, w.tmp)) == 0 }, 10*time.Second, 10*time.Millisecond)
	left, err := filepath.Glob(filepath.Join(w.tmp, "*"))
	require.NoError(t, err)
	require.Len(t, left, 1, "only the temporary directory cannot be removed after kill -9")
	require.NoError(t, os.RemoveAll(left[0]))
}

// startSleeper boots a machine whose command never ends and returns once the
// command runs.
func (w world) startSleeper(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd, _, _ := w.command("--timeout=5m", "--", "sh", "-c", "echo up; exec sleep 1000")
	cmd.Stdout = nil
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	buf := make([]byte, 3)
	_, err = out.Read(buf)
	require.NoError(t, err)
	require.Equal(t, "up\n", string(buf))
	return cmd
}

func TestMachinesRunSideBySide(t *testing.T) {
	w := newWorld(t)
	type outcome struct {
		status int
		stdout string
	}
	results := make(chan outcome, 2)
	meeting := t.TempDir() // each waits there for the other
	for name, other := range map[string]string{"one": "two", "two": "one"} {
		go func() {
			cmd, out, _ := w.command("--disk=64M", "--timeout=5m", "--share", meeting, "-e", "AT="+meeting, "--", "sh", "-c",
				"dmsetup create bstest --table '0 8 linear /dev/ubda 0'; touch $AT/"+name+
					"; until [ -e $AT/"+other+" ]; do sleep 0.1; done; dmsetup ls; echo "+name)
			_ = cmd.Run() // the status tells
			results <- outcome{cmd.ProcessState.ExitCode(), out.String()}
		}()
	}
	var texts []string
	for range 2 {
		r := <-results
		assert.Equal(t, 0, r.status)
		texts = append(texts, r.stdout)
	}
	assert.ElementsMatch(t, []string{"bstest\t(254:0)\none\n", "bstest\t(254:0)\ntwo\n"}, texts)
}

func TestKeep(t *testing.T) {
	w := newWorld(t)
	status, _, stderr := w.run(t, "--keep", "--disk=64M", "--", "true")
	require.Equal(t, 0, status)
	dir := strings.TrimSpace(strings.TrimPrefix(stderr, "uml: keeping "))
	assert.FileExists(t, filepath.Join(dir, "disk0"))
	assert.FileExists(t, filepath.Join(dir, "console"))
	require.NoError(t, os.RemoveAll(dir))
}
