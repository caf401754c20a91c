package metrics

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"blockstore.dev/blockstore/snapshot"
)

// family is one metric of the state or the catalog: its description and what sends its series.
type family[T any] struct {
	desc *prometheus.Desc
	send func(value T, give func(v float64, labels ...string))
	kind prometheus.ValueType
}

func gauge[T any](name, help string, labels []string, send func(T, func(float64, ...string))) family[T] {
	return family[T]{desc: prometheus.NewDesc("blockstore_"+name, help, labels, nil), send: send, kind: prometheus.GaugeValue}
}

func counter[T any](name, help string, send func(T, func(float64, ...string))) family[T] {
	return family[T]{desc: prometheus.NewDesc("blockstore_"+name, help, nil, nil), send: send, kind: prometheus.CounterValue}
}

func (f family[T]) collect(value T, to chan<- prometheus.Metric) {
	f.send(value, func(v float64, labels ...string) { to <- prometheus.MustNewConstMetric(f.desc, f.kind, v, labels...) })
}

// modes are those that snapshot.Status.Mode is known to have; another is shown beside them.
func modes() []string { return []string{"rw", "out_of_data_space", "ro", "Fail", "Error"} }

type give = func(float64, ...string)

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// stateFamilies are the metrics of a reading.
func stateFamilies() []family[*reading] {
	one := func(name, help string, of func(*reading) (v float64, known bool)) family[*reading] {
		return gauge(name, help, nil, func(r *reading, g give) {
			if v, ok := of(r); ok {
				g(v)
			}
		})
	}
	space := func(name, what string, of func(snapshot.Status) snapshot.Space) []family[*reading] {
		return []family[*reading]{
			one(name+"_used_bytes", "Bytes of "+what+" in use.", func(r *reading) (float64, bool) {
				s := of(r.status.Backing)
				return float64(s.Used), s != snapshot.Space{}
			}),
			one(name+"_total_bytes", "Bytes of "+what+" that there are; absent where they have no fixed size.", func(r *reading) (float64, bool) {
				s := of(r.status.Backing)
				return float64(s.Total), s.Total > 0
			}),
		}
	}
	all := []family[*reading]{
		gauge("store_info", "The store; always 1.", []string{"driver", "store_id"}, func(r *reading, g give) {
			g(1, r.status.Driver, r.status.StoreID)
		}),
		one("healthy", "1 while the backing store needs nobody, 0 when it needs a person.", func(r *reading) (float64, bool) {
			return boolean(r.status.Backing.Healthy), true
		}),
		gauge("pool_mode", "1 for what the backing store still does, 0 for the other modes.", []string{"mode"}, sendMode),
		one("pool_snapshots_taken", "Snapshots that the thin pool has taken in its life.", func(r *reading) (float64, bool) {
			return float64(r.status.Backing.Snapshots), r.status.Backing.SnapshotLimit > 0
		}),
		one("pool_snapshots_limit", "Snapshots after which a thin pool takes no more.", func(r *reading) (float64, bool) {
			return float64(r.status.Backing.SnapshotLimit), r.status.Backing.SnapshotLimit > 0
		}),
		gauge("snapshots", "Layers, containers and views in the store.", []string{"kind"}, func(r *reading, g give) {
			g(float64(r.status.Layers), string(snapshot.KindLayer))
			g(float64(r.status.Containers), string(snapshot.KindContainer))
			g(float64(r.status.Views), string(snapshot.KindView))
		}),
		one("images", "Images in the store.", func(r *reading) (float64, bool) { return float64(r.status.Images), true }),
		gauge("exclusive_bytes", "Bytes that only one layer or container holds, summed; where the driver can tell cheaply.", []string{"kind"}, sendExclusive),
		one("shared_bytes", "Bytes that more than one volume holds, each counted once; where the driver can tell cheaply.", func(r *reading) (float64, bool) {
			if r.account == nil {
				return 0, false
			}
			return float64(r.account.shared), true
		}),
		one("volumes_used_bytes", "Bytes that any volume holds, each counted once; where the driver can tell cheaply.", func(r *reading) (float64, bool) {
			if r.account == nil {
				return 0, false
			}
			return float64(r.account.used), true
		}),
		one("state_timestamp_seconds", "When the state was read.", func(r *reading) (float64, bool) { return float64(r.at.UnixNano()) / 1e9, true }),
		one("state_duration_seconds", "How long reading the state took.", func(r *reading) (float64, bool) { return r.took.Seconds(), true }),
	}
	all = append(all, space("pool_data", "the backing store's data space", func(s snapshot.Status) snapshot.Space { return s.Data })...)
	return append(all, space("pool_metadata", "the backing store's metadata space", func(s snapshot.Status) snapshot.Space { return s.Metadata })...)
}

func sendMode(r *reading, g give) {
	mode := r.status.Backing.Mode
	if mode == "" {
		return
	}
	known := modes()
	if !slices.Contains(known, mode) {
		known = append(known, mode)
	}
	for _, m := range known {
		g(boolean(m == mode), m)
	}
}

func sendExclusive(r *reading, g give) {
	if r.account == nil {
		return
	}
	for _, k := range []snapshot.SnapshotKind{snapshot.KindLayer, snapshot.KindContainer} {
		g(float64(r.account.exclusive[k]), string(k))
	}
}

// failures are those of reading the state: they are told whether or not there is one.
func failures() family[float64] {
	return counter("state_errors_total", "Readings of the state that failed.", func(n float64, g give) { g(n) })
}

// Describe and Collect make state a prometheus.Collector.
func (s *state) Describe(to chan<- *prometheus.Desc) {
	for _, f := range stateFamilies() {
		to <- f.desc
	}
	to <- failures().desc
}

// Collect sends the last reading.
func (s *state) Collect(to chan<- prometheus.Metric) {
	last, failed := s.get()
	failures().collect(failed, to)
	if last == nil {
		return
	}
	for _, f := range stateFamilies() {
		f.collect(last, to)
	}
}

// catalog is what the store itself counts.
type catalog struct{ store Store }

func catalogFamilies() []family[catalog] {
	return []family[catalog]{
		counter("catalog_commits_total", "Transactions of the catalog that reached the disk.", func(c catalog, g give) { g(float64(c.store.CatalogCounts().Commits)) }),
		counter("catalog_updates_total", "Changes in those transactions; changes that come at once share one.", func(c catalog, g give) { g(float64(c.store.CatalogCounts().Updates)) }),
		counter("catalog_commit_errors_total", "Transactions that the disk refused.", func(c catalog, g give) { g(float64(c.store.CatalogCounts().Failures)) }),
		counter("catalog_commit_seconds_total", "How long all transactions took together.", func(c catalog, g give) { g(c.store.CatalogCounts().Committing.Seconds()) }),
		gauge("spares_ready", "Snapshots that are ready for containers to come.", nil, func(c catalog, g give) { g(float64(c.store.Spares().Ready)) }),
		gauge("spares_prepared", "Those whose activation is prepared, too.", nil, func(c catalog, g give) { g(float64(c.store.Spares().Prepared)) }),
		counter("spares_taken_total", "Creations that took such a snapshot.", func(c catalog, g give) { g(float64(c.store.Spares().Taken)) }),
		counter("spares_missed_total", "Creations that found none of their layer ready.", func(c catalog, g give) { g(float64(c.store.Spares().Missed)) }),
	}
}

// Describe and Collect make catalog a prometheus.Collector.
func (c catalog) Describe(to chan<- *prometheus.Desc) {
	for _, f := range catalogFamilies() {
		to <- f.desc
	}
}

// Collect sends what is counted now.
func (c catalog) Collect(to chan<- prometheus.Metric) {
	for _, f := range catalogFamilies() {
		f.collect(c, to)
	}
}
