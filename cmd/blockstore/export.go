package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"blockstore.dev/blockstore/snapshot"
)

// exported is what export prints with --json, unless the tar goes to stdout.
type exported struct {
	Name string `json:"name"`
	File string `json:"file"`
}

func (a *app) exportCommand() *cobra.Command {
	var output string
	cmd := a.command(spec{
		use:   "export NAME [-o FILE|-]",
		short: "write a container's whole tree as one tar",
		long: `Writes all files of a container, those of its image included, as one tar, for tar or
"blockstore import". It is one instant of a container that is running: on
devicemapper and ZFS as it was, on btrfs as a power cut would have left it. In a store
without room for that it is what the container holds while it is read; a file that is
written to meanwhile is an error then.`,
		example: "blockstore export web -o web.tar\nblockstore export web | tar t",
		min:     1, max: 1,
		run: func(ctx context.Context, args []string) error { return a.export(ctx, args[0], output) },
	})
	cmd.Flags().StringVarP(&output, "output", "o", "-", "`FILE` to write, or - for stdout")
	return cmd
}

func (a *app) export(ctx context.Context, name, output string) error {
	if output == "-" {
		if err := a.archiveToStdout(); err != nil {
			return err
		}
	}
	return a.withStore(ctx, func(s *snapshot.Store) error {
		in, err := findContainer(ctx, s, name)
		if err != nil {
			return err
		}
		err = a.writeFile(output, func(w io.Writer) error { return s.Export(ctx, in.Name, w) })
		if err != nil || output == "-" {
			return err
		}
		return a.emit(exported{name, output}, func(io.Writer) {})
	})
}
