package main

import (
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestOptions(t *testing.T) {
	o, err := parseOptions([]string{"--image", "i.tar", "--drivers", "overlay2,vfs", "--file-size", "64M", "--rounds", "5"}, io.Discard)
	require.NoError(t, err)
	assert.Equal(t, []string{"overlay2", "vfs"}, o.drivers)
	assert.Equal(t, int64(64<<20), o.fileSize)
	assert.Equal(t, 5, o.rounds)
	assert.NotEmpty(t, o.dir)
	assert.False(t, o.needsBlockstore())
}

func TestRefusedOptions(t *testing.T) {
	tests := map[string]struct {
		args []string
		want string
	}{
		"no image":         {[]string{"--drivers", "vfs"}, "--image is missing"},
		"unknown driver":   {[]string{"--image", "i", "--drivers", "aufs"}, `"aufs" is none of`},
		"driver twice":     {[]string{"--image", "i", "--drivers", "vfs,vfs"}, "twice"},
		"no rounds":        {[]string{"--image", "i", "--drivers", "vfs", "--rounds", "0"}, "1 at least"},
		"an argument":      {[]string{"--image", "i", "--drivers", "vfs", "x"}, "flags only"},
		"no size":          {[]string{"--file-size", "large"}, "file-size"},
		"a file too small": {[]string{"--image", "i", "--drivers", "vfs", "--file-size", "4K"}, "below 1M"},
		"no binary":        {[]string{"--image", "i", "--drivers", "blockstore/btrfs", "--blockstore", "/missing"}, "make build"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := parseOptions(test.args, io.Discard)
			assert.ErrorContains(t, err, test.want)
		})
	}
}
