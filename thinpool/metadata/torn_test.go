package metadata_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/thinpool/metadata"
)

// heldPool has ten devices, some of which share, and a metadata snapshot from before the last of them.
func heldPool() *image {
	img := newImage(1024, 1<<16)
	for id := range uint64(8) {
		blocks := map[uint64]uint64{}
		for i := range 200 * id {
			blocks[i] = id<<12 + i
		}
		img.add(id, 20, blocks)
	}
	img.snapshot(20, img.devices[5])
	img.hold()
	d := img.snapshot(21, img.devices[6])
	d.root = img.replace(d.root, 7, mapping(60_000, img.time))
	return img
}

// TestHeldRoot: what is counted counts, whatever the superblock says.
func TestHeldRoot(t *testing.T) {
	img := heldPool()
	b, held := img.finish(), dm.MetadataBlocks(img.held.block)
	for name, c := range map[string]struct {
		image     []byte
		say, want dm.MetadataBlocks
	}{
		"held":          {b, held, held},
		"half released": {b, 0, held},
		"half taken":    {heldless(img), held + 5, 0},
		"none":          {heldless(img), 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			b := bytes.Clone(c.image)
			require.NoError(t, metadata.SetHeldRoot(b[:dm.MetadataBlockSize], c.say))
			got, err := open(t, b).HeldRoot(t.Context())
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
}

// heldless is the same pool without the metadata snapshot.
func heldless(img *image) []byte {
	held := img.held
	defer func() { img.held = held }()
	img.held = heldRoot{}
	return img.finish()
}

// TestHeldRootReadsLittle: to find none in a million mappings takes a hundredth of the metadata that are in use.
func TestHeldRootReadsLittle(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	b, _ := largePool()
	r := &countingReader{Reader: bytes.NewReader(b)}
	v, err := metadata.Open(r)
	require.NoError(t, err)
	s, err := v.MetadataSpaceMap()
	require.NoError(t, err)
	r.blocks = 0
	held, err := v.HeldRoot(t.Context())
	require.NoError(t, err)
	require.Zero(t, held)
	t.Logf("%d metadata blocks read, %d in use", r.blocks, s.Allocated)
	require.Less(t, r.blocks, int(s.Allocated)/20)
}
