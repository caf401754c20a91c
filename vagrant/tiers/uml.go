package main

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

// umlKernel is User Mode Linux.
func umlKernel(o options) kernel {
	return kernel{
		tier: umlTier, program: o.uml, limit: o.machines, timeout: o.timeout,
		// It does that now and then on busy processors.
		repeats: machineStopped,
	}
}

// zfsKernel is the same kernel, for tests that another tier has run on another driver.
func zfsKernel(o options) kernel {
	k := umlKernel(o)
	k.tier, k.flags = zfsTier, []string{"-e", "BSTEST_DRIVER=zfs"}
	return k
}

// handedOn is the part of the host's results from which another tier's tests are picked now that a test or a package has ended
// there. Of the packages in whole a test that gets a machine of its own goes as soon as it has ended: whether it is picked does
// not depend on others. The small ones share a machine, so that they go with the package's end, as all of any other package
// does. One that never ended there is marked as failed only after that, and does not go.
func handedOn(host *tier, ended testKey, whole []string) *tier {
	early := func(key testKey) bool {
		return slices.Contains(whole, key.pkg) && alone.MatchString(runExpression(key.test))
	}
	part := newTier(host.name)
	if ended.test == "" {
		part = host.only(ended.pkg)
		maps.DeleteFunc(part.results, func(key testKey, _ result) bool { return early(key) })
	} else if _, over := host.results[testKey{pkg: ended.pkg}]; early(ended) && !over {
		part.results[ended] = host.results[ended]
	}
	return part
}

// wholeSelection picks all tests of the packages in whole but those that match leave.
func wholeSelection(of *tier, whole []string, leave *regexp.Regexp) map[string][]string {
	selection := map[string][]string{}
	for _, key := range sortedKeys(of.results) {
		top := key.test != "" && !strings.Contains(key.test, "/")
		if top && slices.Contains(whole, key.pkg) && (leave == nil || !leave.MatchString(key.String())) {
			selection[key.pkg] = append(selection[key.pkg], runExpression(key.test))
		}
	}
	return selection
}

// umlSelection picks the tests that the host skipped, for want of
// device-mapper, of ZFS, of a capability, of a machine of their own, but not of what only
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
var alone = regexp.MustCompile(`^\^Test((Conformance|Crash|RealImage|PowerCut|Kill|DeviceErrors|Kubelet|(Docker|Containerd)[A-Z])\w*\$$|(Full\w+|BothWays)\$|Scripts)`)

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
