package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"blockstore.dev/blockstore/image"
	"blockstore.dev/blockstore/snapshot"
)

// tagged is what tag prints with --json.
type tagged struct {
	ID  string `json:"id"`
	Ref string `json:"ref"`
}

func (a *app) tagCommand() *cobra.Command {
	return a.command(spec{
		use:     "tag REF NEW",
		short:   "give an image one more name",
		long:    `Gives an image one more name. A name that another image has moves to this one.`,
		example: "blockstore tag debian:12 registry.example/base:1",
		min:     2, max: 2,
		run: func(ctx context.Context, args []string) error {
			name, err := image.Normalize(args[1])
			if err != nil {
				return usageError{err}
			}
			return a.withStore(ctx, func(s *snapshot.Store) error {
				im, _, err := findImage(ctx, s, args[0])
				if err != nil {
					return err
				}
				if err := s.Tag(ctx, im.ID, name); err != nil {
					return err
				}
				return a.emit(tagged{string(im.ID), name}, func(io.Writer) {})
			})
		},
	})
}
