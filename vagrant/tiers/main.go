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
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "tiers:", err)
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
	zfsAll       []string       // the same for the zfs tier
	zfsLeave     *regexp.Regexp
	vmAll        []string       // the same for the vm tier
	vmLeave      *regexp.Regexp // tests that the vm tier leaves to `make test-vm`, as "package test"; or nil
	packages     []string
	testFlags    []string
}

func run(ctx context.Context, args []string) error {
	const usage = "usage: tiers test|host|uml|vm [flags] [PACKAGE]... | tiers gotest [flags] PACKAGE... [-- TESTFLAG...]"
	if len(args) == 0 {
		return errors.New(usage)
	}
	if slices.Contains([]string{"help", "-h", "--help"}, args[0]) {
		fmt.Fprintln(os.Stderr, usage)
		args = []string{"gotest", "--help"} // the flags are all verbs'
	}
	o, err := parseOptions(args[0], args[1:])
	if err != nil {
		return err
	}
	switch args[0] {
	case "test":
		return testAll(ctx, o, []string{"-count=1"}, umlTier, zfsTier, vmTier)
	case "host":
		return testAll(ctx, o, []string{"-count=1"})
	case "uml":
		return testAll(ctx, o, nil, umlTier, zfsTier)
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
	flags.IntVar(&o.machines, "machines", 2, "machines that run at a time")
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
	flags.Func("zfs-all", "`package` whose tests all run in the zfs tier too, which is User Mode Linux with BSTEST_DRIVER=zfs", func(s string) error {
		o.zfsAll = append(o.zfsAll, s)
		return nil
	})
	flags.Func("zfs-leave", "`regexp` of tests (\"package test\") of --zfs-all that the zfs tier does not run", func(s string) (err error) {
		o.zfsLeave, err = regexp.Compile(s)
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
		if verb == "gotest" { // all of them in machines takes hours
			return o, errors.New("gotest: of which packages? ./... has all of them")
		}
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
	dirs, err := makePlaces()
	defer func() { err = errors.Join(err, sweep(dirs.disk), sweep(dirs.short)) }()
	if err != nil {
		return err
	}
	tiers, errs := runTiers(ctx, o, dirs, hostFlags, more)
	if err := context.Cause(ctx); err != nil {
		endProcesses() // or they would be at work still in what is swept
		return err
	}
	return report(os.Stdout, tiers, append(compact(errs), leaks(before, []string{dirs.disk, dirs.short}, "bstest", "blockstore")...))
}

// runTiers runs the host tier, of which one package takes longest by far and leaves half of the processors idle: beside it
// a machine of User Mode Linux runs what has ended and is left to that, and so does a second one when no other package is left.
// The machines of another tier begin one by one, when one of the tier before finds nothing more to do: each takes a processor
// for itself.
func runTiers(ctx context.Context, o options, dirs places, hostFlags, more []string) (tiers []*tier, errs []error) {
	host := newTier(hostTier)
	umlAll, umlErr := listPackages(ctx, o.umlAll)
	zfsAll, zfsErr := listPackages(ctx, o.zfsAll)
	vmAll, vmErr := listPackages(ctx, o.vmAll)
	packages, err := goOutput(ctx, append([]string{"list", "-e"}, o.packages...)...) // go test reports what is wrong with one
	if err := errors.Join(umlErr, zfsErr, vmErr, err); err != nil {
		return nil, []error{err}
	}
	uml, umlErr := newMachines(o, umlKernel(o))
	zfs, zfsErr := newMachines(o, zfsKernel(o))
	vm, vmErr := newMachines(o, vmKernel(o))
	if err := errors.Join(umlErr, zfsErr, vmErr); err != nil {
		return nil, []error{err}
	}
	uml.idle = func() { zfs.start(ctx, 1) }
	zfs.idle = func() { vm.start(ctx, 1) }
	toVM := func(found ...*tier) {
		if slices.Contains(more, vmTier) {
			leaveOut(found, o.vmLeave)
			selection, flags := vmSelection(found, vmAll)
			vm.add(selection, flags)
		}
	}
	uml.start(ctx, 1)
	packageEnded := lastOne(len(strings.Fields(packages)), func() { uml.start(ctx, 1) })
	err = runHost(ctx, o, dirs, host, hostFlags, func(ended testKey) {
		if slices.Contains(more, zfsTier) {
			zfs.add(wholeSelection(handedOn(host, ended, zfsAll), zfsAll, o.zfsLeave), nil)
		}
		if slices.Contains(more, umlTier) {
			uml.add(umlSelection(handedOn(host, ended, umlAll), umlAll, o.umlLeave), nil)
		}
		if ended.test == "" {
			left := host.only(ended.pkg)
			uml.after(ended.pkg, func(found *tier) { toVM(left, found) })
			packageEnded()
		}
	})
	tiers, errs = append(tiers, host), append(errs, err)
	for _, m := range []*machines{uml, zfs, vm} {
		m.start(ctx, m.limit)
		t, err := m.end()
		if errs = append(errs, err); len(t.results) > 0 {
			tiers = append(tiers, t)
		}
	}
	leaveOut(tiers, o.vmLeave)
	return tiers, errs
}

// lastOne calls then as soon as only one of so many is left, at once if there are no more. ended is to be called for each.
func lastOne(left int, then func()) (ended func()) {
	check := func() {
		if left == 1 {
			then()
		}
	}
	check()
	return func() {
		left--
		check()
	}
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
		k = vmKernel(o)
	}
	t, err := runMachines(ctx, o, k, selection)
	if o.logs {
		printLogs(os.Stdout, t)
	}
	return report(os.Stdout, []*tier{t}, compact([]error{err}))
}
