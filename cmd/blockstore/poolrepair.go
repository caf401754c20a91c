package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"blockstore.dev/blockstore/snapshot"
)

func (a *app) poolRepairCommand() *cobra.Command {
	var yes bool
	cmd := a.command(spec{
		use:   "repair [--yes]",
		short: "bring a pool back that needs a check or has failed",
		long: `Takes the thin pool down, has thin_check look at its metadata and, where they are
damaged, thin_repair make new ones of what it finds; both are Debian's
thin-provisioning-tools. The old metadata are kept. A pool whose metadata are whole
only loses its mark that it needs a check. Nothing is changed while a container is
mounted or a server runs, or without --yes, which says what would be done.

Metadata made anew may lack what the pool did last: "check --content" says whether
a layer is not what it was.`,
		example: "blockstore pool repair --yes",
		run: func(ctx context.Context, _ []string) error {
			if err := a.mustBeRoot(); err != nil {
				return err
			}
			if err := a.refuseServed(ctx); err != nil {
				return err
			}
			return a.repairPool(ctx, yes)
		},
	})
	cmd.Flags().BoolVar(&yes, "yes", false, "do it")
	return cmd
}

func (a *app) repairPool(ctx context.Context, yes bool) error {
	r, err := snapshot.Repair(ctx, a.storeOptions(), snapshot.RepairOptions{
		Yes: yes, Say: func(step string) { fmt.Fprintln(a.stderr, step) },
	})
	switch {
	case errors.Is(err, snapshot.ErrUnconfirmed):
		return mendf(err, "say --yes if that is meant")
	case errors.Is(err, snapshot.ErrBusy):
		return mendf(err, "unmount what is in use (blockstore ps shows it): blockstore umount NAME; then repair again")
	case errors.Is(err, snapshot.ErrCorrupt):
		return mendf(err, "nothing was changed; keep a copy of the metadata, and see the kernel's log for what has become of the disk")
	case err != nil:
		return err
	}
	return a.emit(r, func(w io.Writer) { writeRepaired(w, r) })
}

func writeRepaired(w io.Writer, r snapshot.Repaired) {
	if !r.Rebuilt {
		fmt.Fprintln(w, "the metadata are whole, and the pool takes changes")
	} else {
		fmt.Fprintln(w, "the metadata were damaged and made anew, and the pool takes changes")
	}
	if r.Kept != "" {
		fmt.Fprintf(w, "the old metadata are kept in %s; remove them when nothing is missing\n", r.Kept)
	}
	if len(r.Lost) > 0 {
		fmt.Fprintf(w, "%d volumes are lost: see `blockstore check`\n", len(r.Lost))
	}
}
