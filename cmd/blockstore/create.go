package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"blockstore.dev/blockstore/snapshot"
)

// createOptions are the flags of create.
type createOptions struct {
	name string
	size sizeFlag
}

func (a *app) createCommand() *cobra.Command {
	var o createOptions
	cmd := a.command(spec{
		use:   "create [--name NAME] [--size SIZE] REF",
		short: "make a container from an image and print its name",
		long: `Makes a container: a writable snapshot of the image. --size limits its tree, the
image's files included; it cannot be below the image's own limit. Sizes are in
powers of 1024.`,
		example: "blockstore create --name web debian:12\nc=$(blockstore create --size 20G debian:12)",
		min:     1, max: 1,
		run: func(ctx context.Context, args []string) error { return a.create(ctx, o, args[0]) },
	})
	cmd.Flags().StringVar(&o.name, "name", "", "the container's `NAME` (default: one is made up)")
	cmd.Flags().Var(&o.size, "size", "limit of the container's tree (default: the image's)")
	return cmd
}

func (a *app) create(ctx context.Context, o createOptions, ref string) error {
	if o.name != "" && !containerName.MatchString(o.name) {
		return usagef("--name %q: letters, digits, _ . and - only, and a letter or digit first", o.name)
	}
	return a.withStore(ctx, func(s *snapshot.Store) error {
		im, _, err := findImage(ctx, s, ref)
		if err != nil {
			return err
		}
		r := snapshot.CreateRequest{Size: int64(o.size), Image: im.ID}
		if n := len(im.Layers); n > 0 {
			r.Parent = im.Layers[n-1]
		}
		in, err := createNamed(ctx, s, o.name, r)
		if err != nil {
			return err
		}
		return a.emit(in, func(w io.Writer) { fmt.Fprintln(w, in.Name) })
	})
}

// createNamed makes the container, under a name that is free if none was given.
func createNamed(ctx context.Context, s *snapshot.Store, name string, r snapshot.CreateRequest) (snapshot.Info, error) {
	if name != "" {
		in, err := s.Create(ctx, name, r)
		if errors.Is(err, snapshot.ErrExists) {
			err = mendf(err, "take another --name, or remove that container: blockstore rm %s", name)
		}
		return in, err
	}
	const tries = 8 // of 2^32 names
	var in snapshot.Info
	var err error
	for range tries {
		if in, err = s.Create(ctx, newName(), r); !errors.Is(err, snapshot.ErrExists) {
			return in, err
		}
	}
	return in, err
}
