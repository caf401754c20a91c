package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"blockstore.dev/blockstore/snapshot"
)

// collected is what gc prints with --json.
type collected struct {
	Removed []string `json:"removed"`
}

func (a *app) gcCommand() *cobra.Command {
	return a.command(spec{
		use:     "gc",
		short:   "remove layers that no image, container or layer needs",
		example: "blockstore gc",
		run: func(ctx context.Context, _ []string) error {
			return a.withStore(ctx, func(s *snapshot.Store) error {
				removed, err := s.GC(ctx)
				if err != nil {
					return err
				}
				return a.emit(collected{orEmpty(removed)}, func(w io.Writer) {
					for _, name := range removed {
						fmt.Fprintf(w, "deleted: %s\n", name)
					}
				})
			})
		},
	})
}
