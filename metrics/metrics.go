package metrics

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"blockstore.dev/blockstore/ioctl"
	"blockstore.dev/blockstore/snapshot"
)

// Store is what is read of a store; *snapshot.Store is one.
type Store interface {
	Status(context.Context) (snapshot.StoreStatus, error)
	List(context.Context) ([]snapshot.Info, error)
	Driver() snapshot.Driver
	Spares() snapshot.SpareCounts
	CatalogCounts() snapshot.CatalogCounts
}

// Options of Metrics. The zero value is ready.
type Options struct {
	Version, Revision string
	Log               *slog.Logger
}

// Metrics are those of one store. Its methods may be called by many goroutines at once.
type Metrics struct {
	registry   *prometheus.Registry
	operations *operations
	events     *prometheus.CounterVec
	ioctls     *ioctls
	state      *state
	log        *slog.Logger
}

// Bounds of an endpoint.
const (
	// stateEvery is how old the state may be before it is read anew.
	stateEvery = 10 * time.Second
	// stateShare keeps reading the state of a large store to one part in so many of the time.
	stateShare = 10
	// stateWait is how long a scrape waits for that.
	stateWait = 5 * time.Second
	// maxScrapes is how many are answered at once; more are told to come again.
	maxScrapes = 8
	// stopWait is how long a scrape may take to end when the server stops.
	stopWait = 5 * time.Second
)

// New registers everything. The store must stay open until Serve has returned.
func New(store Store, o Options) *Metrics {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "blockstore_build_info", Help: "The program that runs; always 1.",
		ConstLabels: prometheus.Labels{"version": o.Version, "revision": o.Revision, "goversion": runtime.Version()},
	})
	build.Set(1)
	m := &Metrics{
		registry: prometheus.NewRegistry(), operations: newOperations(), ioctls: newIoctls(), state: newState(store, o.Log), log: o.Log,
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "blockstore_pool_events_total", Help: "What was told of the backing store by who watches it, by kind and level.",
		}, []string{"kind", "level"}),
	}
	m.registry.MustRegister(
		build, m.operations, m.events, m.ioctls, m.state, catalog{store},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return m
}

// Operation is the end of one. The door and the method are of fixed sets: see Options.Observe of the doors.
func (m *Metrics) Operation(door, method string, took time.Duration, err error) {
	m.operations.done(door, method, took, err)
}

// Event is one thing told of the backing store: see snapshot.Watcher.
func (m *Metrics) Event(e snapshot.BackingEvent) { m.events.WithLabelValues(e.Kind, e.Level).Inc() }

// Handler answers at /metrics.
func (m *Metrics) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(m.log.Handler(), slog.LevelWarn),
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: maxScrapes,
		EnableOpenMetrics:   true,
	}))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, "blockstore: metrics for Prometheus are at /metrics\n") // the caller has gone
	})
	return mux
}

// Serve answers on l until ctx is done, and closes l. A reading of the state that is under way then ends first, unless
// the backing store does not answer. Until then it is the process's observer of ioctls.
func (m *Metrics) Serve(ctx context.Context, l net.Listener) error {
	ioctl.Observe(m.ioctls.done)
	defer ioctl.Observe(nil)
	srv := &http.Server{
		Handler: m.Handler(), ReadHeaderTimeout: 10 * time.Second, WriteTimeout: time.Minute, IdleTimeout: 5 * time.Minute, MaxHeaderBytes: 1 << 14,
		ErrorLog: slog.NewLogLogger(m.log.Handler(), slog.LevelWarn),
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWait)
		defer cancel()
		err := srv.Shutdown(limited)
		if errors.Is(err, context.DeadlineExceeded) {
			err = nil // a scraper that does not read is not waited for
		}
		stopped <- errors.Join(err, srv.Close())
	})
	err := srv.Serve(l)
	if !stop() && errors.Is(err, http.ErrServerClosed) {
		err = <-stopped
	}
	m.state.close()
	return err
}
