package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"blockstore.dev/blockstore/perf/gate"
	"blockstore.dev/blockstore/snapshot"
)

func (a *app) benchGateCommand() *cobra.Command {
	var renew bool
	cmd := a.command(spec{
		use:   "gate BASELINE.json RESULT.json... [--renew]",
		short: "fail if a run counts more than its baseline allows",
		long: `Holds what a run counted on blockstore (programs started, ioctls, waits for the disk,
and the disk's bytes where they are stable) against a baseline; of several runs the
least counts, since what goes on in the background only adds. Times are not looked
at. More than the baseline has, or nothing where it has something, ends in code 1.
--renew writes the baseline anew from the runs, and keeps what it forbade (a limit of
0): look at the difference before you commit it.`,
		example: "blockstore bench gate perf/counts/containerd-btrfs.json figures.json\nblockstore bench gate --renew perf/counts/containerd-btrfs.json figures.json",
		min:     2, max: -1,
		run: func(ctx context.Context, args []string) error { return a.benchGate(ctx, renew, args) },
	})
	cmd.Flags().BoolVar(&renew, "renew", false, "write the baseline from RESULT.json")
	return cmd
}

func (a *app) benchGate(ctx context.Context, renew bool, args []string) error {
	runs, err := a.readReports(ctx, args[1:])
	if err != nil {
		return err
	}
	var b gate.Baseline
	err = a.readJSON(ctx, args[0], func(f io.Reader) (err error) {
		b, err = gate.Read(f)
		return err
	})
	if renew && (err == nil || errors.Is(err, snapshot.ErrNotFound) || errors.Is(err, gate.ErrNotBaseline)) {
		b = b.Renew(runs...)
		if len(b.Limits) == 0 {
			return mendf(fmt.Errorf("%s: no counts of blockstore", join(args[1:])), "run the benchmark with blockstore among its columns, and with counts")
		}
		if err := a.writeFile(args[0], b.Write); err != nil {
			return err
		}
		return a.emit(b, func(w io.Writer) { fmt.Fprintf(w, "%s: %s\n", args[0], plural(len(b.Limits), "limit")) })
	}
	if err != nil {
		return mendIf(err, gate.ErrNotBaseline, "make one with: blockstore bench gate --renew BASELINE.json RESULT.json")
	}
	result := b.Check(runs...)
	if err := a.emit(result, func(w io.Writer) { writeGate(w, result) }); err != nil || len(result.Broken) == 0 {
		return err
	}
	return mendf(fmt.Errorf("%w: %s of %d", errWorse, plural(len(result.Broken), "count"), result.Checked),
		"mend what counts more; if it has to, --renew the baseline and say why in the commit")
}

func writeGate(w io.Writer, r gate.Result) {
	for _, f := range r.Broken {
		what, is := "more", f.Unit.Text(f.Is)
		switch {
		case f.Missing:
			what, is = "missing", "not counted"
		case f.Unknown:
			what = "new"
		}
		fmt.Fprintf(w, "%s: %s in %s: %s, at most %s\n", what, f.Row, f.Column, is, f.Unit.Text(f.AtMost))
	}
	for _, f := range r.Less {
		fmt.Fprintf(w, "less: %s in %s: %s, the baseline has %s\n", f.Row, f.Column, f.Unit.Text(f.Is), f.Unit.Text(f.AtMost))
	}
	fmt.Fprintf(w, "%s: %d above, %d below\n", plural(r.Checked, "limit"), len(r.Broken), len(r.Less))
}
