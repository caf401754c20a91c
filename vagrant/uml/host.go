package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Files of the temporary directory that both ends know.
const (
	configFile = "guest.json"
	stdoutFile = "stdout"
	stderrFile = "stderr"
	statusFile = "status"
)

// guestVar is the environment variable by which the kernel's command line
// hands the temporary directory to the init.
const guestVar = "bstest_uml"

// supervisorVar marks the process that becomes the machine's supervisor.
const supervisorVar = "bstest_uml_supervisor"

// modulesDir is where Debian's package user-mode-linux keeps its modules.
const modulesDir = "/usr/lib/uml/modules"

const (
	consoleTail  = 16 << 10              // bytes of console kept for error messages
	copyInterval = 20 * time.Millisecond // how often new output is looked for
)

// guestConfig tells the init what to do.
type guestConfig struct {
	Command []string
	Env     []string
	Dir     string
	Shares  []string
	Scratch string // name of the scratch disk's device
}

// run boots one machine, waits for its command and cleans up. The error, if
// any, says why the status is not the command's own.
func run(ctx context.Context, o options) (status int, err error) {
	kernel, err := exec.LookPath("linux.uml")
	if err != nil {
		return exitMachine, errors.New("no linux.uml on the path: apt-get install user-mode-linux")
	}
	work, err := os.MkdirTemp(workParent(), "bstest-uml-")
	if err != nil {
		return exitMachine, err
	}
	if o.keep {
		fmt.Fprintln(os.Stderr, "uml: keeping", work)
	} else {
		defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	}
	args, err := prepare(ctx, work, o)
	if err != nil {
		return exitMachine, err
	}
	preload, err := xstateLibrary(ctx, work)
	if err != nil {
		return exitMachine, err
	}
	return boot(ctx, machine{kernel: kernel, preload: preload, args: args, work: work, timeout: o.timeout, echo: o.console, keep: o.keep})
}

// workParent is where disks' files go: on a disk by preference, since /tmp may
// be a small tmpfs.
func workParent() string {
	if dir := os.Getenv("TMPDIR"); dir != "" {
		return dir
	}
	return "/var/tmp"
}

// prepare fills the temporary directory and returns the kernel's arguments.
func prepare(ctx context.Context, work string, o options) ([]string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if err := linkModules(work); err != nil {
		return nil, err
	}
	args := []string{
		"root=/dev/root", "rootfstype=hostfs", "ro", "mem=" + strconv.FormatInt(o.memory>>20, 10) + "M",
		"con=null", "con0=null,fd:1", "oops=panic", "panic=-1", "noreboot",
		"uml_dir=" + work, "umid=uml",
		"init=" + self, guestVar + "=" + work,
	}
	for i, size := range o.disks {
		arg, err := makeDisk(work, diskName(i), size)
		if err != nil {
			return nil, err
		}
		args = append(args, arg)
	}
	scratch := diskName(maxDisks)
	arg, err := makeDisk(work, scratch, o.scratch)
	if err != nil {
		return nil, err
	}
	args = append(args, arg)
	// No journal: nothing on this disk outlives the machine.
	mkfs := exec.CommandContext(ctx, "mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-m", "0",
		"-E", "lazy_itable_init=1,nodiscard", filepath.Join(work, scratch))
	if out, err := mkfs.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("making the scratch file system: %w: %s", err, bytes.TrimSpace(out))
	}
	config, err := json.Marshal(guestConfig{
		Command: o.command, Env: guestEnv(o.env), Dir: o.dir, Shares: o.shares, Scratch: "/dev/" + scratch,
	})
	if err != nil {
		return nil, err
	}
	for _, name := range []string{stdoutFile, stderrFile} {
		if err := os.WriteFile(filepath.Join(work, name), nil, 0o600); err != nil {
			return nil, err
		}
	}
	return args, os.WriteFile(filepath.Join(work, configFile), config, 0o600)
}

// linkModules makes work a root for modprobe -d.
func linkModules(work string) error {
	versions, err := os.ReadDir(modulesDir)
	if err != nil {
		return fmt.Errorf("finding the machine's modules (package user-mode-linux): %w", err)
	}
	dir := filepath.Join(work, "lib", "modules")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, v := range versions {
		if err := os.Symlink(filepath.Join(modulesDir, v.Name()), filepath.Join(dir, v.Name())); err != nil {
			return err
		}
	}
	return nil
}

// diskName is the ubd driver's name of disk i.
func diskName(i int) string { return "ubd" + string(rune('a'+i)) }

func makeDisk(work, name string, size int64) (string, error) {
	path := filepath.Join(work, name)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	return name + "=" + path, errors.Join(f.Truncate(size), f.Close())
}

// guestEnv is the command's environment: small and the same everywhere, so
// that a test does not depend on who started it.
func guestEnv(extra []string) []string {
	env := []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root", "USER=root", "LANG=C.UTF-8", "TERM=dumb",
		"BSTEST_DIR=" + scratchDir, "TMPDIR=" + scratchDir,
		"DM_DISABLE_UDEV=1", "BLOCKSTORE_UML=1",
	}
	if cache, err := os.UserCacheDir(); err == nil { // the caller's, who need not be at home in /root
		env = append(env, "BLOCKSTORE_CACHE="+filepath.Join(cache, "blockstore"))
	}
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "BLOCKSTORE_") || strings.HasPrefix(v, "CI=") {
			env = append(env, v)
		}
	}
	return append(env, extra...)
}

// machine is one booted kernel.
type machine struct {
	kernel  string
	preload string // library for the kernel's process
	args    []string
	work    string
	timeout time.Duration
	echo    bool // copy the console to stderr
	keep    bool // leave the console's end in work
}

// boot runs the machine to its end, copying the command's output meanwhile.
func boot(ctx context.Context, m machine) (int, error) {
	// The parent-death signal is tied to the thread that starts the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	console := &tail{limit: consoleTail}
	cmd := m.supervised(console)
	if err := cmd.Start(); err != nil {
		return exitMachine, fmt.Errorf("starting the machine in a PID namespace of its own (root can): %w", err)
	}
	copied := startCopies(m.work)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()

	limit := time.NewTimer(m.timeout)
	defer limit.Stop()
	var waitErr, stopped, killErr error
	select {
	case waitErr = <-ended:
	case <-limit.C:
		stopped = fmt.Errorf("time limit of %s reached", m.timeout)
	case <-ctx.Done():
		stopped = context.Cause(ctx)
	}
	if stopped != nil {
		killErr = cmd.Process.Kill()
		waitErr = <-ended
	}
	copyErr := copied()
	if m.keep {
		copyErr = errors.Join(copyErr, os.WriteFile(filepath.Join(m.work, "console"), console.bytes(), 0o600))
	}
	status, err := m.result(stopped, waitErr, console)
	return status, errors.Join(err, killErr, copyErr)
}

// supervised is the kernel's process below a supervisor, which is process 1 of
// a PID namespace: UML has many processes, and when the supervisor ends, for
// whatever reason, the host's kernel ends them all before wait(2) returns
// (pid_namespaces(7)).
func (m machine) supervised(console io.Writer) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", m.args...)
	cmd.Args[0] = m.kernel
	// UML keeps its memory in a file in TMPDIR and wants a tmpfs there.
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + m.work, "TMPDIR=/dev/shm", supervisorVar + "=1"}
	if m.preload != "" {
		cmd.Env = append(cmd.Env, "LD_PRELOAD="+m.preload)
	}
	cmd.Dir = m.work
	cmd.Stdout, cmd.Stderr = console, console
	if m.echo {
		both := io.MultiWriter(console, os.Stderr)
		cmd.Stdout, cmd.Stderr = both, both
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setpgid:    true, // a terminal's Ctrl-C is for run alone
		Pdeathsig:  syscall.SIGKILL,
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS,
	}
	return cmd
}

// result turns how the machine ended into an exit status.
func (m machine) result(stopped, waitErr error, console *tail) (int, error) {
	var signal interrupted
	switch {
	case errors.As(stopped, &signal):
		return 128 + int(signal.signal), stopped
	case stopped != nil:
		return exitTimeout, fmt.Errorf("%w; end of the console:\n%s", stopped, console.lastLines(12))
	}
	text, err := os.ReadFile(filepath.Join(m.work, statusFile))
	if err != nil || bytes.Contains(console.bytes(), []byte("Kernel panic")) {
		return exitMachine, fmt.Errorf("the machine ended without a result (%v); end of the console:\n%s", waitErr, console.lastLines(40))
	}
	status, message, _ := strings.Cut(string(text), "\n")
	n, err := strconv.Atoi(status)
	if err != nil {
		return exitMachine, fmt.Errorf("reading the status %q: %w", text, err)
	}
	if message != "" {
		return n, errors.New(message)
	}
	return n, nil
}

// startCopies copies the command's output files to stdout and stderr as they
// grow. The function that it returns copies the rest and waits.
func startCopies(work string) func() error {
	stop := make(chan struct{})
	var wg sync.WaitGroup
	errs := make([]error, 2)
	for i, to := range []*os.File{os.Stdout, os.Stderr} {
		path := filepath.Join(work, []string{stdoutFile, stderrFile}[i])
		wg.Add(1)
		go func() {
			defer wg.Done()
			errs[i] = follow(path, to, stop)
		}()
	}
	return func() error {
		close(stop)
		wg.Wait()
		return errors.Join(errs...)
	}
}

// follow copies a growing file until stop is closed and its end is reached.
// hostfs writes through, so what the command has written is in the file.
func follow(path string, to io.Writer, stop <-chan struct{}) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	tick := time.NewTicker(copyInterval)
	defer tick.Stop()
	for last := false; !last; {
		select {
		case <-stop:
			last = true
		case <-tick.C:
		}
		if _, err := io.Copy(to, f); err != nil {
			return err
		}
	}
	return nil
}

// tail is a writer that keeps the last bytes. It may be used from several
// goroutines.
type tail struct {
	limit int
	mu    sync.Mutex
	buf   []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - t.limit; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(p), nil
}

// lastLines returns at most n lines, indented for an error message.
func (t *tail) lastLines(n int) string {
	lines := strings.Split(strings.TrimSpace(string(t.bytes())), "\n")
	return "\t" + strings.Join(lines[max(0, len(lines)-n):], "\n\t")
}

func (t *tail) bytes() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return bytes.Clone(t.buf)
}
