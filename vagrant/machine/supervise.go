package machine

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot/mount"
)

// supervise is process 1 of the machine's PID namespace on the host: it runs
// the machine as its child and reaps what that leaves. It returns the exit
// status.
func supervise(name, program string, args []string) int {
	status, err := superviseProgram(program, args)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: supervisor: %v\n", name, err)
	}
	return status
}

func superviseProgram(program string, args []string) (int, error) {
	// The namespace's own /proc: UML reads /proc/self and /proc/mounts.
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return ExitMachine, fmt.Errorf("making mounts private: %w", err)
	}
	if err := dropLoopMounts(); err != nil {
		return ExitMachine, err
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return ExitMachine, fmt.Errorf("mounting /proc: %w", err)
	}
	if err := os.Unsetenv(supervisorVar); err != nil {
		return ExitMachine, err
	}
	// A standard input that is closed would be the number of the next file that the machine opens.
	stdin, err := os.Open(os.DevNull)
	if err != nil {
		return ExitMachine, err
	}
	p, err := os.StartProcess(program, append([]string{program}, args...), &os.ProcAttr{
		Files: []*os.File{stdin, os.Stdout, os.Stderr},
	})
	if err != nil {
		return ExitMachine, err
	}
	ws, err := reapUntil(p.Pid)
	switch {
	case err != nil:
		return ExitMachine, err
	case ws.Signaled():
		return ExitMachine, fmt.Errorf("the machine's process was ended by signal: %s", ws.Signal())
	}
	return ws.ExitStatus(), nil
}

// reapUntil waits for every child that ends, as process 1 has to, until the
// one with this pid has.
func reapUntil(pid int) (unix.WaitStatus, error) {
	for {
		var ws unix.WaitStatus
		got, err := unix.Wait4(-1, &ws, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, fmt.Errorf("waiting: %w", err)
		case got == pid && (ws.Exited() || ws.Signaled()):
			return ws, nil
		}
	}
}

// dropLoopMounts lets go of the host's loop-mounted file systems. This mount
// namespace has copies of them, and a copy would keep a loop device busy after
// its owner on the host has unmounted it.
func dropLoopMounts() error {
	entries, err := mount.Table()
	if err != nil {
		return fmt.Errorf("reading mounts: %w", err)
	}
	for i := len(entries) - 1; i >= 0; i-- {
		if !strings.HasPrefix(entries[i].Source, "/dev/loop") {
			continue
		}
		if err := unix.Unmount(entries[i].Target, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("letting go of %s: %w", entries[i].Target, err)
		}
	}
	return nil
}
