package thin

import (
	"testing"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot"
)

func TestParseStat(t *testing.T) {
	io, err := parseStat("     118        0     5168       46       27        1     2096       94        0       72      141       10        0    20480        1        0        0\n")
	require.NoError(t, err)
	require.Equal(t, snapshot.IO{Reads: 118, ReadBytes: 5168 * 512, Writes: 27, WrittenBytes: 2096 * 512}, io)
	for _, bad := range []string{"", "1 2 3 4 5 6 7", "1 2 3 4 5 x 7 8", "1 2 -3 4 5 6 7 8"} {
		_, err := parseStat(bad)
		require.ErrorContains(t, err, "device's stat", bad)
	}
}
