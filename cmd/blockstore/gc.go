package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"blockstore.dev/blockstore/graphdriver"
	"blockstore.dev/blockstore/snapshot"
)

// collected is what gc prints with --json.
type collected struct {
	Removed []string `json:"removed"`
	// Forgotten are the snapshots that Docker has forgotten.
	Forgotten []string `json:"forgotten"`
}

func (a *app) gcCommand() *cobra.Command {
	var docker bool
	cmd := a.command(spec{
		use:   "gc [--docker]",
		short: "remove layers that no image, container or layer needs",
		long: `Removes layers that nothing needs. Layers that Docker has forgotten, because it died
while it made them, are named only, unless --docker removes them: run that while
Docker creates nothing.`,
		example: "blockstore gc\nblockstore gc --docker",
		run: func(ctx context.Context, _ []string) error {
			return a.withStore(ctx, func(s *snapshot.Store) error { return a.gc(ctx, s, docker) })
		},
	})
	cmd.Flags().BoolVar(&docker, "docker", false, "remove also what Docker has forgotten")
	return cmd
}

func (a *app) gc(ctx context.Context, s *snapshot.Store, docker bool) error {
	removed, err := s.GC(ctx)
	if err != nil {
		return err
	}
	lost, err := graphdriver.Orphans(ctx, s)
	if err != nil {
		return err
	}
	if docker {
		for _, name := range lost {
			if err := s.Remove(ctx, name); err != nil {
				return err
			}
		}
		removed, lost = append(removed, lost...), nil
	}
	return a.emit(collected{orEmpty(removed), orEmpty(lost)}, func(w io.Writer) {
		for _, name := range removed {
			fmt.Fprintf(w, "deleted: %s\n", name)
		}
		for _, name := range lost {
			fmt.Fprintf(w, "forgotten by Docker (gc --docker removes it): %s\n", name)
		}
	})
}
