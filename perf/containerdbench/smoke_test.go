package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/perf"
	"blockstore.dev/blockstore/perf/perftest"
	"blockstore.dev/blockstore/snapshot/btrfs"
	"blockstore.dev/blockstore/snapshot/thin"
	"blockstore.dev/blockstore/snapshot/zfs"
)

// asBenchmark makes the test binary the program: for the child under strace.
const asBenchmark = "BLOCKSTORE_TEST_CONTAINERDBENCH"

func TestMain(m *testing.M) {
	if os.Getenv(asBenchmark) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// tiny is a run of a second or two.
func tiny(dir string, names ...string) options {
	return options{
		snapshotters: names, rounds: 1, warmUp: 1, operations: 1, concurrent: 3, layers: []int{1, 3}, crowds: []int{1, 2},
		usageFiles: 2, diskSize: 2 << 30, baseSize: 128 << 20, dir: dir,
	}
}

// smoke runs everything once and looks at the report and at what is left.
func smoke(t *testing.T, o options, counts bool) {
	t.Helper()
	if _, err := exec.LookPath("strace"); err != nil || !counts {
		o.noCounts = true
	}
	t.Setenv(asBenchmark, "1")
	o.image = tinyImage(t)
	report, err := compare(t.Context(), o)
	require.NoError(t, err)
	perftest.NothingLeft(t, o.dir, "bstest-containerdbench-")
	rows, scales := map[string]int{}, map[string][]float64{}
	for _, row := range report.Rows {
		rows[row.Name] = len(row.Samples)
		if row.Series != "" {
			scales[row.Series] = append(scales[row.Series], row.Scale)
		}
	}
	assert.Equal(t, map[string][]float64{"unpack": {1, 3}, "prepare among others": {1, 2}}, scales)
	for _, name := range []string{rowPrepare, rowMounts, rowRemove, rowBoth, rowUsage, rowUnpack(1), rowUnpack(3), rowRealImage, rowConcurrent(3), rowCrowd(1), rowCrowd(2)} {
		assert.Equal(t, len(o.snapshotters), rows[name], name)
	}
	if !o.noCounts {
		assert.Equal(t, len(o.snapshotters), rows[rowPrepare+": waits for the disk"])
	}
	var text strings.Builder
	require.NoError(t, report.WriteText(&text))
	require.Contains(t, report.Environment, "timer slack")
	t.Log("\n" + text.String())
}

func TestSmoke(t *testing.T) {
	dir := perftest.WorkDir(t)
	perftest.Needs(t, btrfs.Kind{})
	smoke(t, tiny(dir, defaultKinds()...), true)
}

func TestSmokeDevmapper(t *testing.T) {
	dir := perftest.WorkDir(t)
	perftest.Needs(t, thin.Kind{})
	smoke(t, tiny(dir, "devmapper", "blockstore/devicemapper", "blockstore/devicemapper/socket"), false)
}

func TestSmokeZFS(t *testing.T) {
	dir := perftest.WorkDir(t)
	perftest.Needs(t, zfs.Kind{})
	smoke(t, tiny(dir, "overlayfs", "blockstore/zfs"), false)
}

// TestInterrupted: what was made by then is taken back.
func TestInterrupted(t *testing.T) {
	dir := perftest.WorkDir(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	report, err := compare(ctx, tiny(dir, "overlayfs", "native"))
	require.ErrorIs(t, err, context.Canceled)
	require.Nil(t, report, "nothing was measured")
	perftest.NothingLeft(t, dir, "bstest-containerdbench-")
}

// TestInterruptedLater: what was measured by then is kept, and comes with the error.
func TestInterruptedLater(t *testing.T) {
	dir := perftest.WorkDir(t)
	ctx, cancel := context.WithCancel(t.Context())
	o := tiny(dir, "overlayfs", "native")
	o.rounds, o.out = 1_000_000, filepath.Join(t.TempDir(), "report.json")
	var report *perf.Report
	var err error
	var run sync.WaitGroup
	run.Go(func() { report, err = compare(ctx, o) })
	assert.Eventually(t, func() bool { _, err := os.Stat(o.out); return err == nil }, time.Minute, time.Millisecond)
	cancel()
	run.Wait()
	require.ErrorIs(t, err, context.Canceled)
	require.True(t, report.Has(rowPrepare))
	require.Len(t, report.NotRun, 1)
	perftest.NothingLeft(t, dir, "bstest-containerdbench-")
}

// TestFailed: a peer that cannot be made ends the run, and nothing of those before it
// stays.
func TestFailed(t *testing.T) {
	dir := perftest.WorkDir(t)
	perftest.Needs(t, btrfs.Kind{})
	o := tiny(dir, "overlayfs", ours+"btrfs")
	o.usageFiles = 1 << 20 // more than the disk holds
	o.diskSize = 200 << 20
	_, err := compare(t.Context(), o)
	require.ErrorContains(t, err, "no space left")
	perftest.NothingLeft(t, dir, "bstest-containerdbench-")
}
