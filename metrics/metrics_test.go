package metrics

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/ioctl"
	"blockstore.dev/blockstore/snapshot"
)

// fake is a store whose state is what a test says. Its driver can account.
type fake struct {
	reads  atomic.Int64
	status func(context.Context) (snapshot.StoreStatus, error)
	list   []snapshot.Info
	all    snapshot.Account
	broken error
}

func (f *fake) Status(ctx context.Context) (snapshot.StoreStatus, error) {
	f.reads.Add(1)
	return f.status(ctx)
}
func (f *fake) List(context.Context) ([]snapshot.Info, error) { return f.list, nil }
func (f *fake) Driver() snapshot.Driver                       { return accountant{fake: f} }
func (f *fake) Spares() snapshot.SpareCounts {
	return snapshot.SpareCounts{Ready: 3, Prepared: 2, Taken: 7, Missed: 4}
}

func (f *fake) CatalogCounts() snapshot.CatalogCounts {
	return snapshot.CatalogCounts{Commits: 2, Updates: 5, Failures: 1, Committing: 1500 * time.Millisecond}
}

// accountant is asked for the account only: all else is nobody's.
type accountant struct {
	snapshot.Driver
	fake *fake
}

func (a accountant) Account(context.Context) (snapshot.Account, error) {
	return a.fake.all, a.fake.broken
}

func (accountant) Usages(context.Context, []snapshot.Volume) ([]snapshot.Usage, error) {
	return nil, errors.New("not asked for")
}

func (accountant) Freed(context.Context, ...snapshot.VolumeID) (int64, error) {
	return 0, errors.New("not asked for")
}

// full is a store that has everything.
func full() *fake {
	info := func(name string, kind snapshot.SnapshotKind, id snapshot.VolumeID) snapshot.Info {
		return snapshot.Info{Name: name, Kind: kind, Volume: snapshot.Volume{ID: id}}
	}
	f := &fake{
		list: []snapshot.Info{info("a", snapshot.KindLayer, 16), info("b", snapshot.KindLayer, 17), info("c", snapshot.KindContainer, 18), info("v", snapshot.KindView, 17)},
		all: snapshot.Account{Used: 1000, Shared: 400, Volumes: map[snapshot.VolumeID]snapshot.Share{
			snapshot.Base: {Exclusive: 1}, 16: {Exclusive: 100}, 17: {Exclusive: 200}, 18: {Exclusive: 299, Shared: 400},
		}},
	}
	f.status = func(context.Context) (snapshot.StoreStatus, error) {
		return snapshot.StoreStatus{
			StoreID: "id", Driver: "devicemapper", Layers: 2, Containers: 1, Views: 1, Images: 1,
			Backing: snapshot.Status{
				Healthy: true, Mode: "rw", Snapshots: 7, SnapshotLimit: 100,
				Data: snapshot.Space{Total: 2000, Used: 1000}, Metadata: snapshot.Space{Total: 200, Used: 10},
			},
		}, nil
	}
	return f
}

// busy are metrics in which every family has a series.
func busy(f *fake) *Metrics {
	m := New(f, Options{Version: "1", Revision: "r"})
	m.Operation("cli", "create", 2*time.Millisecond, nil)
	m.Operation("docker", "Create", time.Second, fmt.Errorf("making it: %w", snapshot.ErrNoSpace))
	m.ioctls.done(ioctl.DMRequest(ioctl.DM_DEV_CREATE_CMD), unix.EBUSY, time.Millisecond)
	m.ioctls.done(12345, errors.New("no errno"), time.Millisecond)
	m.Event(snapshot.BackingEvent{Kind: "extended", Level: "info"})
	return m
}

// own are the gathered text's lines of our own.
func own(t *testing.T, m *Metrics) map[string]string {
	t.Helper()
	families, err := m.registry.Gather()
	require.NoError(t, err)
	values := map[string]string{}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "blockstore_") {
			continue
		}
		for _, s := range f.GetMetric() {
			var labels []string
			for _, l := range s.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			key := f.GetName()
			if len(labels) > 0 {
				key += "{" + strings.Join(labels, ",") + "}"
			}
			switch {
			case s.GetGauge() != nil:
				values[key] = fmt.Sprint(s.GetGauge().GetValue())
			case s.GetCounter() != nil:
				values[key] = fmt.Sprint(s.GetCounter().GetValue())
			default:
				values[key] = fmt.Sprint(s.GetHistogram().GetSampleCount())
			}
		}
	}
	return values
}

func TestValues(t *testing.T) {
	values := own(t, busy(full()))
	for name, want := range map[string]string{
		`blockstore_store_info{driver=devicemapper,store_id=id}`: "1",
		`blockstore_healthy`:                                                      "1",
		`blockstore_pool_mode{mode=rw}`:                                           "1",
		`blockstore_pool_mode{mode=ro}`:                                           "0",
		`blockstore_pool_snapshots_taken`:                                         "7",
		`blockstore_pool_snapshots_limit`:                                         "100",
		`blockstore_snapshots{kind=view}`:                                         "1",
		`blockstore_images`:                                                       "1",
		`blockstore_exclusive_bytes{kind=layer}`:                                  "300",
		`blockstore_exclusive_bytes{kind=container}`:                              "299",
		`blockstore_shared_bytes`:                                                 "400",
		`blockstore_volumes_used_bytes`:                                           "1000",
		`blockstore_pool_data_total_bytes`:                                        "2000",
		`blockstore_pool_metadata_used_bytes`:                                     "10",
		`blockstore_spares_ready`:                                                 "3",
		`blockstore_spares_prepared`:                                              "2",
		`blockstore_spares_taken_total`:                                           "7",
		`blockstore_spares_missed_total`:                                          "4",
		`blockstore_catalog_commits_total`:                                        "2",
		`blockstore_catalog_updates_total`:                                        "5",
		`blockstore_catalog_commit_errors_total`:                                  "1",
		`blockstore_catalog_commit_seconds_total`:                                 "1.5",
		`blockstore_operations_total{door=cli,method=create,outcome=ok}`:          "1",
		`blockstore_operations_total{door=docker,method=Create,outcome=no_space}`: "1",
		`blockstore_operation_duration_seconds{door=docker,method=Create}`:        "1",
		`blockstore_ioctls_total{interface=device-mapper,request=DM_DEV_CREATE}`:  "1",
		`blockstore_ioctl_errors_total{errno=EBUSY,interface=device-mapper,request=DM_DEV_CREATE}`: "1",
		`blockstore_ioctl_errors_total{errno=other,interface=other,request=other}`:                 "1",
		`blockstore_ioctl_seconds_total{interface=device-mapper,request=DM_DEV_CREATE}`:            "0.001",
		`blockstore_build_info{goversion=` + goVersion(t, values) + `,revision=r,version=1}`:       "1",
		`blockstore_state_errors_total`: "0",
	} {
		require.Equal(t, want, values[name], name)
	}
}

func goVersion(t *testing.T, values map[string]string) string {
	for name := range values {
		if m := regexp.MustCompile(`^blockstore_build_info\{goversion=([^,]+),`).FindStringSubmatch(name); m != nil {
			return m[1]
		}
	}
	t.Fatal("no build info")
	return ""
}

// TestAbsent: what a driver cannot tell is not shown as 0, and a mode that is not known is shown beside the others.
func TestAbsent(t *testing.T) {
	f := full()
	f.broken = fmt.Errorf("not here: %w", snapshot.ErrNotSupported)
	f.status = func(context.Context) (snapshot.StoreStatus, error) {
		return snapshot.StoreStatus{Driver: "zfs", Backing: snapshot.Status{Mode: "DEGRADED", Problem: "broken", Data: snapshot.Space{Used: 5}}}, nil
	}
	values := own(t, New(f, Options{}))
	require.Equal(t, "0", values["blockstore_healthy"])
	require.Equal(t, "1", values["blockstore_pool_mode{mode=DEGRADED}"])
	require.Equal(t, "0", values["blockstore_pool_mode{mode=rw}"])
	require.Equal(t, "5", values["blockstore_pool_data_used_bytes"])
	for _, name := range []string{
		"pool_data_total_bytes", "pool_metadata_used_bytes", "pool_metadata_total_bytes", "pool_snapshots_taken", "pool_snapshots_limit",
		"shared_bytes", "volumes_used_bytes", "exclusive_bytes{kind=layer}",
	} {
		require.NotContains(t, values, "blockstore_"+name)
	}
}

func TestLint(t *testing.T) {
	problems, err := testutil.GatherAndLint(busy(full()).registry)
	require.NoError(t, err)
	require.Empty(t, problems)
}

func TestOutcomes(t *testing.T) {
	require.Equal(t, "ok", outcomeOf(nil))
	require.Equal(t, "error", outcomeOf(errors.New("other")))
	require.Equal(t, "corrupt", outcomeOf(errors.Join(snapshot.ErrNotFound, snapshot.ErrCorrupt)))
	require.Equal(t, "no_space", outcomeOf(fmt.Errorf("writing: %w", unix.ENOSPC)))
	require.Equal(t, "timeout", outcomeOf(context.DeadlineExceeded))
}

// TestStateIsReadSeldom, whatever the rate of scrapes; a large store's more seldom still.
func TestStateIsReadSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := full()
		m := New(f, Options{})
		defer m.state.close()
		for range 600 { // a minute
			own(t, m)
			pass(100 * time.Millisecond)
		}
		require.EqualValues(t, 6, f.reads.Load())
		inner := f.status
		f.status = func(ctx context.Context) (snapshot.StoreStatus, error) {
			pass(4 * time.Second)
			return inner(ctx)
		}
		pass(10 * time.Second)
		f.reads.Store(0)
		for range 800 { // at least 80 s
			own(t, m)
			pass(100 * time.Millisecond)
		}
		require.EqualValues(t, 3, f.reads.Load())
	})
}

// TestStateThatHangs: a scrape goes on without it, with the last state and its age; one that fails is counted and logged.
func TestStateThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := full()
		m := New(f, Options{Log: slog.New(slog.DiscardHandler)})
		before := own(t, m)
		pass(stateEvery)
		inner := f.status
		f.status = func(ctx context.Context) (snapshot.StoreStatus, error) {
			<-ctx.Done()
			return snapshot.StoreStatus{}, ctx.Err()
		}
		for range 2 {
			began := time.Now()
			hung := own(t, m)
			require.Equal(t, stateWait, time.Since(began))
			require.Equal(t, before, hung)
		}
		m.state.close()
		require.EqualValues(t, 2, f.reads.Load())

		m = New(f, Options{})
		f.status = func(context.Context) (snapshot.StoreStatus, error) {
			return snapshot.StoreStatus{}, errors.New("it broke")
		}
		failed := own(t, m)
		require.Equal(t, "1", failed["blockstore_state_errors_total"])
		require.NotContains(t, failed, "blockstore_healthy")
		require.Equal(t, "2", failed["blockstore_catalog_commits_total"])
		f.status = inner
		pass(stateEvery)
		require.Equal(t, "1", own(t, m)["blockstore_healthy"])
		m.state.close()
	})
}

// families are the names of all metrics of our own that there can be.
func families(t *testing.T) []string {
	t.Helper()
	m := New(full(), Options{})
	names := []string{"blockstore_build_info"}
	for _, c := range []prometheus.Collector{m.operations, m.events, m.ioctls, m.state, catalog{full()}} {
		descs := make(chan *prometheus.Desc, 100)
		c.Describe(descs)
		close(descs)
		for d := range descs {
			found := regexp.MustCompile(`fqName: "([a-z_]+)"`).FindStringSubmatch(d.String())
			require.NotNil(t, found, d.String())
			names = append(names, found[1])
		}
	}
	slices.Sort(names)
	require.Equal(t, slices.Compact(slices.Clone(names)), names, "each is there once")
	return names
}

// TestDocumented: the list of docs/metrics.md is the registry's.
func TestDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/metrics.md")
	require.NoError(t, err)
	var listed []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(blockstore_[a-z_]+)").FindAllStringSubmatch(string(page), -1) {
		listed = append(listed, m[1])
	}
	slices.Sort(listed)
	require.Equal(t, families(t), listed)
}

// TestDashboard: every metric that the dashboard asks for exists, by labels that it has.
func TestDashboard(t *testing.T) {
	raw, err := os.ReadFile("../packaging/grafana/blockstore.json")
	require.NoError(t, err)
	type panel struct {
		Title   string
		Type    string
		Targets []struct{ Expr string }
	}
	var board struct {
		Title, UID string
		Panels     []panel
		Templating struct {
			List []struct {
				Name, Type string
				Query      any
			}
		}
	}
	require.NoError(t, json.Unmarshal(raw, &board))
	require.Equal(t, "blockstore", board.UID)
	exist := families(t)
	asked := map[string]bool{}
	look := func(title, expr string) {
		found := regexp.MustCompile(`blockstore_[a-z_]+`).FindAllString(expr, -1)
		require.NotEmpty(t, found, title)
		for _, name := range found {
			base := name
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				if s, ok := strings.CutSuffix(name, suffix); ok && s == "blockstore_operation_duration_seconds" {
					base = s
				}
			}
			require.Contains(t, exist, base, title)
			asked[base] = true
		}
		require.Equal(t, strings.Count(expr, "("), strings.Count(expr, ")"), title)
		for _, l := range regexp.MustCompile(`\bby \(([a-z_, ]+)\)`).FindAllStringSubmatch(expr, -1) {
			for _, label := range strings.Split(l[1], ",") {
				require.Contains(t, []string{"le", "instance", "door", "method", "outcome", "interface", "request", "errno", "kind", "mode", "level"}, strings.TrimSpace(label), title)
			}
		}
	}
	for _, p := range board.Panels {
		if p.Type == "row" {
			continue
		}
		require.NotEmpty(t, p.Targets, p.Title)
		for _, target := range p.Targets {
			look(p.Title, target.Expr)
			require.Contains(t, target.Expr, `instance=~"$instance"`, p.Title)
		}
	}
	for _, v := range board.Templating.List {
		if v.Type == "query" {
			look(v.Name, fmt.Sprint(v.Query))
		}
	}
	for _, name := range exist { // nothing that is told is left unseen, but what the state says of itself
		if !strings.HasPrefix(name, "blockstore_state_") && !strings.HasSuffix(name, "_info") {
			require.True(t, asked[name], "%s is on no panel", name)
		}
	}
}

// pass lets the virtual time of synctest go on.
func pass(d time.Duration) { <-time.After(d) }
