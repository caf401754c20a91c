package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// suiteAttribute is the attribute by which a test says that it runs the conformance suite, and
// for which column: see drivertest.Column.
const suiteAttribute = "conformance"

// cell is what one column has to say of one case.
type cell struct {
	word string
	note string // why it did not run
}

// The words of the table.
const (
	casePassed        = "passed"
	caseFailed        = "FAILED"
	caseNotApplicable = "n/a"
	caseNotRun        = "not run"
)

func caseWord(o outcome) string {
	return map[outcome]string{passed: casePassed, failed: caseFailed, skipped: caseNotApplicable}[o]
}

// conformance is what ran of the conformance suite: a column for each name that a test gave, a row
// for each case that ran for one of them.
type conformance struct {
	columns, rows []string
	cells         map[[2]string]cell // by row and column
}

// conformanceOf gathers the suite's cases from all tiers. A case that ran twice for a column, in two tiers or by
// two tests, has failed if it did once, else passed if it did once.
func conformanceOf(tiers []*tier) conformance {
	suites := map[testKey]string{}
	for _, t := range tiers {
		for key, r := range t.results {
			if r.suite != "" {
				suites[key] = r.suite
			}
		}
	}
	columns, rows := map[string]bool{}, map[string]bool{}
	best := map[[2]string]result{}
	for suite, column := range suites {
		columns[column] = true
		for _, t := range tiers {
			for key, r := range t.results {
				row, below := strings.CutPrefix(key.test, suite.test+"/")
				if !below || key.pkg != suite.pkg {
					continue
				}
				rows[row] = true
				at := [2]string{row, column}
				if before, ok := best[at]; !ok || rank(r.outcome) > rank(before.outcome) {
					best[at] = r
				}
			}
		}
	}
	c := conformance{columns: slices.Sorted(maps.Keys(columns)), rows: slices.Sorted(maps.Keys(rows)), cells: map[[2]string]cell{}}
	for _, column := range c.columns {
		why := whyNotRun(tiers, suites, column)
		for _, row := range c.rows {
			at := [2]string{row, column}
			if r, ran := best[at]; ran {
				c.cells[at] = cell{word: caseWord(r.outcome), note: r.reason}
			} else {
				c.cells[at] = cell{word: caseNotRun, note: why}
			}
		}
	}
	return c
}

// whyNotRun is why a column lacks a case: a test of its that was skipped in every tier says why itself, one that failed
// came to no end, and any other chose its cases, or the command line did.
func whyNotRun(tiers []*tier, suites map[testKey]string, column string) string {
	var skips, fails, ran []string
	for _, suite := range sortedKeys(suites) {
		if suites[suite] != column {
			continue
		}
		var best result
		for _, t := range tiers {
			if r, ok := t.results[suite]; ok && (best.outcome == "" || rank(r.outcome) >= rank(best.outcome)) {
				best = r
			}
		}
		switch best.outcome {
		case skipped:
			skips = append(skips, best.reason)
		case failed:
			fails = append(fails, suite.test+" ended before it")
		default:
			ran = append(ran, suite.test+" did not run it")
		}
	}
	for _, why := range [][]string{fails, skips, ran} {
		if len(why) > 0 {
			return why[0]
		}
	}
	return ""
}

// print prints the table, what each column comes to, and the reasons, each once.
func (c conformance) print(w io.Writer) {
	if len(c.rows) == 0 {
		return
	}
	fmt.Fprint(w, "\n== conformance suite\n\n")
	var notes []string
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "  \t%s\n", strings.Join(c.columns, "\t"))
	sums := map[[2]string]int{}
	for _, row := range c.rows {
		fmt.Fprintf(table, "  %s", row)
		for _, column := range c.columns {
			at := c.cells[[2]string{row, column}]
			sums[[2]string{column, at.word}]++
			text := at.word
			if at.note != "" {
				if !slices.Contains(notes, at.note) {
					notes = append(notes, at.note)
				}
				text += fmt.Sprintf(" (%d)", slices.Index(notes, at.note)+1)
			}
			fmt.Fprintf(table, "\t%s", text)
		}
		fmt.Fprintln(table)
	}
	fmt.Fprintf(table, "  %s\n", strings.Repeat("\t", len(c.columns)))
	for _, word := range []string{casePassed, caseFailed, caseNotApplicable, caseNotRun} {
		fmt.Fprintf(table, "  %s", word)
		for _, column := range c.columns {
			fmt.Fprintf(table, "\t%d", sums[[2]string{column, word}])
		}
		fmt.Fprintln(table)
	}
	_ = table.Flush() // as in printTier
	for i, note := range notes {
		fmt.Fprintf(w, "%s  (%d) %s\n", map[bool]string{true: "\n"}[i == 0], i+1, note)
	}
}
