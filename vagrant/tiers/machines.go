package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// runExpression matches one test for -test.run, whose expression is split at
// slashes first.
func runExpression(test string) string {
	parts := strings.Split(test, "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(p) + "$"
	}
	return strings.Join(parts, "/")
}

// kernel is what a tier's machines run.
type kernel struct {
	tier    string
	program string           // boots a machine
	flags   []string         // of it
	limit   int              // of machines that run at a time
	timeout time.Duration    // of the tests in one machine
	repeats func(*tier) bool // whether a machine's results are its own fault; nil: never
}

// machineRun is tests of one package in one machine.
type machineRun struct {
	pkg   string
	run   string   // -test.run's expression; empty for all
	flags []string // of the machine's program
}

// machines are those of one tier, and what they have found.
type machines struct {
	kernel
	o      options
	work   string
	gather *gatherer
	queue  *queue
	wg     sync.WaitGroup
	builds sync.Map // of package to *built
	idle   func()   // is called when a machine finds nothing more to run, and none will come; or nil

	mu      sync.Mutex
	started int
	begun   time.Time
	left    map[string]int         // runs of a package that have not ended
	then    map[string]func(*tier) // what happens with what was found of a package
}

func newMachines(o options, k kernel) (*machines, error) {
	work, err := os.MkdirTemp("", "bstest-bin-")
	if err != nil {
		return nil, err
	}
	t := newTier(k.tier)
	return &machines{
		kernel: k, o: o, work: work, queue: newQueue(), begun: time.Now(), left: map[string]int{}, then: map[string]func(*tier){},
		gather: &gatherer{tier: t, tell: progress(os.Stdout, t.name)},
	}, nil
}

// runMachines runs tests in machines and gathers the results in one tier. A
// package without expressions runs whole.
func runMachines(ctx context.Context, o options, k kernel, selection map[string][]string) (*tier, error) {
	m, err := newMachines(o, k)
	if err != nil {
		return newTier(k.tier), err
	}
	m.add(selection, nil)
	m.start(ctx, k.limit)
	return m.end()
}

// add has a selection run as soon as there is a machine for it, of which flags are of a package's machines.
func (m *machines) add(selection, flags map[string][]string) {
	runs := dealOut(selection)
	m.mu.Lock()
	for i := range runs {
		runs[i].flags = flags[runs[i].pkg]
		m.left[runs[i].pkg]++
	}
	m.mu.Unlock()
	m.queue.add(runs...)
}

// after says that no more of a package is added: then gets what was found of it when all of it has run, at once if it has.
func (m *machines) after(pkg string, then func(*tier)) {
	m.mu.Lock()
	m.then[pkg] = then
	over := m.left[pkg] == 0
	m.mu.Unlock()
	if over {
		then(m.gather.only(pkg))
	}
}

// start has so many more machines run at a time, but not more than the limit.
func (m *machines) start(ctx context.Context, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n = min(n, m.limit-m.started)
	if m.started == 0 {
		m.begun = time.Now()
	}
	m.started += n
	for range n {
		m.wg.Go(func() {
			for {
				run, ok := m.queue.next()
				if !ok {
					break
				}
				if ctx.Err() == nil {
					m.run(ctx, run)
				}
			}
			if m.idle != nil {
				m.idle()
			}
		})
	}
}

// end waits until all has run that was added.
func (m *machines) end() (*tier, error) {
	m.queue.close()
	m.wg.Wait()
	m.gather.tier.seconds = time.Since(m.begun).Seconds()
	return m.gather.tier, errors.Join(append(m.gather.errs, os.RemoveAll(m.work))...)
}

func (m *machines) run(ctx context.Context, run machineRun) {
	one, err := m.runPackage(ctx, run)
	if ctx.Err() == nil && m.repeats != nil && m.repeats(one) {
		fmt.Printf("%s: the machine of %s %s stopped in the middle of a test; once more. Its end:\n%s", m.tier, run.pkg, run.run, outputs(one))
		one, err = m.runPackage(ctx, run)
	}
	m.gather.add(one, err)
	m.mu.Lock()
	m.left[run.pkg]--
	then := m.then[run.pkg]
	over := m.left[run.pkg] == 0
	m.mu.Unlock()
	if over && then != nil {
		then(m.gather.only(run.pkg))
	}
}

// stopped is how the program that boots says that the machine, and not the test, came to an end.
var stopped = regexp.MustCompile(`(?m)^\s*(uml|vm): (time limit of|nothing was written for|the machine ended without a result)`)

// machineStopped says whether a machine ended or stood still while a test ran, and the
// test program was not the cause: nothing failed by itself, panicked or ran out of its
// own time. What the machine's tasks were doing then is in the output. User Mode Linux
// does that now and then on busy processors.
func machineStopped(t *tier) bool {
	any := false
	for _, r := range t.results {
		if strings.Contains(r.output, "panic: ") || strings.Contains(r.output, "fatal error: ") {
			return false
		}
		any = any || r.outcome == failed && stopped.MatchString(r.output)
	}
	for _, r := range t.results {
		if any && r.outcome == failed && strings.Contains(r.output, "--- FAIL: ") {
			return false
		}
	}
	return any
}

// outputs is what the failed tests of a tier wrote.
func outputs(t *tier) string {
	var b strings.Builder
	for _, key := range sortedKeys(t.results) {
		if r := t.results[key]; r.outcome == failed {
			fmt.Fprintf(&b, "%s\n%s", key, indent(r.output))
		}
	}
	return b.String()
}

// gatherer joins the results of machines that run side by side.
type gatherer struct {
	mu   sync.Mutex
	tier *tier
	tell func(testKey, result)
	errs []error
}

func (g *gatherer) add(t *tier, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, key := range sortedKeys(t.results) {
		if g.tier.results[key].outcome == failed {
			continue // of a package: another machine's part of it failed
		}
		r := t.results[key]
		if key.test == "" { // of a package: another machine's part of it took its time too
			r.seconds += g.tier.results[key].seconds
		}
		g.tier.results[key] = r
		g.tell(key, t.results[key])
	}
	if err != nil {
		g.errs = append(g.errs, err)
	}
}

// only is what was found of one package.
func (g *gatherer) only(pkg string) *tier {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.tier.only(pkg)
}

// built is a package's test binary.
type built struct {
	once      sync.Once
	dir       string // the package's
	binary    string
	complaint string // the compiler's, instead
	err       error
}

// build makes a package's static test binary, once for all its machines.
func (m *machines) build(ctx context.Context, pkg string) *built {
	made, _ := m.builds.LoadOrStore(pkg, &built{})
	b := made.(*built)
	b.once.Do(func() {
		if b.dir, b.err = goOutput(ctx, "list", "-f", "{{.Dir}}", pkg); b.err != nil {
			return
		}
		// Named as go test names it, since tests may look for themselves.
		b.binary = filepath.Join(m.work, strings.ReplaceAll(pkg, "/", "_"), path.Base(pkg)+".test")
		build := exec.CommandContext(ctx, "go", "test", "-c", "-ldflags=-s", failpoints, "-o", b.binary, pkg) // as `go test` links it
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			b.complaint = string(out)
		} else if _, err := os.Stat(b.binary); errors.Is(err, os.ErrNotExist) {
			b.err = fmt.Errorf("%s has no tests", pkg)
		}
	})
	return b
}

// timerSlack is by how much the sleeps of what a machine runs may be late: nearly all of it is Go's programs.
const timerSlack = time.Millisecond

// runPackage boots a machine for a test binary, in the package's directory so that testdata is
// found.
func (m *machines) runPackage(ctx context.Context, run machineRun) (*tier, error) {
	t := newTier(m.tier)
	b := m.build(ctx, run.pkg)
	if b.err != nil {
		return t, b.err
	}
	if b.complaint != "" {
		t.results[testKey{pkg: run.pkg}] = result{outcome: failed, output: b.complaint}
		return t, nil
	}
	args := []string{"tool", "test2json", "-t", "-p", run.pkg, m.program, "--mem", m.o.memory, "--still", m.o.still.String(), "--timer-slack", timerSlack.String(), "--timeout", (m.timeout + time.Minute).String()}
	args = slices.Concat(args, m.flags, run.flags, m.o.machineFlags, []string{"--", b.binary, "-test.v=test2json", "-test.timeout=" + m.timeout.String()})
	if run.run != "" {
		args = append(args, "-test.run="+run.run)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, m.o.testFlags...)...)
	cmd.Dir = b.dir
	c := newCollector(t, nil)
	err := collect(ctx, cmd, c, run.pkg)
	if err == nil && len(leaves([]*tier{t})) == 0 {
		err = fmt.Errorf("%s: no test ran in the machine of tier %s", run.pkg, m.tier)
	}
	return t, err
}

// goOutput runs the go command for one line of output.
func goOutput(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "go", args...).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return "", fmt.Errorf("go %s: %w: %s", strings.Join(args, " "), err, exit.Stderr)
		}
		return "", err
	}
	return strings.TrimSpace(string(out)), nil
}

// listPackages expands patterns such as ./... to import paths.
func listPackages(ctx context.Context, patterns []string) ([]string, error) {
	if len(patterns) == 0 {
		return nil, nil
	}
	out, err := goOutput(ctx, append([]string{"list", "-f", "{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}"}, patterns...)...)
	if err != nil {
		return nil, err
	}
	if out == "" {
		return nil, fmt.Errorf("no tests in %s", path.Join(patterns...))
	}
	return strings.Fields(out), nil
}
