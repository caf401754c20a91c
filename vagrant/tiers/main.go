package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
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
	uml, vm      string // programs that boot a machine
	inVM         bool   // gotest runs in the virtual machine
	logs         bool   // gotest prints what passed tests logged
	memory       string
	machines     int
	timeout      time.Duration  // of one package's tests
	still        time.Duration  // of a machine in which no test says anything
	vmTimeout    time.Duration  // of one package's tests in the virtual machine
	machineFlags []string       // more flags for the program that boots
	umlAll       []string       // packages all of whose tests run in the uml tier too
	umlLeave     *regexp.Regexp // of those, tests ("package test") that the host's run is enough of; or nil
	vmAll        []string       // the same for the vm tier
	vmLeave      *regexp.Regexp // tests that the vm tier leaves to `make test-vm`, as "package test"; or nil
	packages     []string
	testFlags    []string
}

// machinesOr is how many machines were asked for, or else n.
func (o options) machinesOr(n int) int {
	if o.machines > 0 {
		return o.machines
	}
	return n
}

func run(ctx context.Context, args []string) error {
	const usage = "usage: tiers test|host|uml|vm [flags] [PACKAGE]... | tiers gotest [flags] PACKAGE... [-- TESTFLAG...]"
	if len(args) == 0 {
		return errors.New(usage)
	}
	o, err := parseOptions(args[0], args[1:])
	if err != nil {
		return err
	}
	switch args[0] {
	case "test":
		return testAll(ctx, o, []string{"-count=1"}, umlTier, vmTier)
	case "host":
		return testAll(ctx, o, []string{"-count=1"})
	case "uml":
		return testAll(ctx, o, nil, umlTier)
	case "vm":
		return testAll(ctx, o, nil, vmTier)
	case "gotest":
		return testWhole(ctx, o)
	}
	return fmt.Errorf("unknown verb %q; %s", args[0], usage)
}

func parseOptions(verb string, args []string) (options, error) {
	o := options{}
	flags := flag.NewFlagSet("tiers "+verb, flag.ContinueOnError)
	flags.StringVar(&o.uml, "uml", "vagrant/uml/run", "program that boots User Mode Linux")
	flags.StringVar(&o.vm, "vm", "vagrant/vm/run", "program that boots the virtual machine")
	flags.BoolVar(&o.inVM, "in-vm", false, "gotest: run in the virtual machine")
	flags.BoolVar(&o.logs, "log", false, "gotest: print what tests that passed have logged")
	flags.StringVar(&o.memory, "mem", "3G", "memory of a machine")
	flags.IntVar(&o.machines, "machines", 0, "machines that run at a time; 0: as many as the processors and the memory are for")
	flags.DurationVar(&o.timeout, "timeout", 30*time.Minute, "time limit of one package's tests")
	flags.DurationVar(&o.still, "still", 10*time.Minute, "time limit of a machine in which no test says anything")
	flags.DurationVar(&o.vmTimeout, "vm-timeout", 20*time.Minute, "time limit of one package's tests in the virtual machine")
	flags.Func("machine-flag", "one more `flag` for the program that boots, such as --disk=2G", func(s string) error {
		o.machineFlags = append(o.machineFlags, s)
		return nil
	})
	flags.Func("uml-all", "`package` whose tests all run in the uml tier too, skipped on the host or not", func(s string) error {
		o.umlAll = append(o.umlAll, s)
		return nil
	})
	flags.Func("uml-leave", "`regexp` of tests (\"package test\") of --uml-all that the uml tier does not run when the host has", func(s string) (err error) {
		o.umlLeave, err = regexp.Compile(s)
		return err
	})
	flags.Func("vm-all", "`package` whose tests all run in the vm tier too, skipped elsewhere or not", func(s string) error {
		o.vmAll = append(o.vmAll, s)
		return nil
	})
	flags.Func("vm-leave", "`regexp` of tests (\"package test\") that the vm tier does not run, since by emulation they take too long; the report says so", func(s string) (err error) {
		o.vmLeave, err = regexp.Compile(s)
		return err
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
	for _, program := range []*string{&o.uml, &o.vm} { // the tests run in their packages' directories
		path, err := filepath.Abs(*program)
		if err != nil {
			return o, err
		}
		*program = path
	}
	return o, nil
}

// testAll runs the host tier, and tiers in machines for what it skipped, and reports.
func testAll(ctx context.Context, o options, hostFlags []string, more ...string) (err error) {
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
	tiers, errs := runTiers(ctx, o, dir, hostFlags, more)
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return report(os.Stdout, tiers, append(compact(errs), leaks(before, dir, "bstest", "blockstore")...))
}

// runTiers runs the host tier, of which one package takes longest by far and leaves half of the processors idle: beside it
// half of the machines of User Mode Linux run what the packages before it have left to them. The virtual machine comes last.
func runTiers(ctx context.Context, o options, dir string, hostFlags, more []string) (tiers []*tier, errs []error) {
	host := newTier(hostTier)
	var uml *machines
	left := func(string) {}
	if slices.Contains(more, umlTier) {
		whole, err := listPackages(ctx, o.umlAll)
		if err == nil {
			uml, err = newMachines(o, umlKernel(o))
		}
		if err != nil {
			return nil, []error{err}
		}
		uml.start(ctx, uml.machines/2)
		left = func(pkg string) { uml.add(umlSelection(host.only(pkg), whole, o.umlLeave)) }
	}
	err := runHost(ctx, o, dir, host, hostFlags, left)
	tiers, errs = append(tiers, host), append(errs, err)
	if uml != nil {
		uml.start(ctx, uml.machines-uml.machines/2)
		t, err := uml.end()
		errs = append(errs, err)
		if len(t.results) > 0 {
			tiers = append(tiers, t)
		}
	}
	if slices.Contains(more, vmTier) && ctx.Err() == nil {
		vm, err := runVM(ctx, o, tiers)
		errs = append(errs, err)
		if vm != nil {
			tiers = append(tiers, vm)
		}
	}
	return tiers, errs
}

// runVM runs the vm tier after the others, or returns nil when none has left anything to it.
func runVM(ctx context.Context, o options, before []*tier) (*tier, error) {
	whole, err := listPackages(ctx, o.vmAll)
	if err != nil {
		return nil, err
	}
	leaveOut(before, o.vmLeave)
	selection, flags := vmSelection(before, whole)
	if len(selection) == 0 {
		return nil, nil
	}
	return runMachines(ctx, o, vmKernel(o, flags), selection)
}

// leaveOut has the report say of tests that the vm tier is not to run why that is.
func leaveOut(tiers []*tier, which *regexp.Regexp) {
	for _, t := range tiers {
		for key, r := range t.results {
			if which != nil && r.outcome == skipped && wantsVM(r.reason) && which.MatchString(key.String()) {
				r.reason = "left to `make test-vm`, since it takes long by emulation"
				t.results[key] = r
			}
		}
	}
}

// testWhole runs all tests of the packages in machines.
func testWhole(ctx context.Context, o options) error {
	packages, err := listPackages(ctx, o.packages)
	if err != nil {
		return err
	}
	selection := map[string][]string{}
	for _, pkg := range packages {
		selection[pkg] = nil
	}
	k := umlKernel(o)
	if o.inVM {
		k = vmKernel(o, nil)
	}
	t, err := runMachines(ctx, o, k, selection)
	if o.logs {
		printLogs(os.Stdout, t)
	}
	return report(os.Stdout, []*tier{t}, compact([]error{err}))
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
