package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"blockstore.dev/blockstore/perf/change"
)

// errWorse: a comparison or a gate found what it was asked to fail on.
var errWorse = errors.New("worse than before")

// benchCompareOptions are bench compare's flags.
type benchCompareOptions struct {
	anywhere bool
	all      bool
	fail     bool
}

func (a *app) benchCompareCommand() *cobra.Command {
	var o benchCompareOptions
	cmd := a.command(spec{
		use:   "compare BEFORE.json AFTER.json [--all] [--fail-if-worse] [--other-machine]",
		short: "say what changed between two runs, beyond noise",
		long: `Compares each row in each column by benchstat's test: Mann-Whitney's U at 5 %, so that
one comparison in twenty differs by chance; counts that do not vary are compared as
they are. Runs on different machines, kernels or disks are refused, since what
differs would be the machines.

It ends with code 0 whatever changed; with --fail-if-worse a change for the worse
ends in code 1.`,
		example: "blockstore bench compare before.json after.json",
		min:     2, max: 2,
		run: func(ctx context.Context, args []string) error { return a.benchCompare(ctx, o, args) },
	})
	f := cmd.Flags()
	f.BoolVar(&o.anywhere, "other-machine", false, "compare runs of different machines nevertheless")
	f.BoolVar(&o.all, "all", false, "print what did not change too")
	f.BoolVar(&o.fail, "fail-if-worse", false, "end with code 1 if anything got worse")
	return cmd
}

func (a *app) benchCompare(ctx context.Context, o benchCompareOptions, args []string) error {
	before, err := a.readReport(ctx, args[0])
	if err != nil {
		return err
	}
	after, err := a.readReport(ctx, args[1])
	if err != nil {
		return err
	}
	c, err := change.Compare(before, after, o.anywhere)
	if err != nil {
		return mendIf(err, change.ErrElsewhere, "compare runs of one machine; --other-machine does it nevertheless")
	}
	if err := a.emit(c, func(w io.Writer) { writeComparison(w, c, o.all) }); err != nil {
		return err
	}
	if n := verdicts(c)[change.Worse]; o.fail && n > 0 {
		return fmt.Errorf("%w: %s of %d", errWorse, plural(n, "comparison"), len(c.Changes))
	}
	return nil
}

func verdicts(c change.Comparison) map[change.Verdict]int {
	counts := map[change.Verdict]int{}
	for _, one := range c.Changes {
		counts[one.Verdict]++
	}
	return counts
}

func writeComparison(w io.Writer, c change.Comparison, all bool) {
	for _, fact := range c.Machines {
		fmt.Fprintf(w, "the machines differ in %s\n", fact)
	}
	var rows [][]string
	for _, one := range c.Changes {
		if all || one.Verdict == change.Better || one.Verdict == change.Worse {
			rows = append(rows, changeRow(one))
		}
	}
	if len(rows) > 0 {
		table(w, []string{"MEASURE", "COLUMN", "BEFORE", "AFTER", "CHANGE", "", "P", "SAMPLES"}, rows)
	}
	for _, name := range c.Missing {
		fmt.Fprintf(w, "only before: %s\n", name)
	}
	for _, name := range c.New {
		fmt.Fprintf(w, "only after: %s\n", name)
	}
	n := verdicts(c)
	fmt.Fprintf(w, "%s: %d better, %d worse, %d without a difference beyond noise, %d with too few samples to tell\n",
		plural(len(c.Changes), "comparison"), n[change.Better], n[change.Worse], n[change.Same], n[change.Unknown])
}

func changeRow(c change.Change) []string {
	by := "-"
	if c.Before > 0 {
		by = fmt.Sprintf("%+.1f%%", 100*(c.After/c.Before-1))
	}
	p := "-"
	if c.P > 0 {
		p = fmt.Sprintf("%.3f", c.P)
	}
	return []string{
		clip(c.Row, 60), c.Column, c.Unit.Text(c.Before), c.Unit.Text(c.After), by, string(c.Verdict), p,
		fmt.Sprintf("%d+%d", c.Samples[0], c.Samples[1]),
	}
}
