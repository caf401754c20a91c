package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Releases of containerd: Debian 12's has no diff plugins, Debian 13's has them, and the
// newest unpacks through its transfer service.
const (
	debian12 = "1.6"
	debian13 = "1.7"
	newest   = "2"
)

// release is where the programs of a release are.
func release(t *testing.T, version string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: containerd does")
	}
	if _, err := exec.LookPath("runc"); err != nil {
		t.Skip("no runc on this machine: Debian's package runc has it")
	}
	dir := "/usr/bin"
	switch version {
	case debian13:
		dir = filepath.Join(partners(t), "debian")
	case newest:
		dir = filepath.Join(partners(t), "newest")
	}
	out, err := exec.Command(filepath.Join(dir, "containerd"), "--version").Output()
	if f := strings.Fields(string(out)); err != nil || len(f) < 3 || !strings.HasPrefix(strings.TrimPrefix(f[2], "v"), version+".") {
		t.Skipf("no containerd %s on this machine: Debian 12's package has 1.6, vagrant/partners/make the others", version)
	}
	return dir
}

// partners is the directory of those that Debian 12 lacks, made if need be.
func partners(t *testing.T) string {
	t.Helper()
	cmd := exec.Command("../vagrant/partners/make")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	require.NoError(t, err)
	return strings.TrimSpace(string(out))
}

// containerd is a containerd with everything of its own in one directory: data, sockets,
// name space, runc's state. ctr of the same release is its client.
type containerd struct {
	daemon
	programs    string
	version     string
	snapshotter string
	namespace   string
	cgroup      string // that its containers' lie in
	ids         int    // of programs that were run in containers
}

// containerdOptions say what differs between containerds. The zero value is one on
// overlayfs, without the CRI.
type containerdOptions struct {
	server *server // whose store it has
	cri    bool
	strict bool // our differ does everything: nothing falls through to containerd's own
}

// newContainerd starts a containerd. When the test ends it is stopped with its
// containers, and nothing of it may be left.
func newContainerd(t *testing.T, version string, o containerdOptions) *containerd {
	t.Helper()
	c := &containerd{daemon: daemon{t: t, name: "containerd"}, programs: release(t, version), version: version}
	if o.server != nil {
		c.dir, c.snapshotter = o.server.peer, proxied
	} else {
		c.dir, c.snapshotter = scratch(t), "overlayfs"
	}
	c.namespace = filepath.Base(c.dir) // one that the machine's own containerd has not: cgroups bear it
	c.cgroup = c.namespace
	if o.cri {
		c.namespace = "k8s.io"
	}
	require.NoError(t, os.WriteFile(c.configFile(), []byte(c.config(o)), 0o600))
	t.Cleanup(c.end)
	c.start()
	return c
}

// proxied is the name that our snapshotter has to containerd.
const proxied = "blockstore"

func (c *containerd) socket() string     { return filepath.Join(c.dir, containerdSocket) }
func (c *containerd) configFile() string { return filepath.Join(c.dir, "config.toml") }
func (c *containerd) runcRoot() string   { return filepath.Join(c.dir, "runc") }

// hasDiffer: its diff service takes plugins.
func (c *containerd) hasDiffer() bool { return c.version != debian12 }

// config switches off what these tests do not use: above all what would look at the
// machine's own directories, such as /opt, /etc/cni and /etc/cdi. The rest is what
// blockstore says that containerd needs.
func (c *containerd) config(o containerdOptions) string {
	off := []string{
		"io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing",
		"io.containerd.image-verifier.v1.bindir", "io.containerd.differ.v1.erofs", "io.containerd.mount-handler.v1.erofs",
	}
	for _, s := range []string{"aufs", "btrfs", "zfs", "devmapper", "blockfile", "erofs", "native"} {
		off = append(off, "io.containerd.snapshotter.v1."+s)
	}
	if !o.cri {
		off = append(off, "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.podsandbox.controller.v1.podsandbox")
	}
	var text strings.Builder
	fmt.Fprintf(&text, "root = %q\nstate = %q\ndisabled_plugins = %s\n", filepath.Join(c.dir, "root"), filepath.Join(c.dir, "state"), quoted(off))
	if o.server == nil {
		fmt.Fprint(&text, "version = 2\n")
	} else {
		fmt.Fprintln(&text, o.printed(c.version))
	}
	fmt.Fprintf(&text, "[grpc]\naddress = %q\n", c.socket())
	if o.cri {
		fmt.Fprint(&text, c.criConfig())
	}
	return text.String()
}

// printed is what blockstore says that containerd needs in its configuration.
func (o containerdOptions) printed(version string) string {
	text := o.server.store.run("serve", "--containerd-socket", o.server.socket, "--print-containerd-config", version)
	if o.strict {
		text = strings.ReplaceAll(text, `, "walking"`, "")
	}
	return text
}

func quoted(list []string) string {
	var out []string
	for _, s := range list {
		out = append(out, strconv.Quote(s))
	}
	return "[" + strings.Join(out, ", ") + "]"
}

// start starts it and waits until it answers.
func (c *containerd) start() {
	c.t.Helper()
	cmd := exec.Command(filepath.Join(c.programs, "containerd"), "--config", c.configFile())
	cmd.Env = c.env()
	c.launch(cmd, func() error {
		r := c.try("version")
		if r.code == 0 && c.namespace == "k8s.io" {
			r = c.tryCRI("version")
		}
		if r.code != 0 {
			return errors.New(r.stderr)
		}
		return nil
	})
}

// env names this daemon to ctr; the release's shim comes first.
func (c *containerd) env() []string {
	return append(os.Environ(), "CONTAINERD_ADDRESS="+c.socket(), "CONTAINERD_NAMESPACE="+c.namespace,
		"CONTAINERD_SNAPSHOTTER="+c.snapshotter, "PATH="+c.programs+":"+os.Getenv("PATH"))
}

// stop stops it as a service manager does. Containers go on.
func (c *containerd) stop() { c.t.Helper(); c.signal(unix.SIGTERM) }

// kill ends it at once. Containers go on.
func (c *containerd) kill() { c.t.Helper(); c.signal(unix.SIGKILL) }

// end removes the containers, and stops everything that is left.
func (c *containerd) end() {
	if c.runs() {
		if c.namespace == "k8s.io" {
			c.tryCRI("rmp", "--all", "--force")
		}
		for _, name := range strings.Fields(c.try("task", "ls", "-q").stdout) {
			c.try("task", "rm", "-f", name)
		}
		for _, name := range strings.Fields(c.try("container", "ls", "-q").stdout) {
			c.try("container", "rm", name)
		}
	}
	c.daemon.end()
	// Seen with user namespaces: runc's usual directory is made, whatever --runc-root says.
	_ = os.Remove(filepath.Join("/run/containerd/runc", c.namespace))
	// Containers' cgroups lie in one that runc leaves.
	for _, pattern := range []string{"/sys/fs/cgroup/", "/sys/fs/cgroup/*/"} {
		found, _ := filepath.Glob(pattern + c.cgroup)
		for _, dir := range found {
			if err := os.Remove(dir); err != nil && !c.t.Failed() {
				c.t.Errorf("a cgroup was left behind: %v", err)
			}
		}
	}
}

// ctr runs a ctr command that must succeed, and returns what it prints on stdout without
// the last newline.
func (c *containerd) ctr(args ...string) string {
	c.t.Helper()
	r := c.try(args...)
	require.Zero(c.t, r.code, "ctr %s: %s%s", strings.Join(args, " "), r.stdout, r.stderr)
	return r.text()
}

func (c *containerd) try(args ...string) result {
	c.t.Helper()
	return c.program(filepath.Join(c.programs, "ctr"), args...)
}

// program runs a client.
func (c *containerd) program(path string, args ...string) result {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = c.env()
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return result{code: -1, stderr: err.Error()}
	}
	return result{code: cmd.ProcessState.ExitCode(), stdout: out.String(), stderr: errs.String()}
}

// load imports an archive.
func (c *containerd) load(archive string) {
	c.t.Helper()
	r := c.tryLoad(archive)
	require.Zero(c.t, r.code, "ctr image import: %s%s", r.stdout, r.stderr)
}

func (c *containerd) tryLoad(archive string) result {
	c.t.Helper()
	args := []string{"image", "import", "--base-name", base}
	if c.version != debian12 {
		args = append(args, "--digests=false")
	}
	return c.try(append(args, archive)...)
}

// base is what the names of imported images begin with.
const base = "example.com/real"

// run starts a container with a program that goes on.
func (c *containerd) run(name, ref string, args ...string) {
	c.t.Helper()
	r := c.tryRun(name, ref, args...)
	require.Zero(c.t, r.code, "ctr run %s: %s%s", name, r.stdout, r.stderr)
}

// idle starts a container that does nothing.
func (c *containerd) idle(name, ref string) {
	c.t.Helper()
	c.run(name, ref, "sleep", "infinity")
}

func (c *containerd) tryRun(name, ref string, args ...string) result {
	c.t.Helper()
	return c.try(append([]string{"run", "-d", "--log-uri", "file://" + c.output(name), "--runc-root", c.runcRoot(), ref, name}, args...)...)
}

// again starts a container's program again.
func (c *containerd) again(name string) {
	c.t.Helper()
	c.ctr("task", "start", "-d", "--log-uri", "file://"+c.output(name), name)
}

// output is the file that a container's programs print to; the shim writes it, whether or
// not containerd runs.
func (c *containerd) output(name string) string { return filepath.Join(c.dir, name+".out") }

// exec runs a program in a container and returns what it prints on stdout. That goes to a file: ctr reads its pipes
// only until it hears of the program's end, which on a busy machine is too early.
func (c *containerd) exec(container string, args ...string) string {
	c.t.Helper()
	said := c.output("exec")
	r := c.try(c.execution(append([]string{"--log-uri", "file://" + said, container}, args...)...)...)
	text, err := os.ReadFile(said)
	require.NoError(c.t, errors.Join(err, os.Remove(said)), "in %s: %s", container, strings.Join(args, " "))
	require.Zero(c.t, r.code, "in %s: %s: %s%s%s", container, strings.Join(args, " "), text, r.stdout, r.stderr)
	return strings.TrimSuffix(string(text), "\n")
}

func (c *containerd) tryExec(container string, args ...string) result {
	c.t.Helper()
	return c.try(c.execution(append([]string{"--fifo-dir", filepath.Join(c.dir, "fifo"), container}, args...)...)...)
}

func (c *containerd) execution(args ...string) []string {
	c.ids++
	return append([]string{"task", "exec", "--exec-id", fmt.Sprintf("e%d", c.ids)}, args...)
}

// kill9 ends a container's program and waits for it; the container stays.
func (c *containerd) kill9(container string) {
	c.t.Helper()
	c.ctr("task", "kill", "-s", "KILL", container)
	require.True(c.t, eventually(func() bool { return c.status(container) == "STOPPED" }), "%s does not end", container)
	c.ctr("task", "rm", container)
}

// layer is a container's layer as the diff service makes it.
func (c *containerd) layer(container string) (found tree) {
	c.t.Helper()
	c.settled(container, func() {
		var err error
		found, err = treeOfTar(bytes.NewReader(c.client().changes(container)))
		require.NoError(c.t, err)
	})
	return found
}

// commit makes an image of a container.
func (c *containerd) commit(container, ref, as string) {
	c.t.Helper()
	c.settled(container, func() { c.client().commit(container, ref, as) })
}

// settled ends a container's program for the time of work where the diff service cannot
// do without: Debian 12's mounts what the container has mounted once more, read-only, and
// the kernel has no file system on a block device read-only and not at once.
func (c *containerd) settled(container string, work func()) {
	c.t.Helper()
	if !c.hasDiffer() && c.status(container) == "RUNNING" {
		c.kill9(container)
		defer c.again(container)
	}
	work()
}

// remove ends a container and removes it with its snapshot.
func (c *containerd) remove(containers ...string) {
	c.t.Helper()
	for _, name := range containers {
		if c.status(name) != "" {
			c.ctr("task", "rm", "-f", name)
		}
		c.ctr("container", "rm", name)
	}
}

func (c *containerd) status(container string) string { _, s := c.task(container); return s }

// pid is the first process of a running container, as the machine numbers it.
func (c *containerd) pid(container string) int {
	c.t.Helper()
	pid, status := c.task(container)
	require.Equal(c.t, "RUNNING", status, container)
	return pid
}

var taskLine = regexp.MustCompile(`^(\S+)\s+(\d+)\s+(\S+)$`)

func (c *containerd) task(container string) (pid int, status string) {
	c.t.Helper()
	for _, line := range lines(c.ctr("task", "ls")) {
		if m := taskLine.FindStringSubmatch(strings.TrimSpace(line)); m != nil && m[1] == container {
			pid, err := strconv.Atoi(m[2])
			require.NoError(c.t, err)
			return pid, m[3]
		}
	}
	return 0, ""
}

// treeOf is what a running container has in these directories of its root, or in all
// but those that are mounted there.
func (c *containerd) treeOf(container string, dirs ...string) tree {
	c.t.Helper()
	return treeBelow(c.t, fmt.Sprintf("/proc/%d/root", c.pid(container)), []string{"proc", "sys", "dev", "run"}, dirs...)
}

// names are those that a quiet list has.
func (c *containerd) names(args ...string) []string {
	c.t.Helper()
	found := strings.Fields(c.ctr(args...))
	slices.Sort(found)
	return found
}
