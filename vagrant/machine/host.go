package machine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Files of the work directory that both ends know.
const (
	configFile = "guest.json"
	stdoutFile = "stdout"
	stderrFile = "stderr"
	statusFile = "status"
	begunFile  = "begun" // there is one when the command is about to start
)

// bootTries is how often a machine is booted whose kernel panics before the command starts.
// By emulation with a thread for each processor it does that now and then at boot: "int3" where the
// kernel has changed its own instructions.
const bootTries = 3

// Config tells the guest what to do.
type Config struct {
	Command []string
	Env     []string
	Dir     string
	Shares  []string      // host directories that the command may write to
	Slack   time.Duration // by which its sleeps may be late; 0 for the kernel's
	Kind    any           // what the kind of machine has to add
}

// Run boots one machine, waits for its command and cleans up. The error, if
// any, says why the status is not the command's own.
func Run(ctx context.Context, k Kind, o Options) (status int, err error) {
	work, err := os.MkdirTemp(workParent(), "bstest-"+k.Name+"-")
	if err != nil {
		return ExitMachine, err
	}
	if o.Keep {
		fmt.Fprintf(os.Stderr, "%s: keeping %s\n", k.Name, work)
	} else {
		defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	}
	program, err := k.prepare(ctx, work, o)
	if err != nil {
		return ExitMachine, err
	}
	for try := 1; ; try++ {
		status, err = boot(ctx, instance{kind: k.Name, program: program, work: work, options: o})
		if try == bootTries || ctx.Err() != nil || !stillborn(work, err) {
			return status, err
		}
		fmt.Fprintf(os.Stderr, "%s: the kernel panicked before the command started; once more\n", k.Name)
	}
}

// errPanicked is how a machine ends whose kernel panics.
var errPanicked = errors.New("its kernel panicked")

// stillborn: the machine's kernel panicked, and nothing had been asked of it yet.
func stillborn(work string, err error) bool {
	_, begun := os.Stat(filepath.Join(work, begunFile))
	return errors.Is(err, errPanicked) && errors.Is(begun, os.ErrNotExist)
}

// workParent is where disks' files go: on a disk by preference, since /tmp may
// be a small tmpfs.
func workParent() string {
	if dir := os.Getenv("TMPDIR"); dir != "" {
		return dir
	}
	return "/var/tmp"
}

// CacheDir is where what machines are made of is kept between runs.
func CacheDir() (string, error) {
	if dir := os.Getenv("BLOCKSTORE_CACHE"); dir != "" {
		return dir, nil
	}
	cache, err := os.UserCacheDir()
	return filepath.Join(cache, "blockstore"), err
}

// prepare fills the work directory.
func (k Kind) prepare(ctx context.Context, work string, o Options) (Program, error) {
	p := Plan{Options: o, Work: work, Scratch: filepath.Join(work, "scratch")}
	for i, disk := range o.Disks {
		file := disk.File
		if file == "" {
			file = filepath.Join(work, "disk"+strconv.Itoa(i))
			if err := makeDisk(file, disk.Size); err != nil {
				return Program{}, err
			}
		}
		p.Disks = append(p.Disks, file)
	}
	if err := makeScratch(ctx, p.Scratch, o.Scratch); err != nil {
		return Program{}, err
	}
	for _, name := range []string{stdoutFile, stderrFile} {
		if err := os.WriteFile(filepath.Join(work, name), nil, 0o600); err != nil {
			return Program{}, err
		}
	}
	config := Config{Command: o.Command, Env: k.env(o.Env), Dir: o.Dir, Shares: o.Shares, Slack: o.Slack}
	program, err := k.Boot(ctx, p, &config)
	if err != nil {
		return program, err
	}
	text, err := json.Marshal(config)
	if err != nil {
		return program, err
	}
	return program, os.WriteFile(filepath.Join(work, configFile), text, 0o600)
}

func makeDisk(file string, size int64) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Close())
}

func makeScratch(ctx context.Context, file string, size int64) error {
	if err := makeDisk(file, size); err != nil {
		return err
	}
	// No journal: nothing on this disk outlives the machine.
	mkfs := exec.CommandContext(ctx, "mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-m", "0",
		"-E", "lazy_itable_init=1,nodiscard", file)
	if out, err := mkfs.CombinedOutput(); err != nil {
		return fmt.Errorf("making the scratch file system: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// env is the command's environment: small and the same everywhere, so that a
// test does not depend on who started it.
func (k Kind) env(extra []string) []string {
	env := []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root", "USER=root", "LANG=C.UTF-8", "TERM=dumb",
		"BSTEST_DIR=" + ScratchDir, "TMPDIR=" + ScratchDir,
		"BLOCKSTORE_MACHINE=" + k.Name,
	}
	if cache, err := CacheDir(); err == nil { // the caller's, who need not be at home in /root
		env = append(env, "BLOCKSTORE_CACHE="+cache)
	}
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "BLOCKSTORE_") && !strings.HasPrefix(v, "BLOCKSTORE_MACHINE=") || strings.HasPrefix(v, "CI=") {
			env = append(env, v)
		}
	}
	return append(env, extra...)
}
