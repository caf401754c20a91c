package main

import (
	"context"
	"regexp"
	"slices"
	"strings"
)

// earlier is the uml tier from the beginning of the run on. Tests of --uml-all run there whether the
// host skips them or not, so that they need not wait for the host's tier: dockerd and containerd make
// that wait for disks and for one another half of its time.
type earlier struct {
	*machines
	selection map[string][]string // what was begun early
}

// beginEarly begins what is known to run.
func beginEarly(ctx context.Context, o options) (*earlier, error) {
	tests, err := testsOfWhole(ctx, o)
	if err != nil {
		return nil, err
	}
	m, err := newMachines(o, umlKernel(o))
	if err != nil {
		return nil, err
	}
	e := &earlier{m, earlySelection(tests, o.umlLeave)}
	e.begin(ctx, e.selection, true)
	return e, nil
}

// testsOfWhole lists the tests of the packages that run whole and that were asked for.
func testsOfWhole(ctx context.Context, o options) (map[string][]string, error) {
	whole, err := wholePackages(ctx, o, umlTier)
	if err != nil || len(whole) == 0 {
		return nil, err
	}
	asked, err := listPackages(ctx, o.packages)
	if err != nil {
		return nil, err
	}
	tests := map[string][]string{}
	for _, pkg := range whole {
		if !slices.Contains(asked, pkg) {
			continue
		}
		list, err := goOutput(ctx, "test", failpoints, "-list=^Test", pkg)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(list) {
			if name := strings.TrimSpace(line); strings.HasPrefix(name, "Test") {
				tests[pkg] = append(tests[pkg], name)
			}
		}
	}
	return tests, nil
}

// earlySelection leaves out those of which the host's result decides.
func earlySelection(tests map[string][]string, leave *regexp.Regexp) map[string][]string {
	selection := map[string][]string{}
	for pkg, names := range tests {
		for _, name := range names {
			if leave == nil || !leave.MatchString(testKey{pkg, name}.String()) {
				selection[pkg] = append(selection[pkg], runExpression(name))
			}
		}
	}
	return selection
}

// others has the rest run of what was selected, and waits for all; nil when there was nothing at all.
func (e *earlier) others(ctx context.Context, selection map[string][]string) (*tier, error) {
	rest := without(selection, e.selection)
	if len(rest) == 0 && len(e.selection) == 0 {
		return nil, nil
	}
	e.begin(ctx, rest, false)
	return e.end()
}

// without takes tests out of a selection; a package of which none are left goes, since one
// without expressions would run whole.
func without(selection, taken map[string][]string) map[string][]string {
	rest := map[string][]string{}
	for pkg, tests := range selection {
		left := slices.DeleteFunc(slices.Clone(tests), func(test string) bool { return slices.Contains(taken[pkg], test) })
		if len(left) > 0 {
			rest[pkg] = left
		}
	}
	return rest
}
