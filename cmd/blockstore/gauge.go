package main

import (
	"context"
	"time"

	"blockstore.dev/blockstore/snapshot"
)

// gaugeInterval is how old what statfs(2) tells may be. kubelet asks every ten seconds.
const gaugeInterval = 5 * time.Second

// keepGauge has statfs tell how full the store is until ctx is done.
func (a *app) keepGauge(ctx context.Context, d snapshot.Gauger, said string) {
	tick := time.NewTicker(gaugeInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			said = a.tellGauge(ctx, d, said)
		}
	}
}

// tellGauge does it once, and returns what it said of a failure: the same is not said twice.
func (a *app) tellGauge(ctx context.Context, d snapshot.Gauger, said string) string {
	err := d.Gauge(ctx)
	if err == nil || ctx.Err() != nil {
		return ""
	}
	if err.Error() != said {
		a.log.Warn("kubelet is not told how full the store is", "error", err)
	}
	return err.Error()
}
