package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// runHost runs the packages' tests on the machine's own kernel, and calls ended after each
// test and each package.
func runHost(ctx context.Context, o options, dirs places, t *tier, flags []string, ended func(testKey)) error {
	tell := progress(os.Stdout, t.name)
	notify := func(key testKey, r result) {
		tell(key, r)
		ended(key)
	}
	// One package more than there are processors: some of them wait for the disk.
	side := strconv.Itoa(runtime.NumCPU() + 1)
	args := slices.Concat([]string{"test", "-json", failpoints, "-p=" + side, "-timeout=" + o.timeout.String()}, flags, o.packages)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "TMPDIR="+dirs.disk, "BSTEST_DIR="+dirs.disk, "CGO_ENABLED=0",
		"GOTMPDIR="+dirs.short) // where t.TempDir is, too
	return collect(ctx, cmd, newCollector(t, notify), "")
}

// collect runs a command that prints test events. Its status matters only
// where no test says the same: a failed build, a crash. With a package named,
// the command is that package's test binary.
func collect(ctx context.Context, cmd *exec.Cmd, c *collector, pkg string) error {
	began := time.Now()
	defer func() { c.tier.seconds += time.Since(began).Seconds() }()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	readErr := c.read(out, os.Stdout)
	waitErr := cmd.Wait()
	c.finish(pkg, waitErr)
	var exit *exec.ExitError
	if errors.As(waitErr, &exit) && ctx.Err() == nil && anyFailed(c.tier) {
		waitErr = nil // told already, by name
	}
	return errors.Join(readErr, waitErr, context.Cause(ctx))
}

func anyFailed(t *tier) bool {
	for _, r := range t.results {
		if r.outcome == failed {
			return true
		}
	}
	return false
}

// progress prints a line per package and the output of each failed test at once.
func progress(w io.Writer, tier string) func(testKey, result) {
	return func(key testKey, r result) {
		switch {
		case key.test == "" && r.outcome != skipped: // a package without tests is "skipped"
			fmt.Fprintf(w, "%s: %s %s (%.1f s)\n", tier, r.outcome, key.pkg, r.seconds)
		case key.test != "" && r.outcome == failed:
			fmt.Fprintf(w, "%s: FAIL %s\n%s", tier, key, indent(r.output))
		}
	}
}

// failpoints builds the tests with the steps marked at which the crash programme
// kills; see package snapshot/failpoint.
const failpoints = "-tags=failpoints"
