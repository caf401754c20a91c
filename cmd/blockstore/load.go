package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"blockstore.dev/blockstore/image"
	"blockstore.dev/blockstore/snapshot"
)

// loadOptions are the flags of load.
type loadOptions struct {
	input     string
	platform  string
	noDevices bool
}

// loadedOut is one image that load, import or commit made, with --json.
type loadedOut struct {
	ID        string   `json:"id"`
	Refs      []string `json:"refs"`
	Layers    []string `json:"layers"`
	NewLayers int      `json:"newLayers"`
}

func (a *app) loadCommand() *cobra.Command {
	var o loadOptions
	cmd := a.command(spec{
		use:   "load [-i FILE|DIR|-]",
		short: "load images from an archive",
		long: `Loads all images of an archive: what docker save writes (any version), or an OCI
image layout as a tar or a directory; plain, gzip or zstd. Either all of it is
there afterwards, or nothing that was not there before.`,
		example: `
blockstore load -i debian.tar
docker save debian:12 | blockstore load
skopeo copy docker://debian:12 oci:debian:12 && blockstore load -i debian`,
		run: func(ctx context.Context, _ []string) error { return a.load(ctx, o) },
	})
	f := cmd.Flags()
	f.StringVarP(&o.input, "input", "i", "-", "archive `FILE`, OCI layout directory, or - for stdin")
	f.StringVar(&o.platform, "platform", "", "which image of an index: `OS/ARCH[/VARIANT]` (default: this machine's)")
	f.BoolVar(&o.noDevices, "no-devices", false, "refuse layers with device nodes")
	return cmd
}

func (a *app) load(ctx context.Context, o loadOptions) error {
	if o.input == "-" {
		if err := a.archiveFromStdin(); err != nil {
			return err
		}
	}
	return a.withStore(ctx, func(s *snapshot.Store) error {
		loaded, err := a.loadArchive(ctx, s, o)
		if err != nil {
			return err
		}
		out := []loadedOut{}
		for _, l := range loaded {
			out = append(out, loadedOut{string(l.ID), orEmpty(l.Names), orEmpty(l.Layers), l.NewLayers})
		}
		return a.emit(out, func(w io.Writer) {
			for _, l := range out {
				writeLoaded(w, l)
			}
		})
	})
}

func (a *app) loadArchive(ctx context.Context, s *snapshot.Store, o loadOptions) (_ []image.Loaded, err error) {
	input, err := a.file(o.input)
	if err != nil {
		return nil, err
	}
	show, finish := a.events()
	defer finish()
	ar, err := image.Open(ctx, input, image.OpenOptions{
		Stdin: a.input(ctx, o.input), SpoolDir: a.spoolDir(), Platform: o.platform, Progress: show,
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, ar.Close()) }()
	return image.Load(ctx, s, ar, image.LoadOptions{NoDevices: o.noDevices, Progress: show})
}

// spoolDir is where unnamed temporary files go: beside the store's own, since
// /tmp is often small or in memory.
func (a *app) spoolDir() string { return filepath.Join(a.root, "work") }

// writeLoaded says it in docker's words, since scripts read them.
func writeLoaded(w io.Writer, l loadedOut) {
	if len(l.Refs) == 0 {
		fmt.Fprintf(w, "Loaded image ID: %s\n", l.ID)
	}
	for _, r := range l.Refs {
		fmt.Fprintf(w, "Loaded image: %s\n", r)
	}
}
