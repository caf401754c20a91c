package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// umlSelection picks the tests that the host skipped, for want of
// device-mapper, of a capability, of a machine of their own: for each package
// the expressions for -test.run. Of the packages in whole it picks all. What UML
// lacks too is skipped once more.
func umlSelection(host *tier, whole []string) map[string][]string {
	selection := map[string][]string{}
	for _, key := range sortedKeys(host.results) {
		all := slices.Contains(whole, key.pkg)
		if all && key.test != "" && !strings.Contains(key.test, "/") || !all && key.test != "" && host.results[key].outcome == skipped {
			selection[key.pkg] = append(selection[key.pkg], runExpression(key.test))
		}
	}
	return selection
}

// alone are the tests that take minutes there: each gets a machine of its own, so
// that they run beside each other and share no time limit.
var alone = regexp.MustCompile(`^\^Test((Conformance|Crash|RealImage|(Docker|Containerd)[A-Z])\w*\$$|Scripts)`)

// umlRuns deals a selection out to machines, those that take longest first.
func umlRuns(selection map[string][]string) []umlRun {
	var long, short []umlRun
	for _, pkg := range slices.Sorted(maps.Keys(selection)) {
		var rest []string
		for _, test := range selection[pkg] {
			if alone.MatchString(test) {
				long = append(long, umlRun{pkg: pkg, run: test})
			} else {
				rest = append(rest, test)
			}
		}
		if len(rest) > 0 || len(selection[pkg]) == 0 {
			short = append(short, umlRun{pkg: pkg, run: strings.Join(rest, "|")})
		}
	}
	// The crash programmes take longest of all: begun last they would run alone at the end.
	isCrash := func(r umlRun) bool { return strings.HasPrefix(r.run, "^TestCrash") }
	slices.SortStableFunc(long, func(a, b umlRun) int {
		switch {
		case isCrash(a) == isCrash(b):
			return 0
		case isCrash(a):
			return -1
		}
		return 1
	})
	return append(long, short...)
}

// runExpression matches one test for -test.run, whose expression is split at
// slashes first.
func runExpression(test string) string {
	parts := strings.Split(test, "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(p) + "$"
	}
	return strings.Join(parts, "/")
}

// runUML runs tests in machines, a few at a time, and gathers the results in one
// tier. A package without expressions runs whole.
func runUML(ctx context.Context, o options, selection map[string][]string) (*tier, error) {
	t := newTier(umlTier)
	work, err := os.MkdirTemp("", "bstest-bin-")
	if err != nil {
		return t, err
	}
	defer os.RemoveAll(work)
	began := time.Now()
	gather := &gatherer{tier: t, tell: progress(os.Stdout, t.name)}
	slots := make(chan struct{}, o.machines)
	var wg sync.WaitGroup
	for i, run := range umlRuns(selection) {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			run.work = filepath.Join(work, strconv.Itoa(i))
			one, err := runPackage(ctx, o, run)
			if ctx.Err() == nil && machineStopped(one) {
				fmt.Printf("uml: the machine of %s %s stopped in the middle of a test; once more. Its end:\n%s", run.pkg, run.run, outputs(one))
				one, err = runPackage(ctx, o, run)
			}
			gather.add(one, err)
		})
	}
	wg.Wait()
	t.seconds = time.Since(began).Seconds()
	return t, errors.Join(gather.errs...)
}

// stopped is how vagrant/uml/run says that the machine, and not the test, came to an end.
var stopped = regexp.MustCompile(`(?m)^\s*uml: (time limit of|nothing was written for|the machine ended without a result)`)

// machineStopped says whether a machine ended or stood still while a test ran, and the
// test program was not the cause: nothing failed by itself, panicked or ran out of its
// own time. What the machine's tasks were doing then is in the output.
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
		g.tier.results[key] = t.results[key]
		g.tell(key, t.results[key])
	}
	if err != nil {
		g.errs = append(g.errs, err)
	}
}

// umlRun is one package's tests in one machine.
type umlRun struct {
	pkg  string
	run  string // -test.run's expression; empty for all
	work string // for the test binary
}

// runPackage builds the static test binary and boots a machine for it, in the
// package's directory so that testdata is found.
func runPackage(ctx context.Context, o options, u umlRun) (*tier, error) {
	t := newTier(umlTier)
	dir, err := goOutput(ctx, "list", "-f", "{{.Dir}}", u.pkg)
	if err != nil {
		return t, err
	}
	// Named as go test names it, since tests may look for themselves.
	binary := filepath.Join(u.work, strings.ReplaceAll(u.pkg, "/", "_"), path.Base(u.pkg)+".test")
	build := exec.CommandContext(ctx, "go", "test", "-c", failpoints, "-o", binary, u.pkg)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.results[testKey{pkg: u.pkg}] = result{outcome: failed, output: string(out)}
		return t, nil
	}
	if _, err := os.Stat(binary); errors.Is(err, os.ErrNotExist) {
		return t, fmt.Errorf("%s has no tests", u.pkg)
	}
	args := []string{"tool", "test2json", "-t", "-p", u.pkg, o.uml, "--mem", o.memory, "--still", o.still.String(), "--timeout", (o.timeout + time.Minute).String()}
	args = append(args, o.machineFlags...)
	args = append(args, "--", binary, "-test.v=test2json", "-test.timeout="+o.timeout.String())
	if u.run != "" {
		args = append(args, "-test.run="+u.run)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, o.testFlags...)...)
	cmd.Dir = dir
	c := newCollector(t, nil)
	err = collect(ctx, cmd, c, u.pkg)
	if err == nil && len(leaves([]*tier{t})) == 0 {
		err = fmt.Errorf("%s: no test ran in User Mode Linux", u.pkg)
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
	out, err := goOutput(ctx, append([]string{"list", "-f", "{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}"}, patterns...)...)
	if err != nil {
		return nil, err
	}
	if out == "" {
		return nil, fmt.Errorf("no tests in %s", path.Join(patterns...))
	}
	return strings.Fields(out), nil
}
