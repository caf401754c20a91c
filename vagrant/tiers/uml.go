package main

import (
	"maps"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// umlKernel is User Mode Linux.
func umlKernel(o options) kernel {
	return kernel{
		tier: umlTier, program: o.uml, limit: o.machinesOr(umlMachines(runtime.NumCPU(), memory())), timeout: o.timeout,
		// It does that now and then on busy processors.
		repeats: machineStopped,
	}
}

// umlMachines is how many run at a time: two for each processor, of which each alone would leave a third idle, as far as
// three quarters of the memory have room for what each may take (--mem), and two at least.
func umlMachines(processors int, memory uint64) int {
	const each = 3 << 30
	return max(2, min(2*processors, int(memory/4*3/each)))
}

// memory is the host's, in bytes; none where the kernel does not say.
func memory() uint64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 0
	}
	return info.Totalram * uint64(info.Unit)
}

// umlSelection picks the tests that the host skipped, for want of
// device-mapper, of a capability, of a machine of their own, but not of what only
// the virtual machine has: for each package the expressions for -test.run. Of the
// packages in whole it picks all but those that match leave.
func umlSelection(host *tier, whole []string, leave *regexp.Regexp) map[string][]string {
	selection := map[string][]string{}
	for _, key := range sortedKeys(host.results) {
		r := host.results[key]
		all := slices.Contains(whole, key.pkg)
		switch {
		case key.test == "" || all && strings.Contains(key.test, "/"):
		case r.outcome != skipped && (!all || leave != nil && leave.MatchString(key.String())):
		case r.outcome == skipped && wantsVM(r.reason) && !wantsUML(r.reason):
		default:
			selection[key.pkg] = append(selection[key.pkg], runExpression(key.test))
		}
	}
	return selection
}

// alone are the tests that take minutes in a machine: each gets a machine of its own, so
// that they run beside each other and share no time limit.
var alone = regexp.MustCompile(`^\^Test((Conformance|Crash|RealImage|PowerCut|Kill|DeviceErrors|(Docker|Containerd)[A-Z])\w*\$$|(Full\w+|BothWays)\$|Scripts)`)

// dealOut deals a selection out to machines.
func dealOut(selection map[string][]string) []machineRun {
	var runs []machineRun
	for _, pkg := range slices.Sorted(maps.Keys(selection)) {
		var rest []string
		for _, test := range selection[pkg] {
			if alone.MatchString(test) {
				runs = append(runs, machineRun{pkg: pkg, run: test})
			} else {
				rest = append(rest, test)
			}
		}
		if len(rest) > 0 || len(selection[pkg]) == 0 {
			runs = append(runs, machineRun{pkg: pkg, run: strings.Join(rest, "|")})
		}
	}
	return runs
}
