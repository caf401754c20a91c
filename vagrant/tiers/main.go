package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "tiers:", err)
		}
		stop()
		os.Exit(1)
	}
}

// options is what the command line asked for.
type options struct {
	uml          string // program that boots a machine
	memory       string
	machines     int
	timeout      time.Duration // of one package's tests
	still        time.Duration // of a machine in which no test says anything
	machineFlags []string      // more flags for the uml program
	umlAll       []string      // packages all of whose tests run in the uml tier too
	packages     []string
	testFlags    []string
}

func run(ctx context.Context, args []string) error {
	const usage = "usage: tiers test|host|uml [flags] [PACKAGE]... | tiers gotest [flags] PACKAGE... [-- TESTFLAG...]"
	if len(args) == 0 {
		return errors.New(usage)
	}
	o, err := parseOptions(args[0], args[1:])
	if err != nil {
		return err
	}
	switch args[0] {
	case "test":
		return testAll(ctx, o, []string{"-count=1"}, true)
	case "host":
		return testAll(ctx, o, []string{"-count=1"}, false)
	case "uml":
		return testAll(ctx, o, nil, true)
	case "gotest":
		return testUML(ctx, o)
	}
	return fmt.Errorf("unknown verb %q; %s", args[0], usage)
}

func parseOptions(verb string, args []string) (options, error) {
	o := options{}
	flags := flag.NewFlagSet("tiers "+verb, flag.ContinueOnError)
	flags.StringVar(&o.uml, "uml", "vagrant/uml/run", "program that boots User Mode Linux")
	flags.StringVar(&o.memory, "mem", "3G", "memory of a machine")
	flags.IntVar(&o.machines, "machines", 2, "machines that run at a time")
	flags.DurationVar(&o.timeout, "timeout", 15*time.Minute, "time limit of one package's tests")
	flags.DurationVar(&o.still, "still", 10*time.Minute, "time limit of a machine in which no test says anything")
	flags.Func("machine-flag", "one more `flag` for the program that boots, such as --disk=2G", func(s string) error {
		o.machineFlags = append(o.machineFlags, s)
		return nil
	})
	flags.Func("uml-all", "`package` whose tests all run in the uml tier too, skipped on the host or not", func(s string) error {
		o.umlAll = append(o.umlAll, s)
		return nil
	})
	if i := slices.Index(args, "--"); i >= 0 {
		args, o.testFlags = args[:i], args[i+1:]
	}
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.packages = flags.Args(); len(o.packages) == 0 {
		o.packages = []string{"./..."}
	}
	uml, err := filepath.Abs(o.uml) // the tests run in their packages' directories
	o.uml = uml
	return o, err
}

// testAll runs the host tier, the uml tier for what it skipped, and reports.
func testAll(ctx context.Context, o options, hostFlags []string, withUML bool) (err error) {
	before, err := takeTraces()
	if err != nil {
		return err
	}
	if err := adoptOrphans(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(diskDir(), "bstest-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sweep(dir)) }()
	host, hostErr := runHost(ctx, o, dir, hostFlags)
	tiers, errs := []*tier{host}, []error{hostErr}
	if withUML && ctx.Err() == nil {
		selection, err := selectUML(ctx, o, host)
		errs = append(errs, err)
		if len(selection) > 0 {
			uml, err := runUML(ctx, o, selection)
			tiers, errs = append(tiers, uml), append(errs, err)
		}
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return report(os.Stdout, tiers, append(compact(errs), leaks(before, dir, "bstest", "blockstore")...))
}

// selectUML is what the uml tier runs: expressions for -test.run by package.
func selectUML(ctx context.Context, o options, host *tier) (map[string][]string, error) {
	if len(o.umlAll) == 0 {
		return umlSelection(host, nil), nil
	}
	whole, err := listPackages(ctx, o.umlAll)
	return umlSelection(host, whole), err
}

// testUML runs all tests of the packages in User Mode Linux.
func testUML(ctx context.Context, o options) error {
	packages, err := listPackages(ctx, o.packages)
	if err != nil {
		return err
	}
	selection := map[string][]string{}
	for _, pkg := range packages {
		selection[pkg] = nil
	}
	uml, err := runUML(ctx, o, selection)
	return report(os.Stdout, []*tier{uml}, compact([]error{err}))
}

// diskDir is where the tests' files go: on a disk, since loop devices on a
// tmpfs refuse direct I/O and /tmp may be one.
func diskDir() string {
	if dir := os.Getenv("BSTEST_DIR"); dir != "" {
		return dir
	}
	if dir := os.Getenv("TMPDIR"); dir != "" && !strings.HasPrefix(dir, "/tmp") {
		return dir
	}
	return "/var/tmp"
}
