package lvm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// What can go wrong beside package thinpool's errors; compare with errors.Is.
var (
	// ErrMissing: LVM's tools are not there, or too old.
	ErrMissing = errors.New("LVM is missing")
	// ErrNotFound: LVM knows no such volume.
	ErrNotFound = errors.New("no such logical volume")
	// ErrForeign: a group of ours has logical volumes of others in it.
	ErrForeign = errors.New("it has volumes of others")
	// ErrCommand: a command of LVM's failed; its messages are beside it.
	ErrCommand = errors.New("LVM's command failed")
)

const (
	// commandLimit bounds a command: LVM waits for the locks of other commands, and for the disks.
	commandLimit = 2 * time.Minute
	// killAfter is the time that a command has to put right what it was interrupted in.
	killAfter = 10 * time.Second
	// maxMessages bounds what of a command's messages goes into an error.
	maxMessages = 2000
)

// Tool runs LVM's commands. It is safe for concurrent use; LVM has locks of its own.
type Tool struct {
	options Options
	// execute runs a command and returns what it printed: replaced in tests.
	execute func(ctx context.Context, args []string) (stdout, stderr []byte, err error)
}

// Options are for tests.
type Options struct {
	// Observer, if set, is told each command before it runs.
	Observer func(command string)
}

// New finds LVM and makes sure that it is new enough to report as JSON.
func New(ctx context.Context, o Options) (*Tool, error) {
	path, err := exec.LookPath("lvm")
	if err != nil {
		return nil, fmt.Errorf("%w: there is no program lvm; install the package lvm2", ErrMissing)
	}
	t := &Tool{options: o, execute: program(path)}
	return t, t.checkVersion(ctx)
}

// program runs the one binary that all of LVM's commands are.
func program(path string) func(context.Context, []string) ([]byte, []byte, error) {
	return func(ctx context.Context, args []string) ([]byte, []byte, error) {
		cmd := exec.CommandContext(ctx, path, args...)
		cmd.Env = append(os.Environ(), "LC_ALL=C", "LVM_SUPPRESS_FD_WARNINGS=1")
		if _, err := os.Stat("/run/udev/control"); err != nil {
			cmd.Env = append(cmd.Env, "DM_DISABLE_UDEV=1") // else it waits for a daemon that does not run
		}
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
		cmd.WaitDelay = killAfter
		err := cmd.Run()
		return stdout.Bytes(), stderr.Bytes(), err
	}
}

// run runs one command within its time.
func (t *Tool) run(ctx context.Context, args ...string) ([]byte, error) {
	if t.options.Observer != nil {
		t.options.Observer(args[0])
	}
	limited, cancel := context.WithTimeoutCause(ctx, commandLimit, fmt.Errorf("it did not end within %s: %w", commandLimit, context.DeadlineExceeded))
	defer cancel()
	stdout, stderr, err := t.execute(limited, args)
	if err == nil {
		return stdout, nil
	}
	if limited.Err() != nil {
		err = errors.Join(context.Cause(limited), err)
	}
	return stdout, fmt.Errorf("%w: %s: %w: %s", ErrCommand, strings.Join(args, " "), err, messages(stderr))
}

// messages is what a command said, in one line.
func messages(stderr []byte) string {
	var lines []string
	for line := range strings.Lines(string(stderr)) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	text := strings.Join(lines, "; ")
	return text[:min(len(text), maxMessages)]
}

// leastVersion is the first that reports as JSON (LVM's WHATS_NEW, 2.02.158).
var leastVersion = [3]int{2, 2, 158}

var versionLine = regexp.MustCompile(`LVM version:\s+(\d+)\.(\d+)\.(\d+)`)

func (t *Tool) checkVersion(ctx context.Context) error {
	out, err := t.run(ctx, "version")
	version, ok := parseVersion(string(out))
	switch {
	case !ok && err != nil:
		return err
	case !ok:
		return fmt.Errorf("%w: `lvm version` does not tell a version", ErrMissing)
	}
	for i, least := range leastVersion {
		if version[i] != least {
			if version[i] < least {
				return fmt.Errorf("%w: version %v is too old, %v is needed; update the package lvm2", ErrMissing, version, leastVersion)
			}
			break
		}
	}
	return nil // whether this kernel has device-mapper it says by its status; others have asked
}

func parseVersion(out string) (v [3]int, ok bool) {
	m := versionLine.FindStringSubmatch(out)
	if m == nil {
		return v, false
	}
	for i := range v {
		n, err := strconv.Atoi(m[i+1])
		if err != nil {
			return v, false
		}
		v[i] = n
	}
	return v, true
}
