package metadata_test

import (
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/thinpool/metadata"
)

const (
	perNode  = 252 // mappings, and children
	perIndex = 168 // bitmaps that a node of the data space map's tree names

	// wholeSize is the most that the kernel uses of 16 GiB of metadata (dm-space-map-metadata.h).
	wholeSize = 255 * (1<<14 - 64)
)

// unstored is metadata of any size whose blocks are made when they are read. Device 1 maps as much as there is room to note, in
// leaves that are full; device 2 has a root of its own, and below it the first half of what is below device 1's.
type unstored struct {
	blocks, data  uint64
	tree, bitmaps levels // of mappings; of the data space map's bitmaps
	roots         [2]uint64
	half          uint64 // the children of device 2's root
	dataBitmaps   uint64 // their first block
	bitmapCount   uint64
	empty         uint64 // two leaves of counts above 2, of which there are none
	index         uint64 // of the metadata's bitmaps, which follow it
	used          uint64
}

// levels are a tree's, from the leaves up to the root. Each has what is below it dealt out evenly, so that no node is less
// than half full.
type levels []level

type level struct{ first, nodes uint64 }

// dealt is the first of so many below that belongs to a level's node i; that of the next is the end.
func (l level) dealt(below, i uint64) uint64 { return i * below / l.nodes }

// leaf is the first leaf below a level's node i.
func (all levels) leaf(at int, i uint64) uint64 {
	for ; at > 0; at-- {
		i = all[at].dealt(all[at-1].nodes, i)
	}
	return i
}

// layOut gives a tree of that many leaves its blocks.
func layOut(next *uint64, leaves uint64) (all levels) {
	for n := leaves; ; n = (n + perNode - 1) / perNode {
		all = append(all, level{*next, n})
		*next += n
		if n == 1 {
			return all
		}
	}
}

// newUnstored fills metadata of that many blocks with as many leaves as they have room for.
func newUnstored(blocks uint64) *unstored {
	u := &unstored{blocks: blocks}
	for leaves := blocks; ; leaves -= 1 + leaves/1000 {
		next := uint64(3) // superblock, devices, details
		u.data = leaves * perNode
		u.tree = layOut(&next, leaves)
		top := u.tree[len(u.tree)-1]
		u.roots = [2]uint64{top.first, next}
		next++
		u.half = u.tree[len(u.tree)-2].nodes / 2
		u.bitmapCount = (u.data + perBitmap - 1) / perBitmap
		u.dataBitmaps = next
		next += u.bitmapCount
		u.bitmaps = layOut(&next, (u.bitmapCount+perIndex-1)/perIndex)
		u.empty = next
		u.index = next + 2
		u.used = u.index + 1 + (blocks+perBitmap-1)/perBitmap
		if u.used <= blocks {
			return u
		}
	}
}

// mapped is what each device maps.
func (u *unstored) mapped() [2]uint64 {
	return [2]uint64{u.data, u.tree.leaf(len(u.tree)-2, u.half) * perNode}
}

// ReadAt makes the blocks that are asked for.
func (u *unstored) ReadAt(b []byte, at int64) (int, error) {
	for n := 0; n < len(b); n += imageBlock {
		block := uint64(at+int64(n)) / imageBlock
		if block >= u.blocks {
			return n, io.EOF
		}
		u.make(b[n:n+imageBlock], block)
	}
	return len(b), nil
}

func (u *unstored) make(b []byte, block uint64) {
	clear(b)
	m := image{blocks: [][]byte{b}, data: u.data}
	kind := uint32(nodeCsum)
	switch mapped := u.mapped(); {
	case block == 0:
		u.superblock(b)
		return
	case block >= u.used:
		return
	case block == 1:
		m.fill(0, true, 8, []entry{{1, u64(u.roots[0])}, {2, u64(u.roots[1])}})
	case block == 2:
		m.fill(0, true, 24, []entry{{1, append(u64(mapped[0]), make([]byte, 16)...)}, {2, append(u64(mapped[1]), make([]byte, 16)...)}})
	case block == u.roots[1]:
		u.node(b, u.tree, len(u.tree)-1, 0, u.half)
	case block == u.empty, block == u.empty+1:
		m.fill(0, true, 4, nil)
	case block == u.index:
		kind = indexCsum
		for i := uint64(0); i*perBitmap < u.blocks; i++ {
			le.PutUint64(b[16+16*i:], u.index+1+i)
			le.PutUint32(b[16+16*i+8:], uint32(min(perBitmap, u.blocks-i*perBitmap)-u.count(i)))
		}
	case block > u.index && block < u.used:
		kind = bitmapCsum
		u.metadataBitmap(b, block-u.index-1)
	case block >= u.dataBitmaps && block < u.dataBitmaps+u.bitmapCount:
		kind = bitmapCsum
		ones(b, min(perBitmap, u.data-(block-u.dataBitmaps)*perBitmap))
	case block >= u.bitmaps[0].first:
		u.inTree(b, u.bitmaps, block)
	default:
		u.inTree(b, u.tree, block)
	}
	le.PutUint64(b[8:], block)
	sum(b, kind)
}

func (u *unstored) superblock(b []byte) {
	root := func(blocks, used, list, counts uint64) []byte {
		r := append(u64(blocks), u64(used)...)
		return append(append(r, u64(list)...), u64(counts)...)
	}
	m := image{data: u.data}
	copy(b, m.superblock(root(u.data, u.data, u.bitmaps[len(u.bitmaps)-1].first, u.empty), root(u.blocks, u.used, u.index, u.empty+1), 1, 2))
	le.PutUint64(b[344:], u.blocks)
	sum(b, superCsum)
}

// inTree makes a node of a tree.
func (u *unstored) inTree(b []byte, tree levels, block uint64) {
	at := 0
	for block >= tree[at].first+tree[at].nodes {
		at++
	}
	i := block - tree[at].first
	switch {
	case at > 0:
		first, end := tree[at].dealt(tree[at-1].nodes, i), tree[at].dealt(tree[at-1].nodes, i+1)
		u.node(b, tree, at, first, end-first)
	case tree[0] == u.tree[0]:
		head(b, true, 8, perNode, perNode)
		for j := range uint64(perNode) {
			le.PutUint64(b[32+8*j:], i*perNode+j)
			le.PutUint64(b[32+8*perNode+8*j:], mapping(i*perNode+j, 0))
		}
	default:
		first, end := tree[0].dealt(u.bitmapCount, i), tree[0].dealt(u.bitmapCount, i+1)
		head(b, true, 16, perIndex, end-first)
		for j := range end - first {
			le.PutUint64(b[32+8*j:], first+j)
			le.PutUint64(b[32+8*perIndex+16*j:], u.dataBitmaps+first+j)
			le.PutUint32(b[32+8*perIndex+16*j+8:], uint32(perBitmap-min(perBitmap, u.data-(first+j)*perBitmap)))
		}
	}
}

// node makes one above the leaves: its children are n of those below, from first on.
func (u *unstored) node(b []byte, tree levels, at int, first, n uint64) {
	head(b, false, 8, perNode, n)
	for j := range n {
		key := tree.leaf(at-1, first+j) * perNode
		if tree[0] != u.tree[0] {
			key = tree[0].dealt(u.bitmapCount, tree.leaf(at-1, first+j))
		}
		le.PutUint64(b[32+8*j:], key)
		le.PutUint64(b[32+8*perNode+8*j:], tree[at-1].first+first+j)
	}
}

func head(b []byte, leaf bool, valueSize, most uint32, n uint64) {
	flags := uint32(1)
	if leaf {
		flags = 2
	}
	le.PutUint32(b[4:], flags)
	le.PutUint32(b[16:], uint32(n))
	le.PutUint32(b[20:], most)
	le.PutUint32(b[24:], valueSize)
}

// ones counts one reference for each of n blocks.
func ones(b []byte, n uint64) {
	for i := uint64(0); i < n; i += 32 {
		word := uint64(0xAAAA_AAAA_AAAA_AAAA)
		if n-i < 32 {
			word &= 1<<(2*(n-i)) - 1
		}
		le.PutUint64(b[16+i/32*8:], word)
	}
}

// count is how many of a bitmap's blocks are used.
func (u *unstored) count(bitmap uint64) uint64 {
	return min(perBitmap, max(u.used, bitmap*perBitmap)-bitmap*perBitmap)
}

// metadataBitmap counts one for each used block, and two for what both devices' roots name.
func (u *unstored) metadataBitmap(b []byte, i uint64) {
	ones(b, u.count(i))
	shared := u.tree[len(u.tree)-2].first
	for block := shared; block < shared+u.half; block++ {
		if block/perBitmap == i {
			at := block % perBitmap
			word := le.Uint64(b[16+at/32*8:]) &^ (3 << (2 * (at % 32)))
			le.PutUint64(b[16+at/32*8:], word|1<<(2*(at%32)))
		}
	}
}

// sized is how much of the whole size a test takes: BLOCKSTORE_SOAK_METADATA=1 has all of it.
func sized() uint64 {
	if os.Getenv("BLOCKSTORE_SOAK_METADATA") != "" {
		return wholeSize
	}
	return wholeSize / 16
}

// TestWholeSize: the kernel's largest metadata are read in the memory that Check and Usage promise, whatever is mapped.
func TestWholeSize(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	u := newUnstored(sized())
	mapped := u.mapped()
	v, err := metadata.Open(u)
	require.NoError(t, err)
	devices, err := v.Devices(t.Context())
	require.NoError(t, err)
	require.Len(t, devices, 2)
	// Two bits for each block of both kinds, a byte for each of metadata, a sum for each bitmap; and what the collector lets lie.
	kept := (u.data+u.blocks)/4 + u.blocks + (u.data+u.blocks)/perBitmap*8
	const others = 8 << 20
	kept += kept/5 + others
	for _, c := range []struct {
		name  string
		limit uint64
		run   func() error
	}{
		{"Check", kept, func() error {
			found, err := v.Check(t.Context(), metadata.CheckOptions{})
			require.Empty(t, found)
			return err
		}},
		{"Usage", kept, func() error {
			usage, err := v.Usage(t.Context())
			require.EqualValues(t, u.data, usage.Used)
			require.EqualValues(t, mapped[1], usage.Shared)
			require.EqualValues(t, mapped[0]-mapped[1], usage.Devices[0].Exclusive)
			require.Zero(t, usage.Devices[1].Exclusive)
			return err
		}},
		{"Delta", others, func() error {
			var only dm.Blocks
			for d, err := range v.Delta(t.Context(), metadata.DeltaOptions{Left: 2, Right: 1}) {
				if err != nil {
					return err
				}
				require.Equal(t, metadata.RightOnly, d.Kind)
				only += d.Length
			}
			require.EqualValues(t, mapped[0]-mapped[1], only)
			return nil
		}},
		{"Dump", others, func() error { return v.Dump(t.Context(), io.Discard, metadata.DumpOptions{}) }},
	} {
		began := time.Now()
		got := peak(t, c.run)
		t.Logf("%s of %d MiB of metadata, %d mappings: %d KiB at most, %s", c.name, u.blocks>>8, u.data+mapped[1], got>>10, time.Since(began).Round(time.Millisecond))
		require.LessOrEqual(t, got, c.limit, c.name)
	}
}

// peak is the most that a function has on the heap beyond what was there before, as often as can be looked.
func peak(t *testing.T, run func() error) (most uint64) {
	t.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(10))
	runtime.GC()
	heap := func() uint64 {
		sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	before, stop := heap(), make(chan struct{})
	var looking sync.WaitGroup
	looking.Go(func() {
		for {
			most = max(most, max(heap(), before)-before)
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
		}
	})
	err := run()
	close(stop)
	looking.Wait()
	require.NoError(t, err)
	return most
}

// TestUnstoredIsValid: thin_check has nothing to say about what TestWholeSize reads.
func TestUnstoredIsValid(t *testing.T) {
	tools(t)
	u := newUnstored(wholeSize / 256)
	b := make([]byte, u.blocks*imageBlock)
	_, err := u.ReadAt(b, 0)
	require.NoError(t, err)
	out, err := exec.CommandContext(t.Context(), "thin_check", writeFile(t, b)).CombinedOutput()
	require.NoError(t, err, "%s", out)
}
