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

// hiddenAtOnce is how many containers are looked at, and unmounted, at the same time.
const hiddenAtOnce = 32

func (a *app) rm(ctx context.Context, s *snapshot.Store, names []string, force bool) error {
	errs := make([]error, len(names))
	slots := make(chan struct{}, hiddenAtOnce)
	var all sync.WaitGroup
	for i, name := range names {
		slots <- struct{}{}
		all.Go(func() {
			errs[i] = a.readyToGo(ctx, s, name, force)
			<-slots
		})
	}
	all.Wait()
	var ready []string
	var at []int
	for i, name := range names {
		if errs[i] == nil {
			ready, at = append(ready, name), append(at, i)
		}
	}
	for k, err := range s.RemoveAll(ctx, ready...) {
		errs[at[k]] = hintBusy(err, ready[k])
	}
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

// readyToGo finds a container that may be removed, unmounted by force if need be.
func (a *app) readyToGo(ctx context.Context, s *snapshot.Store, name string, force bool) error {
	in, err := findOwn(ctx, s, name, "rm")
	if err != nil || in.Mounted == "" {
		return err
	}
	if !force {
		return mendf(fmt.Errorf("container %q is mounted at %s: %w", name, in.Mounted, snapshot.ErrBusy),
			"blockstore umount %s, or rm -f", name)
	}
	return hintBusy(s.Unmount(ctx, name), name)
}

// hintBusy helps with what a process holds.
func hintBusy(err error, name string) error {
	if errors.Is(err, snapshot.ErrBusy) {
		return mendf(err, "end the processes that work in container %s (fuser -vm, lsof), then try again", name)
	}
	return err
}
