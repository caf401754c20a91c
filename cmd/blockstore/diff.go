package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"blockstore.dev/blockstore/snapshot"
)

// changeOut is one path as diff prints it with --json; kind is A, C or D.
type changeOut struct {
	Kind string `json:"kind"`
	Path string `json:"path"`
}

func (a *app) diffCommand() *cobra.Command {
	return a.command(spec{
		use:   "diff NAME",
		short: "list what a container changed: A added, C changed, D deleted",
		long: `Lists the paths that a container added (A), changed (C) or deleted (D), sorted, as
docker diff does. Of a deleted directory only the directory is listed. A directory
with a change below it counts as changed.`,
		example: "blockstore diff web",
		min:     1, max: 1,
		run: func(ctx context.Context, args []string) error {
			return a.withStore(ctx, func(s *snapshot.Store) error { return a.diff(ctx, s, args[0]) })
		},
	})
}

func (a *app) diff(ctx context.Context, s *snapshot.Store, name string) error {
	in, err := findContainer(ctx, s, name)
	if err != nil {
		return err
	}
	changes, err := s.Changes(ctx, in.Name)
	if err != nil {
		return err
	}
	out := []changeOut{}
	for _, c := range changes {
		out = append(out, changeOut{c.Kind.String(), c.Path})
	}
	return a.emit(out, func(w io.Writer) {
		for _, c := range out {
			fmt.Fprintf(w, "%s %s\n", c.Kind, c.Path)
		}
	})
}
