package drivertest

import (
	"os"
	"slices"
	"testing"
)

// testCase is one behaviour.
type testCase struct {
	name string
	run  func(t *testing.T, e *env)
	// own makes a store for this case alone.
	own bool
	// small makes that store with Factory.SmallSize.
	small bool
}

// Column names the driver, or the form of one, that a test of the suite tells about. Tests of one
// name fill a column together of the table that `make test` prints (vagrant/tiers). A test calls it
// first, so that the table has its reason where it skips.
func Column(t testing.TB, name string) { t.Attr("conformance", name) }

// Run runs every case as a subtest.
func Run(t *testing.T, f Factory) {
	if os.Geteuid() != 0 {
		t.Skip("the suite mounts file systems: it needs root")
	}
	f = f.withDefaults()
	if err := f.Kind.Probe(t.Context()); err != nil {
		t.Skipf("this kernel cannot run the driver %s: %v", f.Kind.Name(), err)
	}
	checkNames(t, f.Only)
	var shared *env
	for _, c := range cases() {
		if f.Only != nil && !slices.Contains(f.Only, c.name) {
			continue
		}
		own := c.own || c.small
		if !own && shared == nil {
			shared = makeEnv(t, f, f.BaseSize)
		}
		t.Run(c.name, func(t *testing.T) {
			if !own {
				shared.t = t
				c.run(t, shared)
				shared.empty(t)
				return
			}
			size := f.BaseSize
			if c.small {
				size = f.SmallSize
			}
			e := makeEnv(t, f, size)
			c.run(t, e)
			e.empty(t)
			e.end(t)
		})
		if shared != nil && shared.t != t && shared.t.Failed() { // what it left is no business of the next case
			shared.t = t
			shared.end(t)
			shared = nil
		}
	}
	if shared != nil {
		shared.end(t)
	}
}

func cases() []testCase {
	var all []testCase
	for _, group := range [][]testCase{
		graphCases(), snapshotCases(), treeCases(), contentCases(), loadCases(), imageCases(),
		lifeCases(), crowdCases(), spaceCases(), driverCases(), doorCases(), lentCases(), spareCases(),
	} {
		all = append(all, group...)
	}
	return all
}

// checkNames keeps names usable as filters and unique.
func checkNames(t *testing.T, only []string) {
	seen := map[string]bool{}
	for _, c := range cases() {
		if seen[c.name] {
			t.Fatalf("two cases are named %s", c.name)
		}
		seen[c.name] = true
	}
	for _, name := range only {
		if !seen[name] {
			t.Fatalf("no case is named %s", name)
		}
	}
}
