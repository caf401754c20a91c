package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestTargets: those that a run can tell, of the rows that it has.
func TestTargets(t *testing.T) {
	o := options{drivers: []string{"overlay2", "blockstore/btrfs"}, fileSize: 64 << 20}
	all := targets(o, "blockstore/btrfs")
	require.Len(t, all, 4)
	for _, target := range all {
		assert.Equal(t, "blockstore/btrfs", target.Cell.Column)
		assert.Equal(t, "overlay2", target.Of.Column)
	}
	assert.Equal(t, rowLoadAlone, all[0].Cell.Row, "without dockerd, beside dockerd")
	assert.Equal(t, rowLoad, all[0].Of.Row)
	for _, target := range all[1:] {
		assert.Equal(t, target.Cell.Row, target.Of.Row)
	}
	assert.Contains(t, all[3].Text, "a file of 64 MiB")
	o.drivers = []string{"devicemapper", "blockstore/devicemapper"}
	assert.Len(t, targets(o, "blockstore/devicemapper"), 1)
	o.drivers = []string{"blockstore/btrfs"}
	assert.Empty(t, targets(o, "blockstore/btrfs"))
}
