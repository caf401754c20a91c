package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"blockstore.dev/blockstore/image"
	"blockstore.dev/blockstore/snapshot"
)

// commitOptions are the flags of commit.
type commitOptions struct {
	message, author string
	changes         []string
}

// committed is what commit prints with --json.
type committed struct {
	ID    string        `json:"id"`
	Refs  []string      `json:"refs"`
	Layer snapshot.Info `json:"layer"`
}

func (a *app) commitCommand() *cobra.Command {
	var o commitOptions
	cmd := a.command(spec{
		use:   "commit [flags] NAME [REF]",
		short: "make an image of a container's present state",
		long: `Makes a new layer of what a container changed, and an image with that layer on top,
and prints the image's id. The container may be in use and goes on.`,
		example: `blockstore commit -m "fixed the config" web app:2`,
		min:     1, max: 2,
		run: func(ctx context.Context, args []string) error { return a.commit(ctx, o, args) },
	})
	f := cmd.Flags()
	f.StringVarP(&o.message, "message", "m", "", "`TEXT` for the history")
	f.StringVarP(&o.author, "author", "a", "", "`WHO` made it")
	f.StringArrayVarP(&o.changes, "change", "c", nil, "Dockerfile `INSTRUCTION` that changes the config (CMD, ENV, …)")
	return cmd
}

func (a *app) commit(ctx context.Context, o commitOptions, args []string) error {
	ref, err := optionalRef(args[1:])
	if err != nil {
		return err
	}
	return a.withStore(ctx, func(s *snapshot.Store) error {
		if _, err := findOwn(ctx, s, args[0], "commit"); err != nil {
			return err
		}
		im, layer, err := a.commitContainer(ctx, s, args[0], ref, o)
		if err != nil {
			return err
		}
		if a.json { // what is committed stays so, counted or not
			if n, err := s.Referenced(ctx, layer.Name); err == nil {
				layer.Usage.Referenced = n
			}
		}
		out := committed{string(im.ID), orEmpty(im.Refs), layer}
		return a.emit(out, func(w io.Writer) { fmt.Fprintln(w, out.ID) })
	})
}

func (a *app) commitContainer(ctx context.Context, s *snapshot.Store, name, ref string, o commitOptions) (snapshot.Image, snapshot.Info, error) {
	p := a.newProgress()
	defer p.Close()
	t := p.Task("committing " + name)
	r := snapshot.CommitRequest{
		Config: func(layer snapshot.Info, parent snapshot.Image) ([]byte, error) {
			return image.NewConfig(parent.Config, layer, image.ConfigOptions{
				Author: o.author, Message: o.message, Changes: o.changes, CreatedBy: "blockstore commit",
			})
		},
		Progress: func(n int64) { t.At(n, 0) },
	}
	if ref != "" {
		r.Refs = []string{ref}
	}
	im, layer, err := s.Commit(ctx, name, r)
	if err == nil {
		t.Done("done")
	}
	return im, layer, err
}
