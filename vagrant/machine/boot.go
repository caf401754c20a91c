package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// consoleTail is how many bytes of the console are kept for error messages.
const consoleTail = 16 << 10

// instance is one booted machine.
type instance struct {
	kind    string
	program Program
	work    string
	options Options
}

// boot runs the machine to its end, copying the command's output meanwhile.
func boot(ctx context.Context, m instance) (status int, err error) {
	// The parent-death signal is tied to the thread that starts the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	console := &tail{limit: consoleTail}
	cmd := m.supervised(console)
	cpu, err := m.processor()
	if err != nil {
		return ExitMachine, err
	}
	defer func() { err = errors.Join(err, cpu.release()) }()
	if err := cpu.inherited(cmd.Start); err != nil {
		return ExitMachine, fmt.Errorf("starting the machine in a PID namespace of its own (root can): %w", err)
	}
	copied := startCopies(m.work)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()

	limit := time.NewTimer(m.options.Timeout)
	defer limit.Stop()
	look := time.NewTicker(stillInterval)
	defer look.Stop()
	quiet := newSilence(m.work)
	var waitErr, stopped, killErr error
	running := true
	for running && stopped == nil {
		select {
		case waitErr = <-ended:
			running = false
		case <-limit.C:
			stopped = fmt.Errorf("time limit of %s reached%s", m.options.Timeout, m.tasks())
		case <-look.C:
			if m.options.Still > 0 && quiet.lasts() > m.options.Still {
				stopped = fmt.Errorf("nothing was written for %s%s", m.options.Still, m.tasks())
			}
		case <-ctx.Done():
			stopped = context.Cause(ctx)
		}
	}
	if stopped != nil {
		if killErr = cmd.Process.Kill(); errors.Is(killErr, os.ErrProcessDone) {
			killErr = nil
		}
		waitErr = <-ended
	}
	copyErr := copied()
	if m.options.Keep {
		copyErr = errors.Join(copyErr, os.WriteFile(filepath.Join(m.work, "console"), console.bytes(), 0o600))
	}
	status, err = m.result(stopped, waitErr, console)
	return status, errors.Join(err, killErr, copyErr)
}

// processor is the host's one that the machine is to stay on, if any.
func (m instance) processor() (*processor, error) {
	if !m.program.OneProcessor {
		return nil, nil
	}
	return claimProcessor("bstest-" + m.kind)
}

// tasks says what the machine is doing that is about to be ended.
func (m instance) tasks() string {
	text := strings.TrimSpace(askTasks(m.work))
	return "; what it was doing:\n\t" + strings.ReplaceAll(text, "\n", "\n\t") + "\n\t"
}

// supervised is the machine's process below a supervisor, which is process 1
// of a PID namespace: a machine may have many processes, and when the
// supervisor ends, for whatever reason, the host's kernel ends them all before
// wait(2) returns (pid_namespaces(7)).
func (m instance) supervised(console io.Writer) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", m.program.Args...)
	cmd.Args[0] = m.program.Path
	cmd.Env = append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + m.work, "TMPDIR=" + m.work, supervisorVar + "=" + m.kind}, m.program.Env...)
	cmd.Dir = m.work
	cmd.Stdout, cmd.Stderr = console, console
	if m.options.Console {
		both := io.MultiWriter(console, os.Stderr)
		cmd.Stdout, cmd.Stderr = both, both
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setpgid:    true, // a terminal's Ctrl-C is for the program on the host alone
		Pdeathsig:  syscall.SIGKILL,
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS,
	}
	return cmd
}

// result turns how the machine ended into an exit status.
func (m instance) result(stopped, waitErr error, console *tail) (int, error) {
	var signal interrupted
	switch {
	case errors.As(stopped, &signal):
		return 128 + int(signal.signal), stopped
	case stopped != nil:
		return ExitTimeout, fmt.Errorf("%w; end of the console:\n%s", stopped, console.lastLines(12))
	}
	text, err := os.ReadFile(filepath.Join(m.work, statusFile))
	if bytes.Contains(console.bytes(), []byte("Kernel panic")) {
		return ExitMachine, fmt.Errorf("the machine ended, since %w; end of the console:\n%s", errPanicked, console.lastLines(60))
	}
	if err != nil {
		return ExitMachine, fmt.Errorf("the machine ended without a result (%v); end of the console:\n%s", waitErr, console.lastLines(40))
	}
	status, message, _ := strings.Cut(string(text), "\n")
	n, err := strconv.Atoi(status)
	if err != nil {
		return ExitMachine, fmt.Errorf("reading the status %q: %w", text, err)
	}
	if message != "" {
		return n, errors.New(message)
	}
	return n, nil
}
