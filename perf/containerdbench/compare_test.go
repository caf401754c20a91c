package main

import (
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/perf"
)

func TestTurned(t *testing.T) {
	order := []int{1, 2, 3}
	assert.Equal(t, []int{2, 3, 1}, turned(order))
	assert.Equal(t, []int{1, 2, 3}, order)
	assert.Equal(t, []int{1, 2, 3}, turned(turned(turned(order))))
}

// TestTargets: each is of rows that a round has, and of peers that take part.
func TestTargets(t *testing.T) {
	o, err := parseOptions(nil, io.Discard)
	require.NoError(t, err)
	assert.Len(t, targets(o, "blockstore/btrfs"), 7, "without devmapper")
	o.snapshotters, o.image = append(o.snapshotters, "devmapper"), "dir:ref"
	all := targets(o, "blockstore/btrfs")
	require.Len(t, all, 11)
	assert.Equal(t, perf.Cell{Row: rowPrepare, Column: "devmapper"}, all[0].Of)
	assert.Equal(t, perf.Cell{Row: rowBoth, Column: "devmapper"}, all[1].Of)
	assert.Equal(t, perf.Cell{Row: "unpack of 16 layers", Column: "overlayfs"}, all[6].Of)
	assert.Equal(t, perf.Cell{Row: "unpack of the real image", Column: "overlayfs/btrfs"}, all[3].Of)
	assert.Equal(t, perf.Cell{Row: "prepare, 1000 present", Column: "blockstore/btrfs"}, all[10].Cell)
	assert.Equal(t, perf.Cell{Row: "prepare, 1 present", Column: "blockstore/btrfs"}, all[10].Of)
}

// TestQuiet: what warms up is not recorded.
func TestQuiet(t *testing.T) {
	var r perf.Report
	p := &peer{name: "a", report: &r, quiet: true}
	p.add("row", time.Second)
	p.addPart("row", "part", time.Second)
	assert.Empty(t, r.Rows)
	p.quiet = false
	p.add("row", time.Second)
	p.addPart("row", "part", time.Second)
	assert.Len(t, r.Rows, 2)
}

func TestAddCounts(t *testing.T) {
	var r perf.Report
	addCounts(&r, "row", "ioctls", map[string]int{"a": 0, "b": 0})
	assert.Empty(t, r.Rows, "what nobody calls")
	addCounts(&r, "row", "ioctls", map[string]int{"a": 0, "b": 3})
	require.Len(t, r.Rows, 1)
	assert.Equal(t, "row: ioctls", r.Rows[0].Name)
	assert.Equal(t, map[string]perf.Samples{"a": {0}, "b": {3}}, r.Rows[0].Samples)
}
