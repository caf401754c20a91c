package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/spf13/cobra"

	"blockstore.dev/blockstore/snapshot"
)

// removed is what rm prints with --json.
type removed struct {
	Removed []string `json:"removed"`
}

func (a *app) rmCommand() *cobra.Command {
	var force bool
	cmd := a.command(spec{
		use:   "rm [-f] NAME...",
		short: "remove containers",
		long: `Removes containers and prints the names of those that went. One that is mounted is
refused, unless -f unmounts it first; one that a process works in stays. Each NAME
is tried, also after one has failed.`,
		example: "blockstore rm web db\nblockstore rm -f web",
		min:     1, max: -1,
		run: func(ctx context.Context, names []string) error {
			return a.withStore(ctx, func(s *snapshot.Store) error { return a.rm(ctx, s, names, force) })
		},
	})
	cmd.Flags().BoolVarP(&force, "force", "f", false, "unmount a mounted container first; a missing one is no error")
	return cmd
}

// removedAtOnce is how many removals share a commit, at most.
const removedAtOnce = 32

func (a *app) rm(ctx context.Context, s *snapshot.Store, names []string, force bool) error {
	errs := make([]error, len(names))
	slots := make(chan struct{}, removedAtOnce)
	var all sync.WaitGroup
	for i, name := range names {
		slots <- struct{}{}
		all.Go(func() {
			errs[i] = a.rmOne(ctx, s, name, force)
			<-slots
		})
	}
	all.Wait()
	out := removed{[]string{}}
	for i, name := range names {
		if errs[i] == nil {
			out.Removed = append(out.Removed, name)
		} else if force && errors.Is(errs[i], snapshot.ErrNotFound) {
			errs[i] = nil
		}
	}
	err := a.emit(out, func(w io.Writer) {
		for _, name := range out.Removed {
			fmt.Fprintln(w, name)
		}
	})
	return errors.Join(append(errs, err)...)
}

func (a *app) rmOne(ctx context.Context, s *snapshot.Store, name string, force bool) error {
	in, err := findOwn(ctx, s, name, "rm")
	if err != nil {
		return err
	}
	if in.Mounted != "" {
		if !force {
			return mendf(fmt.Errorf("container %q is mounted at %s: %w", name, in.Mounted, snapshot.ErrBusy),
				"blockstore umount %s, or rm -f", name)
		}
		if err := s.Unmount(ctx, name); err != nil {
			return hintBusy(err, name)
		}
	}
	return hintBusy(s.Remove(ctx, name), name)
}

// hintBusy helps with what a process holds.
func hintBusy(err error, name string) error {
	if errors.Is(err, snapshot.ErrBusy) {
		return mendf(err, "end the processes that work in container %s (fuser -vm, lsof), then try again", name)
	}
	return err
}
