package machine

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ScratchDir is where the scratch disk is mounted: $BSTEST_DIR.
const ScratchDir = "/run/bstest"

// ReadConfig reads what the guest has to do; own is the kind's part of it.
func ReadConfig(work string, own any) (Config, error) {
	config := Config{Kind: own}
	text, err := os.ReadFile(filepath.Join(work, configFile))
	if err != nil {
		return config, err
	}
	return config, json.Unmarshal(text, &config)
}

// PowerOff tells the host how the command ended, and ends the machine.
func PowerOff(work string, status int, err error) {
	text := strconv.Itoa(status)
	if err != nil {
		text += "\nin the machine: " + err.Error()
	}
	file := filepath.Join(work, statusFile)
	if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
		fmt.Println("init: writing the status:", err)
	} else if err := os.Rename(file+".new", file); err != nil {
		fmt.Println("init: writing the status:", err)
	}
	Halt()
}

// Halt ends the machine at once. It never returns.
func Halt() {
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Println("init: power off:", err)
	}
	select {}
}

// MountAt mounts a file system that has no device, and makes the directory.
func MountAt(dir, fs, data string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("none", dir, fs, 0, data); err != nil {
		return fmt.Errorf("mounting %s on %s: %w", fs, dir, err)
	}
	return nil
}

// MoveRoot makes a mounted directory the root.
func MoveRoot(root string) error {
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

// MountScratch mounts the scratch disk below root.
func MountScratch(root, device string) error {
	dir := root + ScratchDir
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(device, dir, "ext4", unix.MS_NOATIME, "noinit_itable"); err != nil {
		return fmt.Errorf("mounting the scratch disk: %w", err)
	}
	return os.Chmod(dir, 0o1777)
}

// Settle brings up what a booted system has, once the root and the scratch
// disk are there: a name, lo, and empty stores.
func Settle() error {
	if err := os.Symlink("/proc/self/fd", "/dev/fd"); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if err := unix.Sethostname([]byte("bstest")); err != nil {
		return err
	}
	if err := loopbackUp(); err != nil {
		return fmt.Errorf("bringing up lo: %w", err)
	}
	return bindState()
}

// bindState hides the stores that the root may have and puts empty directories
// of the scratch disk there: no overlay file system can be stacked on a root
// that is an overlay, and what a program of the host writes there meanwhile, such as
// skopeo's database of blobs, would be seen half written.
func bindState() error {
	for _, name := range []string{"blockstore", "docker", "containerd", "containers"} {
		from, to := filepath.Join(ScratchDir, ".lib", name), filepath.Join("/var/lib", name)
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

// RunCommand starts the command and reaps every child until it has ended.
func RunCommand(work string, config Config) (int, error) {
	files, err := openStreams(work)
	if err != nil {
		return ExitMachine, err
	}
	os.Clearenv()
	for _, v := range config.Env {
		name, value, _ := strings.Cut(v, "=")
		if err := os.Setenv(name, value); err != nil {
			return ExitMachine, err
		}
	}
	if err := os.Chdir(config.Dir); err != nil {
		return ExitMachine, err
	}
	path, err := exec.LookPath(config.Command[0])
	if err != nil {
		return ExitNotFound, err
	}
	if err := os.WriteFile(filepath.Join(work, begunFile), nil, 0o600); err != nil {
		return ExitMachine, err
	}
	if err := sleepLate(config.Slack); err != nil {
		return ExitMachine, err
	}
	p, err := os.StartProcess(path, config.Command, &os.ProcAttr{Files: files, Sys: &unix.SysProcAttr{Setsid: true}})
	if err != nil {
		return ExitNotFound, err
	}
	go answerAsked(work, p.Pid)
	ws, err := reapUntil(p.Pid)
	switch {
	case err != nil:
		return ExitMachine, err
	case ws.Signaled():
		return 128 + int(ws.Signal()), fmt.Errorf("the command was ended by signal: %s", ws.Signal())
	}
	return ws.ExitStatus(), nil
}

// sleepLate lets the sleeps of all that the caller starts from now on be late by slack (prctl(2), PR_SET_TIMERSLACK), if
// that is above 0. Children have it of the thread that starts them, which stays the caller's.
//
// A thread of Go's runtime sleeps for 20 µs again and again while its program has anything to do, and in User Mode Linux
// each sleep is a system call, a clock that is set, an interrupt and two changes of process, which take longer than that.
func sleepLate(slack time.Duration) error {
	if slack <= 0 {
		return nil
	}
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(slack.Nanoseconds()), 0, 0, 0); err != nil {
		return fmt.Errorf("timer slack: %w", err)
	}
	return nil
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
