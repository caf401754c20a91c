package graphdriver

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"blockstore.dev/blockstore/snapshot"
)

// Options of a Plugin. The zero value is ready.
type Options struct {
	// Log takes one line per call, at level debug, or error for calls that fail.
	Log *slog.Logger
	// Version is shown in `docker info`.
	Version string
	// Observe, if set, is told of each call at its end: the method without "GraphDriver.", how long it took and its
	// error. Methods that there are not are all "unknown". It is called by many goroutines at once.
	Observe func(method string, took time.Duration, err error)
}

// Plugin serves one store to one dockerd. Its methods may be called by many
// goroutines at once.
type Plugin struct {
	store   *snapshot.Store
	dir     string // of the door's own files
	log     *slog.Logger
	version string
	observe func(method string, took time.Duration, err error)

	refs  refs
	fresh fresh
	ahead ahead
	slots chan struct{} // calls under way
	calls sync.WaitGroup

	mu    sync.RWMutex
	state state
	rules rules
	owner process
}

// Bounds of a plugin.
const (
	// maxCalls is how many calls are worked on at once; more wait.
	maxCalls = 128
	// stopWait is how long calls under way may take to end when the server stops.
	stopWait = 15 * time.Second
	// sweepEvery is how often removals and unmounts are tried again that something
	// was in the way of.
	sweepEvery = 30 * time.Second
)

// New makes a plugin on an open store. What an earlier process was told by dockerd
// (home, options, id maps) holds on: dockerd tells it once.
func New(store *snapshot.Store, o Options) (*Plugin, error) {
	p := &Plugin{
		store: store, log: o.Log, version: o.Version, observe: o.Observe,
		slots: make(chan struct{}, maxCalls),
	}
	p.refs.shown = p.shown
	if p.log == nil {
		p.log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	var err error
	if p.dir, err = store.DoorDir(door); err != nil {
		return nil, err
	}
	return p, p.recall()
}

// Serve answers on l until ctx is done and the calls that were under way then have
// ended, or their time is over. It closes l.
func (p *Plugin) Serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler:           p.Handler(),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(p.log.Handler(), slog.LevelWarn),
		ConnContext:       withPeer,
		BaseContext:       func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
	}
	done := make(chan struct{})
	var keeping sync.WaitGroup
	keeping.Go(func() { p.maintain(done) })
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWait)
		defer cancel()
		err := srv.Shutdown(limited)
		stopped <- errors.Join(err, srv.Close())
	})
	err := srv.Serve(l)
	if !stop() && errors.Is(err, http.ErrServerClosed) {
		err = <-stopped
	}
	close(done)
	keeping.Wait()
	p.calls.Wait()
	return err
}

// maintain tries again what could not be done when Docker asked.
func (p *Plugin) maintain(done <-chan struct{}) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			p.sweep(context.Background())
		}
	}
}

// sweep is one round of maintain.
func (p *Plugin) sweep(ctx context.Context) {
	if err := p.store.Sweep(ctx); err != nil {
		p.log.Warn("removals that wait for their users", "error", err)
	}
	for _, id := range p.refs.idle() {
		ref, unlock := p.refs.lock(id)
		if ref.count == 0 {
			p.hide(ctx, id, ref)
		}
		unlock()
	}
}
