package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/vagrant/machine"
	"blockstore.dev/blockstore/vagrant/machine/machinetest"
)

func newWorld(t *testing.T) machinetest.World {
	t.Helper()
	if _, err := exec.LookPath("linux.uml"); err != nil { // make can always fall back on it
		t.Skip("no linux.uml: apt-get install user-mode-linux")
	}
	script, err := filepath.Abs("make")
	require.NoError(t, err)
	return machinetest.NewWorld(t, "BSTEST_MAKE="+script)
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
cat /proc/self/timerslack_ns
cat
echo out > "$SHARE/file"
echo out > "$HOST/file"
printf 'a\r\nb\000c' >&2
exit 42`
	status, stdout, stderr := w.Run(t, "--disk=64M", "--disk=1G", "--share", share, "--timer-slack=2ms", "-e", "GREETING=hello you",
		"-e", "SHARE="+share, "-e", "HOST="+host, "--", "sh", "-c", script)
	assert.Equal(t, 42, status, stderr)
	assert.Equal(t, strings.Join([]string{
		here, "uml hello you", "67108864 1073741824", "// Command uml runs one command inside User Mode Linux, a Linux kernel that is",
		"ext2/ext3", "dm", "/dev/loop0", "1", "2000000", "",
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
		{"panic", []string{"--", "sh", "-c", "echo c >/proc/sysrq-trigger; sleep 1000"}, machine.ExitMachine, "its kernel panicked"},
		{"power off", []string{"--", "sh", "-c", "echo o >/proc/sysrq-trigger; sleep 1000"}, machine.ExitMachine, "without a result"},
		{"no memory", []string{"--mem=1M", "--timeout=20s", "--", "true"}, machine.ExitMachine, "without a result"},
		{"usage", []string{"--"}, machine.ExitUsage, "no command"},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, _, stderr := w.Run(t, test.args...)
			assert.Equal(t, test.status, status, stderr)
			assert.Contains(t, stderr, test.stderr)
			w.AssertClean(t)
		})
	}
}

func TestALotOfOutputArrivesWhole(t *testing.T) {
	w := newWorld(t)
	status, stdout, stderr := w.Run(t, "--", "sh", "-c", "head -c 20000000 /dev/zero | tr '\\0' x")
	require.Equal(t, 0, status, stderr)
	assert.Len(t, stdout, 20_000_000)
}

func TestASignalEndsTheMachine(t *testing.T) {
	for _, test := range []struct {
		name   string
		signal syscall.Signal
	}{{"interrupt", syscall.SIGINT}, {"terminate", syscall.SIGTERM}} {
		t.Run(test.name, func(t *testing.T) { newWorld(t).AssertSignalsEnd(t, test.signal) })
	}
}

func TestClosedOutputEndsTheMachine(t *testing.T) { newWorld(t).AssertClosedOutputEnds(t) }

func TestKillingTheRunnerEndsTheMachine(t *testing.T) { newWorld(t).AssertKillEnds(t) }

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
			cmd, out, _ := w.Command("--disk=64M", "--timeout=5m", "--share", meeting, "-e", "AT="+meeting, "--", "sh", "-c",
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
		texts = append(texts, regexp.MustCompile(`\(\d+:`).ReplaceAllString(r.stdout, "(major:")) // what is in the kernel beside dm decides
	}
	assert.ElementsMatch(t, []string{"bstest\t(major:0)\none\n", "bstest\t(major:0)\ntwo\n"}, texts)
}

func TestKeep(t *testing.T) {
	w := newWorld(t)
	status, _, stderr := w.Run(t, "--keep", "--disk=64M", "--", "true")
	require.Equal(t, 0, status)
	dir := strings.TrimSpace(strings.TrimPrefix(stderr, "uml: keeping "))
	assert.FileExists(t, filepath.Join(dir, "disk0"))
	assert.FileExists(t, filepath.Join(dir, "console"))
	require.NoError(t, os.RemoveAll(dir))
}
