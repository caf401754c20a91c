package matrix

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/perf"
	"blockstore.dev/blockstore/perf/peers"
	"blockstore.dev/blockstore/perf/perftest"
	"blockstore.dev/blockstore/snapshot/btrfs"
	"blockstore.dev/blockstore/snapshot/thin"
	"blockstore.dev/blockstore/snapshot/zfs"
)

// asCounter makes the test binary the child under strace.
const asCounter = "BLOCKSTORE_TEST_MATRIX"

func TestMain(m *testing.M) {
	if os.Getenv(asCounter) != "" {
		if err := CountInside(context.Background(), os.Args[1], os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// tiny is the least of everything.
func tiny(dir string) Options {
	return Options{
		Rounds: 1, NoWarmUp: true, Dir: dir,
		Scale: Scale{FileSize: 1 << 20, Layers: 1, Operations: 1, Burst: 3, Files: 8, FioTime: 100 * time.Millisecond, FioRequests: 20},
	}
}

// smoke runs everything once and looks at the report and at what is left.
func smoke(t *testing.T, o Options) *perf.Report {
	t.Helper()
	var steps []Progress
	done := map[string]int{}
	o.Watch = func(p Progress) { steps = append(steps, p) }
	o.Finished = func(r *perf.Report, workload string) {
		for _, row := range r.Rows {
			if row.Workload == workload {
				done[workload]++
			}
		}
	}
	report, err := Run(t.Context(), o)
	require.NoError(t, err)
	perftest.NothingLeft(t, o.Dir, "bstest-matrix-")
	for _, w := range report.Workloads {
		assert.NotZero(t, done[w.Name], "rows of %s", w.Name)
	}
	last := steps[len(steps)-1]
	assert.Equal(t, last.Total, last.Done, "every step was counted")
	for _, target := range report.Targets {
		assert.NotEqual(t, target.Cell, target.Of, target.Text)
	}
	for _, row := range report.Rows {
		assert.NotEmpty(t, row.Workload, row.Name)
		assert.NotEmpty(t, row.Samples, row.Name)
	}
	var text strings.Builder
	require.NoError(t, report.WriteText(&text))
	t.Log("\n" + text.String())
	encoded, err := json.Marshal(report)
	require.NoError(t, err)
	var again perf.Report
	require.NoError(t, json.Unmarshal(encoded, &again))
	assert.Len(t, again.Rows, len(report.Rows))
	return report
}

// able is how many workloads there are programs for.
func able() (n int) {
	for _, w := range workloads() {
		if w.lacking() == nil {
			n++
		}
	}
	return n
}

// TestSmoke is the whole matrix on some peers, and what all others must be able to do.
func TestSmoke(t *testing.T) {
	dir := perftest.WorkDir(t)
	perftest.Needs(t, btrfs.Kind{})
	o := tiny(dir)
	o.Peers = []string{peers.PlainBtrfs, peers.OverlayOnExt4, peers.OursOnBtrfs}
	report := smoke(t, o)
	assert.Len(t, report.Workloads, able())
	o.Peers, o.Workloads = nil, []string{"W1", "W5"}
	report = smoke(t, o)
	assert.Greater(t, len(report.Columns), len(peers.All())/2)
}

// TestSmokePool is the same in User Mode Linux, on thin pools, where everything costs a
// hundred times more.
func TestSmokePool(t *testing.T) {
	dir := perftest.WorkDir(t)
	perftest.Needs(t, thin.Kind{})
	o := tiny(dir)
	o.Peers = []string{peers.PlainThin, peers.OursOnPool}
	report := smoke(t, o)
	assert.Len(t, report.Workloads, able())
	o.Peers, o.Workloads = []string{"dmsetup", "lvm", peers.FloorOfPool, peers.OursOnPool}, []string{"W1", "W5"}
	smoke(t, o)
}

// TestSmokeZFS is what ZFS' peers do otherwise than others, in a virtual machine, where all of it would take many minutes.
func TestSmokeZFS(t *testing.T) {
	dir := perftest.WorkDir(t)
	perftest.Needs(t, zfs.Kind{})
	o := tiny(dir)
	o.Peers = []string{peers.PlainZFS, "zfs", peers.FloorOfZFS, peers.OursOnZFS}
	o.Workloads = []string{"W5", "W9", "W10", "W14"}
	report := smoke(t, o)
	assert.Len(t, report.Columns, len(o.Peers))
}

// TestCounts: system calls stand beside times, and our own operations start no program.
func TestCounts(t *testing.T) {
	dir := perftest.WorkDir(t)
	perftest.Needs(t, btrfs.Kind{})
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip(err)
	}
	self, err := os.Executable()
	require.NoError(t, err)
	t.Setenv(asCounter, "1")
	o := tiny(dir)
	o.Workloads, o.Peers, o.Counter = []string{"W2", "W3", "W5", "W6", "W9", "W13", "W14"}, []string{peers.PlainBtrfs, "btrfs-progs", peers.FloorOfBtrfs, peers.OursOnBtrfs}, []string{self}
	report := smoke(t, o)
	of := func(name string) map[string]perf.Samples {
		i := slices.IndexFunc(report.Rows, func(row *perf.Row) bool { return row.Name == name })
		require.GreaterOrEqual(t, i, 0, name)
		return report.Rows[i].Samples
	}
	durable := of("W2 20 durable writes, second pass, with fio's start: waits for the disk")
	assert.GreaterOrEqual(t, durable[peers.OursOnBtrfs].Median(), 19.0, "fio waits between two writes")
	assert.Equal(t, durable[peers.PlainBtrfs].Median(), durable[peers.OursOnBtrfs].Median(), "nothing of ours is called for a container's write")
	assert.Positive(t, of("W3 make 8 files: waits for the disk")[peers.OursOnBtrfs].Median())
	created := of("W5 " + rowCreate(1).name + ": programs started")
	require.Len(t, created, 3)
	assert.EqualValues(t, 1, created["btrfs-progs"].Median())
	assert.Zero(t, created[peers.OursOnBtrfs].Median())
	burst := of("W6 " + rowBurst(o.Scale.Burst, 8).name + ": ioctls")
	assert.NotContains(t, burst, "btrfs-progs", "a command for each is not looked at")
	assert.EqualValues(t, o.Scale.Burst, burst[peers.FloorOfBtrfs].Median())
	assert.EqualValues(t, 1, of("W9 " + rowRemove(1, true).name + ": waits for the disk")[peers.OursOnBtrfs].Median(), "what a writer beside it calls is not counted")
	const steady = "W14 4 KiB random writes, depth 1: "
	assert.EqualValues(t, 1, of(steady + "programs started")[peers.OursOnBtrfs].Median(), "fio alone")
	assert.GreaterOrEqual(t, of(steady + "written to the disk")[peers.OursOnBtrfs].Median(), float64(o.Scale.FioRequests*4<<10))
	reopen := "W13 " + rowReopen(1).name
	assert.True(t, report.Has(reopen+": ioctls"))
	assert.False(t, report.Has(reopen+": programs started"), "opening a store starts no program, and what nobody does has no row")
}

// TestInterrupted: what was made by then is taken back, and what was measured by then is told.
func TestInterrupted(t *testing.T) {
	for when, reason := range map[string]string{
		"round 2 of 2":         "W1: context canceled",
		"cleaning up after W1": "context canceled", // between two workloads
	} {
		t.Run(when, func(t *testing.T) {
			dir := perftest.WorkDir(t)
			perftest.Needs(t, btrfs.Kind{})
			ctx, cancel := context.WithCancel(t.Context())
			o := tiny(dir)
			o.Workloads, o.Rounds = []string{"W1", "W2"}, 2
			o.Watch = func(p Progress) {
				if strings.Contains(p.Doing, when) {
					cancel()
				}
			}
			report, err := Run(ctx, o)
			require.ErrorIs(t, err, context.Canceled)
			require.NotEmpty(t, report.Rows)
			require.Contains(t, report.NotRun, perf.NotRun{Workload: "the rest", Reason: reason})
			perftest.NothingLeft(t, dir, "bstest-matrix-")
		})
	}
}

// TestOneFails: what one workload cannot do does not cost the others' figures.
func TestOneFails(t *testing.T) {
	dir := perftest.WorkDir(t)
	perftest.Needs(t, btrfs.Kind{})
	o := tiny(dir)
	o.Workloads, o.Peers = []string{"W5"}, []string{peers.OverlayOnExt4}
	require.NoError(t, o.complete())
	b := &bench{o: o, dir: filepath.Join(dir, "bstest-matrix-fails")}
	require.NoError(t, os.Mkdir(b.dir, 0o755))
	require.NoError(t, b.begin(t.Context()))
	broken := errors.New("the disk is gone")
	b.workloads = append([]workload{{
		name: "W0", prepare: func(context.Context, *stand) error { return nil },
		round: func(context.Context, *stand) error { return broken },
	}}, b.workloads...)
	err := b.runAll(t.Context())
	require.ErrorIs(t, err, broken)
	require.ErrorContains(t, err, "W0")
	require.Len(t, b.report.NotRun, 1)
	require.Contains(t, b.report.NotRun[0].Reason, "the disk is gone")
	require.NotEmpty(t, b.report.Rows)
	require.NoError(t, os.RemoveAll(b.dir))
	perftest.NothingLeft(t, dir, "bstest-matrix-")
}

// TestRefused: what was asked for by name and cannot be done is an error that says why.
func TestRefused(t *testing.T) {
	dir := perftest.WorkDir(t)
	for name, c := range map[string]struct {
		change func(*Options)
		want   string
	}{
		"unknown workload": {func(o *Options) { o.Workloads = []string{"W0"} }, `"W0" is none of W1`},
		"unknown peer":     {func(o *Options) { o.Peers = []string{"aufs"} }, `"aufs" is no peer`},
		"named twice":      {func(o *Options) { o.Peers = []string{"vfs", "vfs"} }, "vfs stands there twice"},
		"rounds below 0":   {func(o *Options) { o.Rounds = -1 }, "--rounds -1"},
		"a tiny file":      {func(o *Options) { o.Scale.FileSize = 1 }, "--size"},
		"too many layers":  {func(o *Options) { o.Scale.Layers = 1 << 30 }, "--layers"},
		"no such place":    {func(o *Options) { o.Dir = dir + "/missing" }, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			o := tiny(dir)
			c.change(&o)
			_, err := Run(t.Context(), o)
			assert.ErrorContains(t, err, c.want)
			perftest.NothingLeft(t, dir, "bstest-matrix-")
		})
	}
}

// TestSpace: what W10 and W11 count is near what file system and kernel must take.
func TestSpace(t *testing.T) {
	dir := perftest.WorkDir(t)
	perftest.Needs(t, btrfs.Kind{})
	o := tiny(dir)
	o.Scale.FileSize, o.Scale.Layers = 16<<20, 10
	o.Workloads, o.Peers = []string{"W10", "W11"}, []string{peers.OverlayOnExt4, peers.FloorOfBtrfs, peers.OursOnBtrfs}
	report := smoke(t, o)
	of := func(workload string, m measure, column string) int64 {
		for _, row := range report.Rows {
			if row.Name == workload+" "+m.name {
				require.Len(t, row.Samples[column], 1, "%s of %s", row.Name, column)
				return int64(row.Samples[column].Median())
			}
		}
		t.Fatalf("no row %s", m.name)
		return 0
	}
	const size, written = 16 << 20, 20 * 4 << 10
	files := o.Scale.release(2)
	assert.Greater(t, of("W10", rowFourBytes(size), peers.OverlayOnExt4), int64(size)-1, "overlay copies the file")
	for _, name := range []string{peers.FloorOfBtrfs, peers.OursOnBtrfs} {
		four, many := of("W10", rowFourBytes(size), name), of("W10", rowScattered(20), name)
		assert.Greater(t, four, int64(4<<10)-1, name)
		assert.Less(t, four, int64(512<<10), name)
		assert.Greater(t, many, int64(written), name)
		assert.Less(t, many, int64(10*written), name)
		assert.Less(t, of("W10", rowTrimmed(), name), many, name)
		assert.Less(t, of("W10", rowLeft(), name), int64(1<<20), name)
		assert.Less(t, of("W10", rowUpgradeLeft(), name), int64(2<<20), name)
		upgraded := of("W10", rowUpgrade(files), name)
		assert.Greater(t, upgraded, sizeOf(files, nil), "%s: dpkg writes all files anew", name)
		assert.Less(t, upgraded, 2*sizeOf(files, nil)+1<<20, name)
		assert.Less(t, of("W11", rowMapped(), name), int64(1<<10), name)
		assert.Less(t, of("W11", rowEmptyLayer(10), name), int64(64<<10), name)
	}
	record := of("W11", rowCatalog(10), peers.OursOnBtrfs)
	assert.Greater(t, record, int64(100))
	assert.Less(t, record, int64(1<<10))
}
