package zfs

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot"
)

func TestParseObjset(t *testing.T) {
	const text = `39 1 0x01 10 2720 9152327218 135498756126
name                            type data
dataset_name                    7    tank/a store/17
writes                          4    21
nwritten                        4    86016
reads                           4    3
nread                           4    12288
nunlinks                        4    1
nunlinked                       4    1
`
	name, io, err := parseObjset(text)
	require.NoError(t, err)
	require.Equal(t, "tank/a store/17", name)
	require.Equal(t, snapshot.IO{Reads: 3, ReadBytes: 12288, Writes: 21, WrittenBytes: 86016, Files: true}, io)
	for _, bad := range []string{"", strings.Replace(text, "nread ", "other ", 1), strings.Replace(text, "12288", "x", 1), strings.Replace(text, "dataset_name", "none", 1)} {
		_, _, err := parseObjset(bad)
		require.ErrorContains(t, err, "a dataset's kstat")
	}
}
