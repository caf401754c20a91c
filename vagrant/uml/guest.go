package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// scratchDir is where the scratch disk is mounted.
const scratchDir = "/run/bstest"

// guestModules are loaded at boot; a kernel that has one built in, or that
// lacks one, is not an error here: the test that needs it says so better.
func guestModules() []string {
	return []string{
		"loop", "dm-mod", "dm-thin-pool", "dm-flakey", "dm-log-writes", "dm-era", "dm-dust", "dm-snapshot",
		"ext4", "btrfs", "xfs",
	}
}

// guest is process 1 of the machine. It never returns: it powers off.
func guest(work string) {
	status, err := guestRun(work)
	text := strconv.Itoa(status)
	if err != nil {
		text += "\nin the machine: " + err.Error()
	}
	// The share was mounted read-write before the root was switched and stays
	// reachable at the same path.
	if err := os.WriteFile(filepath.Join(work, statusFile+".new"), []byte(text), 0o600); err != nil {
		fmt.Println("init: writing the status:", err)
	} else if err := os.Rename(filepath.Join(work, statusFile+".new"), filepath.Join(work, statusFile)); err != nil {
		fmt.Println("init: writing the status:", err)
	}
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Println("init: power off:", err)
	}
	select {}
}

func guestRun(work string) (int, error) {
	var config guestConfig
	text, err := os.ReadFile(filepath.Join(work, configFile))
	if err != nil {
		return exitMachine, err
	}
	if err := json.Unmarshal(text, &config); err != nil {
		return exitMachine, err
	}
	if err := os.Setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"); err != nil {
		return exitMachine, err
	}
	if err := switchRoot(work, config); err != nil {
		return exitMachine, err
	}
	if err := settle(config); err != nil {
		return exitMachine, err
	}
	return runCommand(work, config)
}

// switchRoot puts an overlay over the read-only view of the host and makes it
// the root, with the machine's own /proc, /sys, /dev and /run in it.
func switchRoot(work string, config guestConfig) error {
	const base = "/mnt" // any directory that every host has
	if err := unix.Mount("tmpfs", base, "tmpfs", 0, "mode=755,size=75%"); err != nil {
		return fmt.Errorf("mounting the overlay's tmpfs: %w", err)
	}
	for _, dir := range []string{"upper", "work", "root"} {
		if err := os.Mkdir(filepath.Join(base, dir), 0o755); err != nil {
			return err
		}
	}
	if out, err := exec.Command("modprobe", "-d", work, "overlay").CombinedOutput(); err != nil {
		return fmt.Errorf("loading overlay (modprobe is in package kmod): %w: %s", err, out)
	}
	root := base + "/root"
	if err := unix.Mount("overlay", root, "overlay", 0, "lowerdir=/,upperdir="+base+"/upper,workdir="+base+"/work"); err != nil {
		return fmt.Errorf("mounting the overlay: %w", err)
	}
	for _, m := range []struct{ dir, fs, data string }{
		{"/proc", "proc", ""},
		{"/sys", "sysfs", ""},
		{"/dev", "devtmpfs", "mode=755"},
		{"/dev/pts", "devpts", "gid=5,mode=620,ptmxmode=666"},
		{"/dev/shm", "tmpfs", "mode=1777"},
		{"/run", "tmpfs", "mode=755"},
		{"/sys/fs/cgroup", "cgroup2", ""},
		{"/mnt", "tmpfs", "mode=755"},
	} {
		if err := mountAt(root+m.dir, m.fs, m.data); err != nil {
			return err
		}
	}
	for _, dir := range append([]string{work}, config.Shares...) {
		// Without an option hostfs shows the host's root.
		if err := mountAt(root+dir, "hostfs", dir); err != nil {
			return err
		}
	}
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("moving the root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	return os.Chdir("/")
}

func mountAt(dir, fs, data string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("none", dir, fs, 0, data); err != nil {
		return fmt.Errorf("mounting %s on %s: %w", fs, dir, err)
	}
	return nil
}

// settle brings up what a booted system has: modules, lo, the scratch disk.
func settle(config guestConfig) error {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return err
	}
	// Where the kernel's own calls of modprobe look.
	version := unix.ByteSliceToString(uts.Release[:])
	if err := os.MkdirAll("/lib/modules", 0o755); err != nil {
		return err
	}
	if err := os.Symlink(filepath.Join(modulesDir, version), filepath.Join("/lib/modules", version)); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if out, err := exec.Command("modprobe", append([]string{"-a", "-q"}, guestModules()...)...).CombinedOutput(); err != nil {
		fmt.Printf("init: modprobe: %v: %s\n", err, out)
	}
	if err := os.Symlink("/proc/self/fd", "/dev/fd"); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if err := unix.Sethostname([]byte("bstest")); err != nil {
		return err
	}
	if err := loopbackUp(); err != nil {
		return fmt.Errorf("bringing up lo: %w", err)
	}
	if err := os.Mkdir(scratchDir, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(config.Scratch, scratchDir, "ext4", unix.MS_NOATIME, "noinit_itable,discard"); err != nil {
		return fmt.Errorf("mounting the scratch disk: %w", err)
	}
	if err := os.Chmod(scratchDir, 0o1777); err != nil {
		return err
	}
	return bindState()
}

// bindState hides the host's stores and puts empty directories of the scratch
// disk there: no overlay file system can be stacked on the root's overlay.
func bindState() error {
	for _, name := range []string{"blockstore", "docker", "containerd"} {
		from, to := filepath.Join(scratchDir, ".lib", name), filepath.Join("/var/lib", name)
		for _, dir := range []string{from, to} {
			if err := os.MkdirAll(dir, 0o711); err != nil {
				return err
			}
		}
		if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("binding %s: %w", to, err)
		}
	}
	return nil
}

func loopbackUp() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, ifr)
}

// runCommand starts the command and reaps every process until it has ended.
func runCommand(work string, config guestConfig) (int, error) {
	files, err := openStreams(work)
	if err != nil {
		return exitMachine, err
	}
	os.Clearenv()
	for _, v := range config.Env {
		name, value, _ := strings.Cut(v, "=")
		if err := os.Setenv(name, value); err != nil {
			return exitMachine, err
		}
	}
	if err := os.Chdir(config.Dir); err != nil {
		return exitMachine, err
	}
	path, err := exec.LookPath(config.Command[0])
	if err != nil {
		return exitNotFound, err
	}
	p, err := os.StartProcess(path, config.Command, &os.ProcAttr{Files: files, Sys: &unix.SysProcAttr{Setsid: true}})
	if err != nil {
		return exitNotFound, err
	}
	ws, err := reapUntil(p.Pid)
	switch {
	case err != nil:
		return exitMachine, err
	case ws.Signaled():
		return 128 + int(ws.Signal()), fmt.Errorf("the command was ended by signal: %s", ws.Signal())
	}
	return ws.ExitStatus(), nil
}

// openStreams opens the command's stdin, stdout and stderr.
func openStreams(work string) ([]*os.File, error) {
	stdin, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	files := []*os.File{stdin}
	for _, name := range []string{stdoutFile, stderrFile} {
		f, err := os.OpenFile(filepath.Join(work, name), os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}
