package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"blockstore.dev/blockstore/image"
	"blockstore.dev/blockstore/snapshot"
)

func (a *app) historyCommand() *cobra.Command {
	var full bool
	cmd := a.command(spec{
		use:     "history [--no-trunc] REF",
		short:   "show how an image was made, the newest step first",
		example: "blockstore history postgres:15",
		min:     1, max: 1,
		run: func(ctx context.Context, args []string) error {
			return a.withStore(ctx, func(s *snapshot.Store) error { return a.history(ctx, s, args[0], full) })
		},
	})
	cmd.Flags().BoolVar(&full, "no-trunc", false, "do not shorten texts")
	return cmd
}

func (a *app) history(ctx context.Context, s *snapshot.Store, ref string, full bool) error {
	im, _, err := findImage(ctx, s, ref)
	if err != nil {
		return err
	}
	layers := make([]snapshot.Info, len(im.Layers))
	for i, name := range im.Layers {
		if layers[i], err = s.Stat(ctx, name); err != nil {
			return err
		}
	}
	rows, err := image.History(im.Config, layers)
	if err != nil {
		return err
	}
	return a.emit(orEmpty(rows), func(w io.Writer) {
		var lines [][]string
		for _, r := range rows {
			by, layer := clip(r.CreatedBy, 45), short(r.Layer)
			if full {
				by, layer = clip(r.CreatedBy, 1<<20), r.Layer
			}
			if layer == "" {
				layer = "<none>"
			}
			lines = append(lines, []string{layer, ago(r.Created), orDash(by), amount(r.Size), r.Comment})
		}
		table(w, []string{"LAYER", "CREATED", "CREATED BY", "SIZE", "COMMENT"}, lines)
	})
}
