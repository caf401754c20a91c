package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"blockstore.dev/blockstore/snapshot"
)

// checkOut is what check prints with --json.
type checkOut struct {
	Findings   []snapshot.Finding `json:"findings"`
	Repaired   []string           `json:"repaired"`
	Layers     int                `json:"layers"`
	Containers int                `json:"containers"`
	Volumes    int                `json:"volumes"`
	Pending    int                `json:"pending"`
}

func (a *app) checkCommand() *cobra.Command {
	var o snapshot.CheckOptions
	cmd := a.command(spec{
		use:   "check [--repair] [--content]",
		short: "compare the catalog, the kernel and the content",
		long: `Compares what the catalog says with what the kernel has. Findings are printed with
the way to mend them, and the exit code is 6. --repair mends what can be mended
and destroys nothing: a volume that nobody knows becomes the container found-N, to be
looked at and removed; a layer whose tar record is gone is not saved any more; the
catalog's lists are written anew from its other records. --content also writes every layer's
tar again and compares its digest: it reads all data of the store.`,
		example: "blockstore check\nblockstore check --repair",
		run: func(ctx context.Context, _ []string) error {
			return a.withStore(ctx, func(s *snapshot.Store) error { return a.check(ctx, s, o) })
		},
	})
	cmd.Flags().BoolVar(&o.Repair, "repair", false, "mend what can be mended")
	cmd.Flags().BoolVar(&o.Content, "content", false, "compare every layer's content with its digest")
	return cmd
}

func (a *app) check(ctx context.Context, s *snapshot.Store, o snapshot.CheckOptions) error {
	o.Progress = func(layer string) { a.log.Info("reading layer", "layer", layer) }
	r, err := s.Check(ctx, o)
	if err != nil {
		return err
	}
	out := checkOut{orEmpty(r.Findings), orEmpty(r.Repaired), r.Layers, r.Containers, r.Volumes, r.Pending}
	if err := a.emit(out, func(w io.Writer) { writeReport(w, r) }); err != nil {
		return err
	}
	if n := len(r.Findings); n > 0 {
		err := fmt.Errorf("check found %s: %w", plural(n, "thing"), snapshot.ErrCorrupt)
		if o.Repair {
			return mendf(err, "follow what is printed with each finding")
		}
		return err
	}
	return nil
}

func writeReport(w io.Writer, r snapshot.Report) {
	for _, f := range r.Findings {
		if f.Volume == snapshot.Base {
			fmt.Fprintln(w, f.Text)
		} else {
			fmt.Fprintf(w, "volume %d: %s\n", f.Volume, f.Text)
		}
		if f.Mend != "" {
			fmt.Fprintf(w, "  to mend it: %s\n", f.Mend)
		}
	}
	for _, line := range r.Repaired {
		fmt.Fprintf(w, "repaired: %s\n", line)
	}
	if r.Pending > 0 {
		fmt.Fprintf(w, "%s of what was removed and is in use, or waits for `gc`\n", plural(r.Pending, "volume"))
	}
	verdict := "clean"
	if n := len(r.Findings); n > 0 {
		verdict = plural(n, "finding")
	}
	fmt.Fprintf(w, "%s: %s, %s, %s looked at\n", verdict,
		plural(r.Layers, "layer"), plural(r.Containers, "container"), plural(r.Volumes, "volume"))
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
