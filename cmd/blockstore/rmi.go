package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"blockstore.dev/blockstore/snapshot"
)

// removedImages is what rmi prints with --json.
type removedImages struct {
	Untagged []string `json:"untagged"`
	Deleted  []string `json:"deleted"`
}

func (a *app) rmiCommand() *cobra.Command {
	var force bool
	cmd := a.command(spec{
		use:   "rmi [-f] REF...",
		short: "remove names of images, and images that have none left",
		long: `Takes a name away from an image, or removes an image by its id. An image without
names goes, with the layers that nothing else needs. Each REF is tried, also after
one has failed.`,
		example: "blockstore rmi app:1\nblockstore rmi -f 1a2b3c4d5e6f",
		min:     1, max: -1,
		run: func(ctx context.Context, refs []string) error {
			return a.withStore(ctx, func(s *snapshot.Store) error { return a.rmi(ctx, s, refs, force) })
		},
	})
	cmd.Flags().BoolVarP(&force, "force", "f", false, "remove an image by id although it has several names")
	return cmd
}

func (a *app) rmi(ctx context.Context, s *snapshot.Store, refs []string, force bool) error {
	out := removedImages{[]string{}, []string{}}
	var errs []error
	for _, ref := range refs {
		_, name, err := findImage(ctx, s, ref)
		if err == nil {
			var untagged, deleted []string
			untagged, deleted, err = s.RemoveImage(ctx, name, force)
			out.Untagged, out.Deleted = append(out.Untagged, untagged...), append(out.Deleted, deleted...)
		}
		if errors.Is(err, snapshot.ErrBusy) {
			err = mendf(err, "remove the containers that stand on it first (blockstore images --tree shows them), or other names of it")
		}
		errs = append(errs, err)
	}
	err := a.emit(out, func(w io.Writer) {
		for _, u := range out.Untagged {
			fmt.Fprintf(w, "Untagged: %s\n", u)
		}
		for _, d := range out.Deleted {
			fmt.Fprintf(w, "Deleted: %s\n", d)
		}
	})
	return errors.Join(append(errs, err)...)
}
