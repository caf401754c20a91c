package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"blockstore.dev/blockstore/image"
	"blockstore.dev/blockstore/snapshot"
)

// saveOptions are the flags of save.
type saveOptions struct {
	output      string
	format      string
	compression string
}

// saved is what save prints with --json, unless the archive goes to stdout.
type saved struct {
	File   string   `json:"file"`
	Format string   `json:"format"`
	Refs   []string `json:"refs"`
}

func (a *app) saveCommand() *cobra.Command {
	var o saveOptions
	cmd := a.command(spec{
		use:   "save [-o FILE|-] REF...",
		short: "write images into an archive",
		long: `Writes images into one archive: "docker" (what docker load and skopeo read, an OCI
layout at once), "oci" (an OCI layout in a tar) or "oci-dir" (in a directory). The
same images give the same bytes. A file is there whole, or not at all.`,
		example: `
blockstore save -o app.tar app:1 app:2
blockstore save app:1 | docker load
blockstore save --format oci --compression zstd -o app.oci.tar app:1`,
		min: 1, max: -1,
		run: func(ctx context.Context, refs []string) error { return a.save(ctx, o, refs) },
	})
	f := cmd.Flags()
	f.StringVarP(&o.output, "output", "o", "-", "archive `FILE` to write (a directory for oci-dir), or - for stdout")
	f.StringVar(&o.format, "format", string(image.SaveDocker), "docker, oci or oci-dir")
	f.StringVar(&o.compression, "compression", string(image.Plain), "of the layers, for oci and oci-dir: none, gzip or zstd")
	return cmd
}

// check refuses what cannot be meant before the store is opened.
func (o saveOptions) check() error {
	switch image.SaveFormat(o.format) {
	case image.SaveDocker:
		if o.compression != string(image.Plain) {
			return usagef("--compression %s: the docker format has plain layers only; add --format oci", o.compression)
		}
	case image.SaveOCI, image.SaveOCIDir:
	default:
		return usagef("--format %q: it must be docker, oci or oci-dir", o.format)
	}
	switch image.Compression(o.compression) {
	case image.Plain, image.Gzip, image.Zstd:
	default:
		return usagef("--compression %q: it must be none, gzip or zstd", o.compression)
	}
	if o.output == "-" && o.format == string(image.SaveOCIDir) {
		return usagef("--format oci-dir needs a directory: -o DIR")
	}
	return nil
}

func (a *app) save(ctx context.Context, o saveOptions, refs []string) error {
	if err := o.check(); err != nil {
		return err
	}
	if o.output == "-" {
		if err := a.archiveToStdout(); err != nil {
			return err
		}
	}
	return a.withStore(ctx, func(s *snapshot.Store) error {
		names := make([]string, len(refs))
		for i, r := range refs {
			var err error
			if _, names[i], err = findImage(ctx, s, r); err != nil {
				return err
			}
		}
		if err := a.saveArchive(ctx, s, names, o); err != nil {
			return err
		}
		if o.output == "-" {
			return nil
		}
		return a.emit(saved{o.output, o.format, names}, func(io.Writer) {})
	})
}

func (a *app) saveArchive(ctx context.Context, s *snapshot.Store, names []string, o saveOptions) error {
	show, finish := a.events()
	defer finish()
	opts := image.SaveOptions{
		Format: image.SaveFormat(o.format), Compression: image.Compression(o.compression),
		SpoolDir: a.spoolDir(), Progress: show,
	}
	if o.output != "-" {
		output, err := a.file(o.output)
		if err != nil {
			return err
		}
		return image.SaveTo(ctx, s, names, output, opts)
	}
	if err := a.writeFile("-", func(w io.Writer) error { return image.Save(ctx, s, names, w, opts) }); err != nil {
		return fmt.Errorf("writing to stdout: %w", err)
	}
	return nil
}
