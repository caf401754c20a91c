package main

import (
	"context"
	"errors"
	"sync"

	"blockstore.dev/blockstore/metrics"
	"blockstore.dev/blockstore/snapshot"
)

// keeper is what has a store open for long: its doors, and the watching over its backing store.
type keeper struct {
	service *service
	events  *backingEvents
	options snapshot.WatchOptions
	metrics *metrics.Metrics // nil if nobody asks for them
	gauge   bool             // somebody asks statfs(2) how full the store is
}

// keep serves an open store to the command line, and to those whose doors open makes, until ctx is done, and closes it.
func (a *app) keep(ctx context.Context, k keeper, s *snapshot.Store, open func(context.Context) error) error {
	watching, stop := context.WithCancel(ctx)
	defer stop()
	var watch sync.WaitGroup
	watch.Go(func() { k.events.watch(watching, s, k.options, a.log) })
	if d, ok := s.Driver().(snapshot.Gauger); ok && k.gauge {
		told := a.tellGauge(watching, d, "")
		watch.Go(func() { a.keepGauge(watching, d, told) })
	}
	err := a.openControl(ctx, k, s)
	if err == nil && open != nil {
		err = open(ctx)
	}
	if err == nil {
		err = k.service.run(ctx, a.root)
	}
	stop()
	watch.Wait()
	return k.closed(ctx, s, err)
}

// closed ends a keeper with its store.
func (k keeper) closed(ctx context.Context, s *snapshot.Store, err error) error {
	err = errors.Join(err, k.service.close())
	if errors.Is(err, errStuck) {
		return err // the store is in use; the next open recovers it
	}
	return errors.Join(err, s.Close(context.WithoutCancel(ctx)))
}
