package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"text/tabwriter"
)

// wantsUML tells from a skip's reason whether the uml tier has what was missing.
func wantsUML(reason string) bool {
	return mentions(reason, "device-mapper", "thin pool", "thin-pool", "ZFS")
}

// wantsVM tells the same of the vm tier. It has ZFS as well, of Debian's stable release and with two processors.
func wantsVM(reason string) bool {
	return mentions(reason, "ZFS", "udev", "systemd", "second processor", "virtual machine")
}

func mentions(reason string, words ...string) bool {
	return slices.ContainsFunc(words, func(word string) bool { return strings.Contains(reason, word) })
}

// Names of the tiers.
const (
	hostTier = "host"
	umlTier  = "uml"
	zfsTier  = "zfs"
	vmTier   = "vm"
)

// counts of tests.
type counts struct{ passed, failed, skipped int }

func (c *counts) add(o outcome) {
	switch o {
	case passed:
		c.passed++
	case failed:
		c.failed++
	case skipped:
		c.skipped++
	}
}

func (c counts) String() string {
	return fmt.Sprintf("%d passed, %d failed, %d skipped", c.passed, c.failed, c.skipped)
}

// leaves drops packages and tests that only hold other tests, over all tiers,
// so that nothing counts twice. A package's own failure stays: a binary that
// dies in TestMain has no test to blame.
func leaves(tiers []*tier) map[testKey]bool {
	keep, parents := map[testKey]bool{}, map[testKey]bool{}
	for _, t := range tiers {
		for key, r := range t.results {
			if key.test != "" || r.outcome == failed {
				keep[key] = true
			}
			if key.test == "" {
				continue
			}
			if r.outcome == failed {
				parents[testKey{pkg: key.pkg}] = true
			}
			for up := path.Dir(key.test); up != "."; up = path.Dir(up) {
				parents[testKey{key.pkg, up}] = true
			}
		}
	}
	for key := range parents {
		if !failedAlone(tiers, key) {
			delete(keep, key)
		}
	}
	return keep
}

// failedAlone tells whether a test failed although nothing below it did, as
// when the test itself asserts something after its subtests.
func failedAlone(tiers []*tier, parent testKey) bool {
	for _, t := range tiers {
		if t.results[parent].outcome != failed {
			continue
		}
		blamed := false
		for key, r := range t.results {
			below := key.pkg == parent.pkg && key != parent && (parent.test == "" || strings.HasPrefix(key.test, parent.test+"/"))
			blamed = blamed || below && r.outcome == failed
		}
		if !blamed {
			return true
		}
	}
	return false
}

// join gives each test its outcome over all tiers.
func join(tiers []*tier) map[testKey]result {
	joined := map[testKey]result{}
	for key := range leaves(tiers) {
		for _, t := range tiers {
			r, ran := t.results[key]
			if !ran {
				continue
			}
			if before, ok := joined[key]; !ok || rank(r.outcome) > rank(before.outcome) {
				joined[key] = r
			}
		}
	}
	return joined
}

func rank(o outcome) int {
	switch o {
	case failed:
		return 3
	case passed:
		return 2
	}
	return 1
}

// printLogs prints what tests that passed have logged: their figures.
func printLogs(w io.Writer, t *tier) {
	for _, key := range sortedKeys(t.results) {
		if r := t.results[key]; r.log != "" {
			fmt.Fprintf(w, "\n== %s\n%s", key, indent(r.log))
		}
	}
}

// report prints what ran and returns an error when the run as a whole failed.
// more are failures that no test reports: leaks, a machine that did not boot.
func report(w io.Writer, tiers []*tier, more []error) error {
	joined := join(tiers)
	var sum counts
	for _, r := range joined {
		sum.add(r.outcome)
	}
	fmt.Fprintln(w, "\n== tiers")
	for _, t := range tiers {
		printTier(w, t)
		if len(t.results) == 0 {
			more = append(more, fmt.Errorf("tier %s: nothing ran", t.name))
		}
	}
	printSlowest(w, tiers)
	printSkips(w, joined)
	conformanceOf(tiers).print(w)
	more = append(more, inexcusable(tiers, joined)...)
	for _, key := range sortedKeys(joined) {
		if r := joined[key]; r.outcome == failed {
			fmt.Fprintf(w, "\n== FAILED %s\n%s", key, indent(r.output))
		}
	}
	for _, err := range more {
		fmt.Fprintf(w, "\n== FAILED %s\n", err)
	}
	sum.failed += len(more)
	fmt.Fprintf(w, "\n%s\n", sum)
	switch {
	case sum.failed > 0:
		return fmt.Errorf("%d failed", sum.failed)
	case sum.passed == 0:
		return errors.New("no test ran")
	}
	return nil
}

// printTier prints a tier's packages with the counts of this tier alone.
func printTier(w io.Writer, t *tier) {
	perPackage := map[testKey]*counts{}
	var sum counts
	for key := range leaves([]*tier{t}) {
		pkg := testKey{pkg: key.pkg}
		if perPackage[pkg] == nil {
			perPackage[pkg] = &counts{}
		}
		perPackage[pkg].add(t.results[key].outcome)
		sum.add(t.results[key].outcome)
	}
	fmt.Fprintf(w, "\ntier %s: %s in %.0f s\n", t.name, sum, t.seconds)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "  passed\tfailed\tskipped\tseconds\t  package")
	for _, key := range sortedKeys(perPackage) {
		c := perPackage[key]
		fmt.Fprintf(table, "  %d\t%d\t%d\t%.1f\t  %s\n", c.passed, c.failed, c.skipped, t.results[key].seconds, key.pkg)
	}
	_ = table.Flush() // to the terminal; a failure there has nobody to be told
}

// printSlowest lists the tests, without those below others, that took longest in any tier, since they are what to look at
// when the run takes too long.
func printSlowest(w io.Writer, tiers []*tier) {
	const most = 25
	type took struct {
		seconds    float64
		tier, test string
	}
	var all []took
	for _, t := range tiers {
		for _, key := range sortedKeys(t.results) {
			if r := t.results[key]; key.test != "" && !strings.Contains(key.test, "/") && r.seconds >= 1 {
				all = append(all, took{r.seconds, t.name, key.String()})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b took) int { return cmp.Compare(b.seconds, a.seconds) })
	heading := "\ntook longest:\n"
	for _, t := range all[:min(len(all), most)] {
		fmt.Fprintf(w, "%s  %6.1f s  %-4s  %s\n", heading, t.seconds, t.tier, t.test)
		heading = ""
	}
}

// printSkips lists what no tier ran.
func printSkips(w io.Writer, joined map[testKey]result) {
	heading := "\nskipped in every tier:\n"
	for _, key := range sortedKeys(joined) {
		if r := joined[key]; r.outcome == skipped {
			fmt.Fprintf(w, "%s  %s: %s\n", heading, key, r.reason)
			heading = ""
		}
	}
}

// inexcusable are the skips for want of what a tier that ran has.
func inexcusable(tiers []*tier, joined map[testKey]result) []error {
	var errs []error
	for _, t := range tiers {
		wanted := map[string]func(string) bool{umlTier: wantsUML, vmTier: wantsVM}[t.name]
		for _, key := range sortedKeys(joined) {
			if r := joined[key]; wanted != nil && r.outcome == skipped && wanted(r.reason) {
				errs = append(errs, fmt.Errorf("%s: no tier ran it, and tier %s has what it wants: %s", key, t.name, r.reason))
			}
		}
	}
	return errs
}

func (k testKey) String() string {
	if k.test == "" {
		return k.pkg
	}
	return k.pkg + " " + k.test
}

func indent(s string) string {
	s = strings.TrimRight(s, "\n")
	if s == "" {
		return ""
	}
	return "   " + strings.ReplaceAll(s, "\n", "\n   ") + "\n"
}
