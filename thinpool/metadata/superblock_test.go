package metadata

import (
	"encoding/binary"
	"os"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/dm"
)

// captured is the superblock of a pool that Linux 6.1 made: 4 MiB of metadata, 64 MiB of data in blocks of 64 KiB, a
// thin device with three blocks, one snapshot, transaction id 42.
func captured(t testing.TB) []byte {
	b, err := os.ReadFile("../testdata/superblock-linux-6.1")
	require.NoError(t, err)
	return b
}

func TestParseSuperblock(t *testing.T) {
	s, err := ParseSuperblock(captured(t))
	require.NoError(t, err)
	require.Equal(t, dm.TransactionID(42), s.TransactionID)
	require.EqualValues(t, 1, s.Time, "one snapshot")
	require.EqualValues(t, 128, s.BlockSize)
	require.EqualValues(t, 1024, s.DataBlocks)
	require.EqualValues(t, 1024, s.MetadataBlocks)
	require.EqualValues(t, 3, s.UsedDataBlocks)
	require.False(t, s.NeedsCheck)
	require.Zero(t, s.HeldRoot)
	require.Equal(t, uuid.Nil, s.Identity, "the kernel leaves the field alone")
	require.NotZero(t, s.MappingRoot)
	require.NotZero(t, s.DetailsRoot)
}

func TestParseSuperblockRefuses(t *testing.T) {
	resum := func(b []byte) { binary.LittleEndian.PutUint32(b, checksum(b, kindSuperblock)) }
	for name, c := range map[string]struct {
		change func(b []byte)
		want   error
	}{
		"blank":            {func(b []byte) { clear(b) }, ErrNotFormatted},
		"flipped bit":      {func(b []byte) { b[1000] ^= 4 }, ErrCorrupt},
		"wrong magic":      {func(b []byte) { b[offMagic]++; resum(b) }, ErrCorrupt},
		"newer version":    {func(b []byte) { b[offVersion]++; resum(b) }, ErrCorrupt},
		"unknown feature":  {func(b []byte) { b[offIncompat] = 1; resum(b) }, ErrCorrupt},
		"other kind":       {func(b []byte) { binary.LittleEndian.PutUint32(b, checksum(b, kindNode)) }, ErrCorrupt},
		"other block size": {func(b []byte) { b[offMetaBlockSize]++; resum(b) }, ErrCorrupt},
		"other block":      {func(b []byte) { b[offBlocknr]++; resum(b) }, ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			b := captured(t)
			c.change(b)
			_, err := ParseSuperblock(b)
			require.ErrorIs(t, err, c.want)
		})
	}
	_, err := ParseSuperblock(captured(t)[:4095])
	require.ErrorIs(t, err, ErrCorrupt)
}

func FuzzParseSuperblock(f *testing.F) {
	f.Add(captured(f))
	f.Add(make([]byte, blockSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseSuperblock(b)
		if err == nil && (binary.LittleEndian.Uint32(b) != checksum(b, kindSuperblock) || uint32(s.BlockSize) != binary.LittleEndian.Uint32(b[offBlockSize:])) {
			t.Fatalf("accepted %+v", s)
		}
	})
}
