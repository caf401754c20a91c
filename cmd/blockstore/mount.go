package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"blockstore.dev/blockstore/snapshot"
)

// mounted is what mount prints with --json.
type mounted struct {
	Name      string `json:"name"`
	Directory string `json:"directory"`
}

func (a *app) mountCommand() *cobra.Command {
	return a.command(spec{
		use:     "mount NAME",
		short:   "mount a container and print the directory",
		long:    `Mounts a container below the store's directory and prints where. It stays mounted.`,
		example: "cd $(blockstore mount web)",
		min:     1, max: 1,
		run: func(ctx context.Context, args []string) error {
			return a.withStore(ctx, func(s *snapshot.Store) error {
				if _, err := findOwn(ctx, s, args[0], "cp"); err != nil {
					return err
				}
				dir, err := s.Mount(ctx, args[0])
				if err != nil {
					return err
				}
				return a.emit(mounted{args[0], dir}, func(w io.Writer) { fmt.Fprintln(w, dir) })
			})
		},
	})
}

// unmounted is what umount prints with --json.
type unmounted struct {
	Unmounted []string `json:"unmounted"`
}

func (a *app) umountCommand() *cobra.Command {
	return a.command(spec{
		use:     "umount NAME...",
		short:   "unmount containers",
		long:    `Unmounts containers. One that is not mounted is no error.`,
		example: "blockstore umount web",
		min:     1, max: -1,
		run: func(ctx context.Context, names []string) error {
			return a.withStore(ctx, func(s *snapshot.Store) error { return a.umount(ctx, s, names) })
		},
	})
}

func (a *app) umount(ctx context.Context, s *snapshot.Store, names []string) error {
	out := unmounted{[]string{}}
	var errs []error
	for _, name := range names {
		_, err := findOwn(ctx, s, name, "stop")
		if err == nil {
			err = hintBusy(s.Unmount(ctx, name), name)
		}
		if err == nil {
			out.Unmounted = append(out.Unmounted, name)
		}
		errs = append(errs, err)
	}
	return errors.Join(append(errs, a.emit(out, func(io.Writer) {}))...)
}
