package main

import (
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestOptions(t *testing.T) {
	o, err := parseOptions(nil, io.Discard)
	require.NoError(t, err)
	assert.Equal(t, defaultKinds(), o.snapshotters)
	assert.NotContains(t, o.snapshotters, "devmapper")
	assert.GreaterOrEqual(t, o.rounds, 10)
	assert.Equal(t, []int{1, 16, 64}, o.layers)
	assert.Equal(t, []int{1, 100, 1000}, o.crowds)
	assert.NotEmpty(t, o.dir)

	o, err = parseOptions([]string{"--snapshotters", "overlayfs,devmapper", "--layers", "2,3", "--crowds=5", "--base-size", "512M"}, io.Discard)
	require.NoError(t, err)
	assert.Equal(t, []string{"overlayfs", "devmapper"}, o.snapshotters)
	assert.Equal(t, []int{2, 3}, o.layers)
	assert.Equal(t, []int{5}, o.crowds)
	assert.Equal(t, int64(512<<20), o.baseSize)
}

func TestRefusedOptions(t *testing.T) {
	tests := map[string]struct {
		args []string
		want string
	}{
		"unknown snapshotter": {[]string{"--snapshotters", "zfs"}, `"zfs" is none of`},
		"snapshotter twice":   {[]string{"--snapshotters", "native,native"}, "twice"},
		"unknown flag":        {[]string{"--fast"}, "not defined"},
		"no rounds":           {[]string{"--rounds", "0"}, "1 at least"},
		"no crowd":            {[]string{"--crowds", "0"}, "1 at least"},
		"a crowd too large":   {[]string{"--crowds", "1000000"}, "at most"},
		"no number":           {[]string{"--layers", "1,many"}, "many"},
		"negative warm-up":    {[]string{"--warm-up", "-1"}, "below 0"},
		"an argument":         {[]string{"x"}, "flags only"},
		"small volumes":       {[]string{"--base-size", "100M"}, "do not fit"},
		"small disks":         {[]string{"--disk-size", "512M"}, "below --base-size"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := parseOptions(test.args, io.Discard)
			assert.ErrorContains(t, err, test.want)
		})
	}
}

// TestMissingKind: a name that another build knows is refused with the way to it.
func TestMissingKind(t *testing.T) {
	assert.Contains(t, missingKind("btrfs"), "libbtrfs")
	assert.Empty(t, missingKind("zfs"))
}

// TestChildFlags: a child understands what it is told.
func TestChildFlags(t *testing.T) {
	o, err := parseOptions([]string{"--usage-files", "3", "--base-size", "64M", "--disk-size", "2G"}, io.Discard)
	require.NoError(t, err)
	child, err := parseOptions(o.flags("native", "/somewhere"), io.Discard)
	require.NoError(t, err)
	assert.Equal(t, []string{"native"}, child.snapshotters)
	assert.Equal(t, "/somewhere", child.dir)
	assert.Equal(t, o.usageFiles, child.usageFiles)
	assert.Equal(t, o.baseSize, child.baseSize)
	assert.Equal(t, o.diskSize, child.diskSize)
}
