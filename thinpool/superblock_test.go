package thinpool

import (
	"os"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/thinpool/metadata"
)

// captured is the superblock of a pool that Linux 6.1 made: 4 MiB of metadata, 64 MiB of data in blocks of 64 KiB, a
// thin device with three blocks, one snapshot, transaction id 42.
func captured(t testing.TB) []byte {
	b, err := os.ReadFile("testdata/superblock-linux-6.1")
	require.NoError(t, err)
	return b
}

func TestIdentityIsKeptInTheSuperblock(t *testing.T) {
	path := t.TempDir() + "/metadata"
	require.NoError(t, os.WriteFile(path, captured(t), 0o600))
	id := uuid.New()
	require.NoError(t, setIdentity(path, id))
	s, err := ReadSuperblock(path)
	require.NoError(t, err)
	require.Equal(t, id, s.Identity)
	want, err := metadata.ParseSuperblock(captured(t))
	require.NoError(t, err)
	want.Identity = id
	require.Equal(t, want, s, "nothing else changed")
	require.NoError(t, wipeSuperblock(path))
	_, err = ReadSuperblock(path)
	require.ErrorIs(t, err, ErrNotFormatted)
	require.ErrorIs(t, setIdentity(path, id), ErrNotFormatted)
}

func TestFindSignature(t *testing.T) {
	const size = 4 << 20
	for _, s := range signatures {
		t.Run(s.name, func(t *testing.T) {
			b := make([]byte, size)
			at := s.offset
			if at < 0 {
				at += size
			}
			copy(b[at:], s.magic)
			what, err := findSignature(strings.NewReader(string(b)), size)
			require.NoError(t, err)
			require.Contains(t, what, "signature of")
		})
	}
	b := make([]byte, size)
	what, err := findSignature(strings.NewReader(string(b)), size)
	require.NoError(t, err)
	require.Empty(t, what)
	b[size-1] = 1
	what, err = findSignature(strings.NewReader(string(b)), size)
	require.NoError(t, err)
	require.Contains(t, what, "unknown kind")
	what, err = findSignature(strings.NewReader("tiny"), 4)
	require.NoError(t, err)
	require.Contains(t, what, "unknown kind")
	what, err = findSignature(strings.NewReader(string(captured(t))), superblockSize)
	require.NoError(t, err)
	require.Contains(t, what, "thin pool metadata", "as a kernel writes it")
}

func TestNamesCarryTheIdentity(t *testing.T) {
	c := Config{Identity: uuid.MustParse("11111111-2222-3333-4444-555555555555"), Name: "x", Data: "/d", Metadata: "/m", BlockSize: 128}
	require.NoError(t, c.validate())
	require.Equal(t, "BLOCKSTORE-11111111222233334444555555555555-pool", c.PoolUUID())
	for _, id := range []dm.DeviceID{0, 16, dm.MaxDeviceID} {
		got, ok := c.thinID(c.ThinUUID(id))
		require.True(t, ok)
		require.Equal(t, id, got)
		got, ok = c.idOfName(c.ThinName(id))
		require.True(t, ok)
		require.Equal(t, id, got)
	}
	for _, foreign := range []string{"", "x", "x-", "x-01", "x-+1", "x-1-1", "y-1", c.PoolName(), "x-99999999999"} {
		_, ok := c.idOfName(foreign)
		require.False(t, ok, foreign)
	}
	for _, foreign := range []string{"", "LVM-abc", c.PoolUUID(), c.UUIDPrefix() + "99999999", c.UUIDPrefix() + "0000001x", c.UUIDPrefix() + "1"} {
		_, ok := c.thinID(foreign)
		require.False(t, ok, foreign)
	}
	for name, change := range map[string]func(*Config){
		"no name": func(c *Config) { c.Name = "" }, "slash": func(c *Config) { c.Name = "a/b" },
		"long name": func(c *Config) { c.Name = strings.Repeat("n", maxName+1) }, "no data": func(c *Config) { c.Data = "" },
		"same path": func(c *Config) { c.Data = c.Metadata }, "block size": func(c *Config) { c.BlockSize = 127 },
		"no identity": func(c *Config) { c.Identity = uuid.Nil },
	} {
		t.Run(name, func(t *testing.T) {
			bad := c
			change(&bad)
			require.ErrorIs(t, bad.validate(), ErrInvalid)
		})
	}
	require.EqualValues(t, 64<<20, MetadataSizeFor(1<<30))
	require.EqualValues(t, 1049<<20, MetadataSizeFor(1<<40))
	require.Equal(t, MaxMetadataSize, MetadataSizeFor(1<<50))
}
