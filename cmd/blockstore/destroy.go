package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"blockstore.dev/blockstore/snapshot"
)

// destroyed is what destroy prints with --json.
type destroyed struct {
	Root string `json:"root"`
}

func (a *app) destroyCommand() *cobra.Command {
	var yes bool
	cmd := a.command(spec{
		use:   "destroy --yes",
		short: "remove the store with everything in it",
		long: `Removes all containers, images and layers, and the backing store. Nothing is
removed while a container is mounted.`,
		example: "blockstore destroy --yes",
		run: func(ctx context.Context, _ []string) error {
			if !yes {
				return usagef("destroy removes everything in the store at %s: say --yes if that is meant", a.root)
			}
			return a.destroy(ctx)
		},
	})
	cmd.Flags().BoolVar(&yes, "yes", false, "it is meant")
	return cmd
}

func (a *app) destroy(ctx context.Context) error {
	if err := a.mustBeRoot(); err != nil {
		return err
	}
	if err := a.refuseServed(ctx); err != nil {
		return err
	}
	err := snapshot.Destroy(ctx, a.storeOptions())
	if errors.Is(err, snapshot.ErrBusy) {
		return mendf(err, "unmount what is in use (blockstore ps shows it): blockstore umount NAME; then destroy again")
	}
	if err != nil {
		return err
	}
	return a.emit(destroyed{a.root}, func(w io.Writer) { fmt.Fprintf(w, "destroyed %s\n", a.root) })
}
