package metrics

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/ioctl"
	"blockstore.dev/blockstore/snapshot"
)

// operations are the calls of the doors.
type operations struct {
	total    *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

// buckets reach from a system call to the limit of a call of Docker's, in seconds.
func buckets() []float64 {
	return []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 120}
}

func newOperations() *operations {
	return &operations{
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "blockstore_operations_total", Help: "Operations that have ended, by door, method and outcome.",
		}, []string{"door", "method", "outcome"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "blockstore_operation_duration_seconds", Help: "How long operations took, by door and method.", Buckets: buckets(),
		}, []string{"door", "method"}),
	}
}

func (o *operations) done(door, method string, took time.Duration, err error) {
	o.total.WithLabelValues(door, method, outcomeOf(err)).Inc()
	o.duration.WithLabelValues(door, method).Observe(took.Seconds())
}

// Describe and Collect make operations a prometheus.Collector.
func (o *operations) Describe(to chan<- *prometheus.Desc) {
	o.total.Describe(to)
	o.duration.Describe(to)
}

// Collect sends all series.
func (o *operations) Collect(to chan<- prometheus.Metric) {
	o.total.Collect(to)
	o.duration.Collect(to)
}

// outcomeOf is the kind of an error; of a joined one, the gravest.
func outcomeOf(err error) string {
	if err == nil {
		return "ok"
	}
	for _, k := range []struct {
		is   error
		name string
	}{
		{snapshot.ErrCorrupt, "corrupt"},
		{snapshot.ErrNoSpace, "no_space"},
		{unix.ENOSPC, "no_space"},
		{unix.EDQUOT, "no_space"},
		{snapshot.ErrReadOnly, "read_only"},
		{snapshot.ErrBusy, "busy"},
		{snapshot.ErrNotFound, "not_found"},
		{snapshot.ErrExists, "exists"},
		{snapshot.ErrNotSupported, "not_supported"},
		{snapshot.ErrUnconfirmed, "invalid"},
		{snapshot.ErrInvalid, "invalid"},
		{context.Canceled, "canceled"},
		{context.DeadlineExceeded, "timeout"},
	} {
		if errors.Is(err, k.is) {
			return k.name
		}
	}
	return "error"
}

// ioctls are the system calls behind the operations.
type ioctls struct {
	names   map[uintptr]ioctl.Name
	total   *prometheus.CounterVec
	failed  *prometheus.CounterVec
	seconds *prometheus.CounterVec
}

func newIoctls() *ioctls {
	by := []string{"interface", "request"}
	return &ioctls{
		names: ioctl.Names(),
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "blockstore_ioctls_total", Help: "Ioctls that were issued, by interface and request.",
		}, by),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "blockstore_ioctl_errors_total", Help: "Ioctls that the kernel refused, with its errno. Some are questions, to which ENXIO is an answer.",
		}, append(by, "errno")),
		seconds: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "blockstore_ioctl_seconds_total", Help: "How long all ioctls took together.",
		}, by),
	}
}

func (i *ioctls) done(request uintptr, err error, took time.Duration) {
	name, ok := i.names[request]
	if !ok {
		name = ioctl.Name{Interface: "other", Request: "other"}
	}
	i.total.WithLabelValues(name.Interface, name.Request).Inc()
	i.seconds.WithLabelValues(name.Interface, name.Request).Add(took.Seconds())
	if err == nil {
		return
	}
	text := "other"
	var errno unix.Errno
	if errors.As(err, &errno) {
		if n := unix.ErrnoName(errno); n != "" { // ZFS has numbers of its own beside
			text = n
		}
	}
	i.failed.WithLabelValues(name.Interface, name.Request, text).Inc()
}

// Describe and Collect make ioctls a prometheus.Collector.
func (i *ioctls) Describe(to chan<- *prometheus.Desc) {
	for _, v := range []*prometheus.CounterVec{i.total, i.failed, i.seconds} {
		v.Describe(to)
	}
}

// Collect sends all series.
func (i *ioctls) Collect(to chan<- prometheus.Metric) {
	for _, v := range []*prometheus.CounterVec{i.total, i.failed, i.seconds} {
		v.Collect(to)
	}
}
