package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// suite is the result of a test of the conformance suite that fills a column.
func suite(column string, r result) result {
	r.suite = column
	return r
}

// TestConformanceTable: every case that ran for one driver is a row, and each driver has a word for it.
func TestConformanceTable(t *testing.T) {
	noZFS := result{outcome: skipped, reason: "no ZFS in this kernel"}
	noInstant := result{outcome: skipped, reason: "point-in-time: no freeze"}
	tiers := []*tier{
		of(hostTier, map[string]result{
			"b TestConformance": suite("btrfs", yes), "b TestConformance/A": yes, "b TestConformance/B": noInstant, "b TestConformance/C": yes,
			"b TestConformance/C/Kernel": yes, "b TestOther/D": yes,
			"t TestConformance": suite("devicemapper", noDM),
			"z TestConformance": suite("zfs", noZFS), "z TestConformanceShort": suite("zfs", noZFS), "x TestConformance": suite("xfs", noDM),
		}),
		of(umlTier, map[string]result{
			"t TestConformance": suite("devicemapper", no), "t TestConformance/A": yes, "t TestConformance/B": no,
			"x TestConformance": suite("xfs", yes), "x TestConformance/A": yes,
		}),
		of(vmTier, map[string]result{"z TestConformanceShort": suite("zfs", yes), "z TestConformanceShort/B": yes}),
	}
	var w strings.Builder
	conformanceOf(tiers).print(&w)
	var lines []string
	for line := range strings.Lines(w.String()) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	assert.Equal(t, []string{
		"",
		"== conformance suite",
		"",
		"btrfs devicemapper xfs zfs",
		"A passed passed passed not run (1)",
		"B n/a (2) FAILED not run (3) passed",
		"C passed not run (4) not run (3) not run (1)",
		"C/Kernel passed not run (4) not run (3) not run (1)",
		"",
		"passed 3 1 1 1",
		"FAILED 0 1 0 0",
		"n/a 1 0 0 0",
		"not run 0 2 3 3",
		"",
		"(1) no ZFS in this kernel",
		"(2) point-in-time: no freeze",
		"(3) TestConformance did not run it",
		"(4) TestConformance ended before it",
	}, lines)
}

// TestConformanceTableSaysWhatItIsMadeOf: tests name their columns in the events; nothing else makes a table.
func TestConformanceTableSaysWhatItIsMadeOf(t *testing.T) {
	named, _ := collected(t, hostTier,
		`{"Action":"run","Package":"p","Test":"TestConformance"}`,
		`{"Action":"attr","Package":"p","Test":"TestConformance","Key":"other","Value":"x"}`,
		`{"Action":"attr","Package":"p","Test":"TestConformance","Key":"conformance","Value":"btrfs"}`,
		`{"Action":"run","Package":"p","Test":"TestConformance/A"}`,
		`{"Action":"pass","Package":"p","Test":"TestConformance/A"}`,
		`{"Action":"pass","Package":"p","Test":"TestConformance"}`,
	)
	c := conformanceOf([]*tier{named})
	require.Equal(t, []string{"btrfs"}, c.columns)
	require.Equal(t, cell{word: casePassed}, c.cells[[2]string{"A", "btrfs"}])
	text, err := reported([]*tier{named})
	require.NoError(t, err)
	require.Contains(t, text, "== conformance suite")
	text, err = reported([]*tier{of(hostTier, map[string]result{"p TestConformance/A": yes})})
	require.NoError(t, err)
	require.NotContains(t, text, "== conformance suite")
}
