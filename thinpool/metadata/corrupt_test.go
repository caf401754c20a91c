package metadata_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/thinpool/metadata"
)

// smallPool has three devices that share nodes, two levels deep, a block with five references, and a metadata snapshot.
// It is 64 blocks large.
func smallPool() []byte {
	img := newImage(64, 2000)
	blocks := map[uint64]uint64{}
	for i := range uint64(300) {
		blocks[i] = 900 - i
	}
	origin := *img.add(1, 170, blocks)
	img.hold()
	for id := range uint64(5) {
		d := img.snapshot(2+id, origin)
		d.root = img.replace(d.root, 30*id, mapping(1000+id, img.time))
	}
	img.add(9, 252, nil)
	return img.finish()
}

// readAll uses everything that a View can do and returns the first error, or Check's finding as one.
func readAll(ctx context.Context, b []byte) error {
	held, err := metadata.OpenHeld(bytes.NewReader(b))
	if err != nil && !errors.Is(err, metadata.ErrNotHeld) {
		return err
	}
	v, err := metadata.Open(bytes.NewReader(b))
	if err != nil {
		return err
	}
	if held != nil {
		if err := readTrees(ctx, held); err != nil {
			return err
		}
	}
	if err := readTrees(ctx, v); err != nil {
		return err
	}
	for _, open := range []func() (*metadata.SpaceMap, error){v.DataSpaceMap, v.MetadataSpaceMap} {
		m, err := open()
		if err != nil {
			return err
		}
		for _, err := range m.Counts(ctx) {
			if err != nil {
				return err
			}
		}
	}
	findings, err := v.Check(ctx, metadata.CheckOptions{})
	if err == nil && len(findings) > 0 {
		err = &metadata.CorruptError{Block: findings[0].Block, Reason: findings[0].Text}
	}
	return err
}

func readTrees(ctx context.Context, v *metadata.View) error {
	devices, err := v.Devices(ctx)
	if err != nil {
		return err
	}
	if _, err := v.Usage(ctx); err != nil {
		return err
	}
	if err := v.Dump(ctx, io.Discard, metadata.DumpOptions{}); err != nil || len(devices) == 0 {
		return err
	}
	if _, err := v.Group(ctx, devices[0].ID); err != nil {
		return err
	}
	for _, d := range devices[1:] {
		o := metadata.DeltaOptions{Left: devices[0].ID, Right: d.ID}
		if err := v.DumpDelta(ctx, io.Discard, o); err != nil {
			return err
		}
	}
	return nil
}

func damaged(err error) bool {
	return errors.Is(err, metadata.ErrCorrupt) || errors.Is(err, metadata.ErrNotFormatted)
}

// TestFlippedBytes: no byte of a used block can change without being found, at its block.
func TestFlippedBytes(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	good := smallPool()
	require.NoError(t, readAll(t.Context(), good))
	b := bytes.Clone(good)
	for at := 0; at < len(good); at++ {
		block := at / dm.MetadataBlockSize
		if bytes.Equal(good[block*dm.MetadataBlockSize:][:dm.MetadataBlockSize], make([]byte, dm.MetadataBlockSize)) {
			break // the rest is free
		}
		if at%dm.MetadataBlockSize > 64 && at%61 != 0 {
			continue
		}
		b[at] ^= 1 << (at % 8)
		err := readAll(t.Context(), b)
		b[at] = good[at]
		var where *metadata.CorruptError
		require.ErrorAs(t, err, &where, "byte %d of block %d", at%dm.MetadataBlockSize, block)
		require.EqualValues(t, block, where.Block, "byte %d of block %d: %v", at%dm.MetadataBlockSize, block, err)
		require.NotEmpty(t, where.Reason)
	}
}

func TestTruncated(t *testing.T) {
	good := smallPool()
	for n := 0; n < len(good); n += 1000 {
		err := readAll(t.Context(), good[:n])
		require.ErrorIs(t, err, metadata.ErrCorrupt, "%d bytes", n)
	}
	require.ErrorIs(t, readAll(t.Context(), make([]byte, len(good))), metadata.ErrNotFormatted)
	_, err := metadata.Open(failing{})
	require.ErrorIs(t, err, errBroken)
	require.NotErrorIs(t, err, metadata.ErrCorrupt, "a device that cannot be read is not corrupt metadata")
}

var errBroken = errors.New("input/output error")

type failing struct{}

func (failing) ReadAt([]byte, int64) (int, error) { return 0, errBroken }

// TestDamageBehindChecksums: blocks that are whole and wrong.
func TestDamageBehindChecksums(t *testing.T) {
	v := open(t, smallPool())
	sb := v.Superblock()
	top, details := uint64(sb.MappingRoot), uint64(sb.DetailsRoot)
	b := smallPool()
	value := func(block uint64, i int) int { // where the value of entry i is
		return int(block)*4096 + 32 + 8*int(le.Uint32(b[block*4096+20:])) + int(le.Uint32(b[block*4096+24:]))*i
	}
	root := le.Uint64(b[value(top, 0):]) // device 1's
	leaf := le.Uint64(b[value(root, 0):])
	for name, c := range map[string]struct {
		change func(b []byte)
		says   string
	}{
		"a loop":                 {func(b []byte) { le.PutUint32(b[root*4096+16:], 1); le.PutUint64(b[value(root, 0):], root) }, "levels deep"},
		"a root that is a leaf":  {func(b []byte) { le.PutUint64(b[value(top, 0):], top) }, ""},
		"another tree's node":    {func(b []byte) { le.PutUint64(b[value(top, 0):], details) }, "values of 24 bytes instead of 8"},
		"a child outside":        {func(b []byte) { le.PutUint64(b[value(root, 0):], 1<<40) }, "there are 64 metadata blocks"},
		"the superblock below":   {func(b []byte) { le.PutUint64(b[value(root, 0):], 0) }, "there are 64 metadata blocks"},
		"children exchanged":     {func(b []byte) { le.PutUint64(b[value(root, 1):], leaf) }, "its parent has it for"},
		"data outside":           {func(b []byte) { le.PutUint64(b[value(leaf, 0):], mapping(2000, 0)) }, "mapped to data block 2000 of 2000"},
		"another data block":     {func(b []byte) { le.PutUint64(b[value(leaf, 0):], mapping(1999, 0)) }, "block 1999 is counted 0 times and has 1 references"},
		"keys out of order":      {func(b []byte) { le.PutUint64(b[leaf*4096+32+8:], 0) }, "comes before"},
		"no entries":             {func(b []byte) { le.PutUint32(b[leaf*4096+16:], 0) }, "no entries"},
		"too many entries":       {func(b []byte) { le.PutUint32(b[leaf*4096+16:], 253) }, "253 entries with room for 252"},
		"no room":                {func(b []byte) { le.PutUint32(b[leaf*4096+20:], 1<<30) }, "with room for 1073741824"},
		"flags":                  {func(b []byte) { le.PutUint32(b[leaf*4096+4:], 3) }, "flags 0x3"},
		"device number":          {func(b []byte) { le.PutUint64(b[details*4096+32+8*6:], 1<<24) }, "device number 16777216"},
		"missing device":         {func(b []byte) { le.PutUint32(b[details*4096+16:], 6) }, "different devices"},
		"mapped blocks":          {func(b []byte) { le.PutUint64(b[value(details, 0):], 299) }, "device 1 is said to map 299 blocks and maps 300"},
		"alone more than mapped": {func(b []byte) { le.PutUint64(b[value(details, 1):], 0) }, "has 1 alone"},
		"huge data":              {func(b []byte) { le.PutUint64(b[64:], 1<<39) }, "can count"},
		"huge metadata":          {func(b []byte) { le.PutUint64(b[192:], 1<<39) }, "are possible"},
		"used data":              {func(b []byte) { le.PutUint64(b[72:], 1) }, "said to be used"},
	} {
		t.Run(name, func(t *testing.T) {
			b := smallPool()
			c.change(b)
			resum(b)
			began := time.Now()
			err := readAll(t.Context(), b)
			require.ErrorIs(t, err, metadata.ErrCorrupt)
			require.ErrorContains(t, err, c.says)
			require.Less(t, time.Since(began), 10*time.Second)
		})
	}
}

// resum makes the checksums of all blocks right, each as the kind that it was made as.
func resum(b []byte) {
	kinds := kindsOf(smallPool())
	for i, k := range kinds {
		if k != 0 {
			sum(b[i*4096:][:4096], k)
		}
	}
}

func kindsOf(b []byte) []uint32 {
	kinds := make([]uint32, len(b)/4096)
	for i := range kinds {
		block := bytes.Clone(b[i*4096:][:4096])
		stored := le.Uint32(block)
		for _, k := range []uint32{superCsum, nodeCsum, bitmapCsum, indexCsum} {
			if sum(block, k); le.Uint32(block) == stored {
				kinds[i] = k
			}
		}
	}
	return kinds
}

// TestWrongCounts: the space maps are compared with what refers to the blocks, also beyond what two bits count.
func TestWrongCounts(t *testing.T) {
	pool := func(change func(*image)) []byte {
		img := newImage(64, 40_000)
		origin := *img.add(1, 170, map[uint64]uint64{0: 0, 1: 1, 2: 20_000})
		for id := range uint64(5) {
			d := img.snapshot(2+id, origin)
			d.root = img.replace(d.root, 0, mapping(1000+id, img.time))
		}
		img.wrong = change
		return img.finish()
	}
	require.NoError(t, readAll(t.Context(), pool(nil)))
	for name, c := range map[string]struct {
		change func(*image)
		leak   bool
		says   string
	}{
		"leaked data":     {func(m *image) { m.dataCounts[77] = 1 }, true, "data space map: block 77 is counted 1 times and has 0 references"},
		"lost data":       {func(m *image) { delete(m.dataCounts, 1000) }, false, "data space map: block 1000 is counted 0 times and has 1 references"},
		"leaked count":    {func(m *image) { m.dataCounts[1003] = 4 }, true, "data space map: block 1003 is counted 4 times and has 1 references"},
		"too many":        {func(m *image) { m.dataCounts[1] = 7 }, false, "data space map: counts of blocks 0 to 16319 are not"},
		"too few":         {func(m *image) { m.dataCounts[20_000] = 5 }, false, "data space map: counts of blocks 16320 to 32639 are not"},
		"leaked metadata": {func(m *image) { m.counts[60] = 1 }, true, "metadata space map: block 60 is counted 1 times and has 0 references"},
		"counted twice":   {func(m *image) { m.counts[m.devices[0].root] = 2 }, true, "is counted 2 times and has 1 references"},
	} {
		t.Run(name, func(t *testing.T) {
			findings, err := open(t, pool(c.change)).Check(t.Context(), metadata.CheckOptions{})
			require.NoError(t, err)
			require.Len(t, findings, 1)
			require.Contains(t, findings[0].Text, c.says)
			require.Equal(t, c.leak, findings[0].Leak)
			findings, err = open(t, pool(c.change)).Check(t.Context(), metadata.CheckOptions{SkipMappings: true})
			require.NoError(t, err)
			require.Empty(t, findings)
		})
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	v := open(t, smallPool())
	_, err := v.Usage(ctx)
	require.ErrorIs(t, err, context.Canceled)
	_, err = v.Check(ctx, metadata.CheckOptions{})
	require.ErrorIs(t, err, context.Canceled)
}

func TestNotFound(t *testing.T) {
	v := open(t, smallPool())
	_, err := v.Device(t.Context(), 77)
	require.ErrorIs(t, err, metadata.ErrNotFound)
	_, err = v.Group(t.Context(), 1, 77)
	require.ErrorIs(t, err, metadata.ErrNotFound)
	for _, o := range []metadata.DeltaOptions{{Left: 1, Right: 77}, {Left: 77, Right: 1}} {
		require.ErrorIs(t, v.DumpDelta(t.Context(), io.Discard, o), metadata.ErrNotFound)
	}
	require.ErrorIs(t, v.Dump(t.Context(), io.Discard, metadata.DumpOptions{Devices: []dm.DeviceID{77}}), metadata.ErrNotFound)
}

// FuzzView changes 64-bit words of a pool's blocks, and then makes their checksums right: each eight bytes of input are
// a block, a word in it, and what its low bytes become.
func FuzzView(f *testing.F) {
	base := smallPool()
	sb := open(f, base).Superblock()
	edit := func(block, word uint16, value uint32) []byte {
		b := binary.LittleEndian.AppendUint16(nil, block)
		return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint16(b, word), value)
	}
	f.Add([]byte{})
	f.Add(edit(0, 8, 99))
	f.Add(edit(uint16(sb.MappingRoot), 4+252, uint32(sb.MappingRoot)))
	f.Add(edit(uint16(sb.DetailsRoot), 2, 0x00fc0000))
	r := rand.New(rand.NewPCG(1, 1))
	for block := range uint16(32) {
		f.Add(append(edit(block, uint16(r.IntN(512)), r.Uint32()), edit(block, uint16(r.IntN(8)), uint32(r.IntN(64)))...))
	}
	f.Fuzz(func(t *testing.T, edits []byte) {
		b := bytes.Clone(base)
		for ; len(edits) >= 8; edits = edits[8:] {
			block, word := le.Uint16(edits)%64, le.Uint16(edits[2:])%512
			copy(b[int(block)*4096+int(word)*8:], edits[4:8])
		}
		resum(b)
		if err := readAll(t.Context(), b); err != nil && !damaged(err) {
			t.Fatalf("neither whole nor corrupt: %v", err)
		}
	})
}
