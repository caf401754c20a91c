package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"blockstore.dev/blockstore/image"
	"blockstore.dev/blockstore/snapshot"
)

// importOptions are the flags of import.
type importOptions struct {
	message   string
	changes   []string
	platform  string
	noDevices bool
}

func (a *app) importCommand() *cobra.Command {
	var o importOptions
	cmd := a.command(spec{
		use:   "import [flags] FILE|- [REF]",
		short: "make an image of one layer from the tar of a root file system",
		long: `Makes an image from the tar of a root file system; plain, gzip or zstd. It prints
the image's id.`,
		example: `
blockstore import rootfs.tar.gz debian:mine
tar -C rootfs -c . | blockstore import -c 'CMD ["/bin/sh"]' - debian:mine`,
		min: 1, max: 2,
		run: func(ctx context.Context, args []string) error { return a.importImage(ctx, o, args) },
	})
	f := cmd.Flags()
	f.StringVarP(&o.message, "message", "m", "", "`TEXT` for the history")
	f.StringArrayVarP(&o.changes, "change", "c", nil, "Dockerfile `INSTRUCTION` that sets the config (CMD, ENV, …)")
	f.StringVar(&o.platform, "platform", "", "`OS/ARCH[/VARIANT]` of the image (default: this machine's)")
	f.BoolVar(&o.noDevices, "no-devices", false, "refuse device nodes")
	return cmd
}

func (a *app) importImage(ctx context.Context, o importOptions, args []string) error {
	ref, err := optionalRef(args[1:])
	if err != nil {
		return err
	}
	if args[0] == "-" {
		if err := a.archiveFromStdin(); err != nil {
			return err
		}
	}
	return a.withStore(ctx, func(s *snapshot.Store) error {
		source, err := a.file(args[0])
		if err != nil {
			return err
		}
		show, finish := a.events()
		l, err := image.Import(ctx, s, source, image.ImportOptions{
			Ref: ref, Changes: o.changes, Message: o.message, Platform: o.platform, NoDevices: o.noDevices,
			Stdin: a.input(ctx, args[0]), SpoolDir: a.spoolDir(), Progress: show,
		})
		finish()
		if err != nil {
			return err
		}
		out := loadedOut{string(l.ID), orEmpty(l.Names), orEmpty(l.Layers), l.NewLayers}
		return a.emit(out, func(w io.Writer) { fmt.Fprintln(w, out.ID) })
	})
}

// optionalRef reads an image name that may be missing.
func optionalRef(args []string) (string, error) {
	if len(args) == 0 {
		return "", nil
	}
	ref, err := image.Normalize(args[0])
	if err != nil {
		return "", usageError{err}
	}
	return ref, nil
}
