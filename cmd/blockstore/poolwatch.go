package main

import (
	"context"
	"sync"

	"github.com/spf13/cobra"

	"blockstore.dev/blockstore/snapshot"
)

func (a *app) poolWatchCommand() *cobra.Command {
	var w watchFlags
	var cmd *cobra.Command
	cmd = a.command(spec{
		use:   "watch [flags]",
		short: "keep the pool from filling up, and tell what becomes of it",
		long: watchHelp + `

It runs until Ctrl-C, and other verbs work meanwhile. A server watches the pool
itself, as its own flags say: then this shows what it tells. With --json each event
is a document on a line.`,
		example: "blockstore pool watch --extend-at 70% --extend-to 500G\nblockstore --json pool watch",
		run: func(ctx context.Context, _ []string) error {
			o, err := w.options(repairCommand(a.root))
			if err != nil {
				return err
			}
			if a.lent != nil {
				if w.changed(cmd.Flags()) {
					return usagef("the server watches the pool as it was told when it was started: stop it, or leave these flags to it")
				}
				return a.followEvents(ctx)
			}
			return a.watchPool(ctx, o)
		},
	})
	w.add(cmd.Flags())
	return cmd
}

// followEvents shows what the server's watching tells, until it ends.
func (a *app) followEvents(ctx context.Context) error {
	if err := watched(a.lent.store); err != nil {
		return err
	}
	events, stop := a.lent.events.listen()
	defer stop()
	return a.printEvents(ctx, events)
}

// watchPool is a server without a door to others.
func (a *app) watchPool(ctx context.Context, o snapshot.WatchOptions) error {
	s, err := a.openHere(ctx)
	if err != nil {
		return err
	}
	k := keeper{service: newService(a.log), events: newBackingEvents(), options: o}
	if err := watched(s); err != nil {
		return k.closed(ctx, s, err)
	}
	events, stop := k.events.listen()
	defer stop()
	var printing sync.WaitGroup
	var printErr error
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	printing.Go(func() {
		// Where nobody reads any more nobody watches.
		defer cancel()
		printErr = a.printEvents(context.WithoutCancel(ctx), events)
	})
	err = a.keep(ctx, k, s, nil)
	printing.Wait()
	if err == nil {
		err = printErr
	}
	return err
}
