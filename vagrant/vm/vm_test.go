package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/vagrant/machine"
	"blockstore.dev/blockstore/vagrant/machine/machinetest"
)

func newWorld(t *testing.T) machinetest.World {
	t.Helper()
	if testing.Short() {
		t.Skip("half a minute: a machine is emulated")
	}
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("no qemu-system-x86_64: apt-get install qemu-system-x86")
	}
	here, err := os.Getwd()
	require.NoError(t, err)
	if exec.Command("./make", "cached").Run() != nil {
		t.Skip("no image in the cache: make vmimage")
	}
	return machinetest.NewWorld(t, "BSTEST_MAKE="+filepath.Join(here, "make"))
}

// One boot answers many questions; a line each.
func TestMachine(t *testing.T) {
	w := newWorld(t)
	share, host := t.TempDir(), t.TempDir() // host is not shared
	kept := filepath.Join(t.TempDir(), "disk")
	require.NoError(t, os.WriteFile(kept, make([]byte, 1<<20), 0o600))
	here, err := os.Getwd()
	require.NoError(t, err)
	script := `
pwd
echo "$BLOCKSTORE_MACHINE $GREETING $DM_DISABLE_UDEV $(nproc)"
lsblk -bdno SIZE /dev/vda /dev/vdb /dev/vdc | tr -d ' ' | paste -sd' '
head -n 1 doc.go
stat -f -c %T "$BSTEST_DIR" /var/lib/blockstore | paste -sd' '
zfs version | cut -d- -f1 | paste -sd' '
dmsetup create bstest --table '0 8 linear /dev/vda 0' && dmsetup mknodes && ls /dev/mapper
truncate -s 1G "$TMPDIR/f" && losetup -f --show --direct-io=on "$TMPDIR/f"
cat /proc/self/timerslack_ns
cat
echo out >"$SHARE/file"
echo out >"$HOST/file" && cat "$HOST/file"
echo kept >/dev/vdc
head -c 5000000 /dev/zero | tr '\0' x >&2
printf 'a\r\nb\000c' >&2
exit 200`
	status, stdout, stderr := w.Run(t, "--disk=64M", "--disk=1G", "--disk", kept, "--share", share, "--timer-slack=2ms", "-e", "GREETING=hello you",
		"-e", "SHARE="+share, "-e", "HOST="+host, "--", "sh", "-c", script)
	assert.Equal(t, 200, status)
	assert.Equal(t, strings.Join([]string{
		here, "vm hello you 1 2", "67108864 1073741824 1048576", "// Command vm runs one command inside a virtual machine and exits with the",
		"ext2/ext3 ext2/ext3", "zfs zfs", "bstest", "control", "/dev/loop0", "2000000", "out", "",
	}, "\n"), stdout)
	noise := strings.Repeat("x", 5_000_000)
	assert.True(t, stderr == noise+"a\r\nb\x00c", "%d bytes on stderr: %.200s", len(stderr), strings.Trim(stderr, "x"))
	assert.FileExists(t, filepath.Join(share, "file"))
	assert.NoFileExists(t, filepath.Join(host, "file"))
	text, err := os.ReadFile(kept)
	require.NoError(t, err)
	assert.Equal(t, "kept\n", string(text[:5]), "a disk that is the caller's file")
}

func TestExitStatus(t *testing.T) {
	w := newWorld(t)
	for _, test := range []struct {
		name   string
		args   []string
		status int
		stderr string
	}{
		{"time limit", []string{"--timeout=3s", "--", "sleep", "1000"}, machine.ExitTimeout, "time limit of 3s reached"},
		{"panic", []string{"--", "sh", "-c", "echo c >/proc/sysrq-trigger; sleep 1000"}, machine.ExitMachine, "its kernel panicked"},
		{"usage", []string{"--accel=magic", "--", "true"}, machine.ExitUsage, "none of kvm, tcg, auto"},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, _, stderr := w.Run(t, test.args...)
			assert.Equal(t, test.status, status, stderr)
			assert.Contains(t, stderr, test.stderr)
			w.AssertClean(t)
		})
	}
}

func TestKillingTheRunnerEndsTheMachine(t *testing.T) { newWorld(t).AssertKillEnds(t) }

// TestMachinesRunSideBySide has a machine with udev and one with systemd, and each waits for the other.
func TestMachinesRunSideBySide(t *testing.T) {
	w := newWorld(t)
	here, err := os.Getwd()
	require.NoError(t, err)
	meeting := t.TempDir()
	meet := func(name, other string) string {
		return "touch " + meeting + "/" + name + "; until [ -e " + meeting + "/" + other + " ]; do sleep 0.1; done; "
	}
	var wg sync.WaitGroup
	run := func(flag, script, want string, status int) {
		wg.Go(func() {
			cmd, stdout, stderr := w.Command(flag, "--disk=64M", "--share", meeting, "--", "sh", "-c", script)
			_ = cmd.Run() // the status tells
			assert.Equal(t, status, cmd.ProcessState.ExitCode(), stderr.String())
			assert.Equal(t, want, stdout.String())
		})
	}
	device := "dmsetup create bstest --table '0 8 linear /dev/vda 0' && readlink /dev/mapper/bstest; "
	run("--udev", meet("udev", "systemd")+device+"dmsetup udevcookies | grep -c 0xd4d; ls /run/udev/control",
		"../dm-0\n0\n/run/udev/control\n", 0)
	run("--systemd", meet("systemd", "udev")+device+"cat /proc/1/comm; systemctl is-active multi-user.target; pwd; exit 7",
		"../dm-0\nsystemd\nactive\n"+here+"\n", 7)
	wg.Wait()
}
