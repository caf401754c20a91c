package perf

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDiskCounts(t *testing.T) {
	c, err := parseDiskCounts("  12 0 96 5 7 1 256 9 0 10 14 0 0 0 0 3 2\n")
	require.NoError(t, err)
	assert.Equal(t, DiskCounts{Reads: 12, ReadBytes: 96 * 512, Writes: 7, WrittenBytes: 256 * 512, Flushes: 3}, c)
	assert.Equal(t, DiskCounts{Reads: 2, Writes: 7, WrittenBytes: 256 * 512, Flushes: 3, ReadBytes: 95 * 512},
		c.Since(DiskCounts{Reads: 10, ReadBytes: 512}))
	old, err := parseDiskCounts("12 0 96 5 7 1 256 9 0 10 14")
	require.NoError(t, err)
	assert.Zero(t, old.Flushes)
}

func TestDiskCountsRefused(t *testing.T) {
	for text, want := range map[string]string{
		"1 2 3": "3 fields", "": "0 fields", "1 2 3 4 5 x 7 8 9 10 11": "field 6", "1 2 3 4 5 -6 7 8 9 10 11": "field 6",
	} {
		_, err := parseDiskCounts(text)
		assert.ErrorContains(t, err, want, text)
	}
	_, err := CountDisks([]string{"no-such-disk"})
	assert.ErrorContains(t, err, "no-such-disk")
}
