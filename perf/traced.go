package perf

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"blockstore.dev/blockstore/internal/systrace"
)

// CallsNote says in a report what its counts are of system calls.
const CallsNote = "What nobody calls has no row. Waits for the disk are fsync, fdatasync, sync, syncfs and btrfs's ioctl for the same, which is among the ioctls too. A suspend of device-mapper waits too, and is only among the ioctls."

// CanTrace says why system calls cannot be counted here, or nil.
func CanTrace() error {
	if _, err := exec.LookPath("strace"); err != nil {
		return fmt.Errorf("counting system calls needs strace; leave it out with --no-counts, or install it: %w", err)
	}
	return nil
}

// tracedWait is how long a traced child has to clean up when the run is interrupted.
const tracedWait = 2 * time.Minute

// Traced runs a command under strace, with the trace in dir, and returns what it wrote on its standard output and its calls by
// the marks of its operations (package systrace).
func Traced(ctx context.Context, dir string, command ...string) (said string, calls map[string]systrace.Tally, err error) {
	trace := filepath.Join(dir, "trace")
	defer os.Remove(trace)
	cmd := exec.CommandContext(ctx, "strace", append(systrace.Arguments(trace), command...)...)
	// The child takes its own storage back: it is told to end, not killed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = tracedWait
	if said, err = OutputOf(cmd); err != nil {
		return "", nil, err
	}
	f, err := os.Open(trace)
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	calls, err = systrace.Read(f)
	return said, calls, err
}

// CallCount is one of the counts below a row.
type CallCount struct {
	Name   string
	Number func(systrace.Tally) int
}

// CallCounts are the counts below a row, in the order in which AddPart takes them: the last stands first.
func CallCounts() []CallCount {
	return []CallCount{
		{"waits for the disk", systrace.Tally.Syncs},
		{"ioctls", systrace.Tally.Ioctls},
		{"programs started", func(t systrace.Tally) int { return t.Sum("execve") }},
	}
}
