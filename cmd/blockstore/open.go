package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"blockstore.dev/blockstore/snapshot"
)

// lent is what a verb runs with in a server: the server's store, which it must
// not close, and who asked.
type lent struct {
	store  *snapshot.Store
	root   string
	events *backingEvents
	unit   string // the server's, if systemd runs it
	caller caller
	// stopping is closed when the server stops: verbs without an end of their own end then.
	stopping <-chan struct{}
}

// withStore opens the store for one verb and closes it again, also after Ctrl-C.
// While a server has the store, the server does the verb.
func (a *app) withStore(ctx context.Context, do func(*snapshot.Store) error) (err error) {
	if a.lent != nil {
		return do(a.lent.store)
	}
	s, err := a.openHere(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close(context.WithoutCancel(ctx))) }()
	return do(s)
}

// openHere opens the store in this process. While a server has it, the server does the verb: its end is the error.
func (a *app) openHere(ctx context.Context) (*snapshot.Store, error) {
	if err := a.mustBeRoot(); err != nil {
		return nil, err
	}
	s, served, err := a.openStore(ctx)
	const tries = 5 // a server that stops answers once, not each time
	for range tries {
		if err != nil || served == nil {
			break
		}
		if err = a.handOver(ctx, served); !errors.Is(err, errNotBegun) {
			return nil, err
		}
		s, served, err = a.openStore(ctx)
	}
	if err != nil {
		return nil, err
	}
	if served != nil {
		return nil, errors.Join(served.busy(), served.conn.Close())
	}
	return s, nil
}

// errServerCame: a server appeared while we waited for the store's lock.
var errServerCame = errors.New("a server has the store now")

// openStore opens the store, or finds the server that has it. While any other
// process has it, it waits.
func (a *app) openStore(ctx context.Context) (*snapshot.Store, *server, error) {
	for {
		served, err := findServer(ctx, a.root)
		if err != nil || served != nil {
			return nil, served, err
		}
		s, err := a.openUnserved(ctx)
		if !errors.Is(err, errServerCame) {
			return s, nil, err
		}
	}
}

// openUnserved opens the store. A server takes the lock before it listens; if one
// turns up in the wait for the lock, the wait ends with errServerCame.
func (a *app) openUnserved(ctx context.Context) (*snapshot.Store, error) {
	watched, cancel := context.WithCancelCause(ctx)
	var watch sync.WaitGroup
	defer watch.Wait()
	defer cancel(nil)
	o := a.storeOptions()
	o.Waiting = func(holder string) {
		fmt.Fprintf(a.stderr, "waiting for another process that has the store: %s\n", holder)
		watch.Go(func() { a.watchForServer(watched, cancel) })
	}
	s, err := snapshot.Open(watched, o)
	if err != nil && errors.Is(context.Cause(watched), errServerCame) {
		return nil, errServerCame
	}
	return s, err
}

// watchForServer looks for a server until ctx is done, and cancels it when there
// is one.
func (a *app) watchForServer(ctx context.Context, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if s, _ := findServer(ctx, a.root); s != nil {
			_ = s.conn.Close()
			cancel(errServerCame)
			return
		}
	}
}
