package perf

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"blockstore.dev/blockstore/internal/systrace"
)

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
