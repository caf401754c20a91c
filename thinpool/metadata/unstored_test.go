package metadata_test

import (
	"io"
	"maps"
	"slices"
)

const (
	perNode  = 252 // mappings, and children
	perIndex = 168 // bitmaps that a node of the data space map's tree names

	// wholeSize is the most that the kernel uses of 16 GiB of metadata (dm-space-map-metadata.h).
	wholeSize = 255 * (1<<14 - 64)
)

// unstored is metadata of any size whose blocks are made when they are read. Device 1 maps as much as there is room to note, in
// leaves that are full; device 2 has a root of its own, and below it the first half of what is below device 1's. Device 3 is a
// snapshot of device 2 with its first block written, and so has one path of nodes of its own.
type unstored struct {
	blocks, data  uint64
	spread        uint64 // from one data block in use to the next
	tree, bitmaps levels // of mappings; of the data space map's bitmaps
	roots         [3]uint64
	half          uint64 // the children of device 2's root
	path          uint64 // what device 3 has alone, leaf first, root last
	dataBitmaps   uint64 // their first block
	bitmapCount   uint64
	empty         uint64            // a leaf of data blocks' counts above 2, of which there are none
	large         uint64            // the same of metadata blocks
	counts        map[uint64]uint32 // of metadata blocks that are referred to more than once
	index         uint64            // of the metadata's bitmaps, which follow it
	used          uint64

	claim uint64 // data blocks that the superblock says there are, if more
	reads int    // blocks made
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

// top is the root's level.
func (all levels) top() int { return len(all) - 1 }

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

// newUnstored fills metadata of that many blocks with as many leaves as they have room for, beside the bitmaps of data blocks of
// which one in so many is in use.
func newUnstored(blocks, spread uint64) *unstored {
	u := &unstored{blocks: blocks, spread: spread}
	for leaves := blocks; ; leaves -= 1 + leaves/1000 {
		next := uint64(3) // superblock, devices, details
		u.data = leaves*perNode*spread + 1
		u.tree = layOut(&next, leaves)
		u.half = u.tree[u.tree.top()-1].nodes / 2
		u.path = next + 1
		u.roots = [3]uint64{next - 1, next, next + uint64(len(u.tree))}
		next = u.roots[2] + 1
		u.bitmapCount = (u.data + perBitmap - 1) / perBitmap
		u.dataBitmaps = next
		next += u.bitmapCount
		u.bitmaps = layOut(&next, (u.bitmapCount+perIndex-1)/perIndex)
		u.empty, u.large, u.index = next, next+1, next+2
		u.used = u.index + 1 + (blocks+perBitmap-1)/perBitmap
		if u.used <= blocks {
			u.share()
			return u
		}
	}
}

// share counts the references to nodes beyond the first: from device 2's root, and from device 3's path.
func (u *unstored) share() {
	u.counts = map[uint64]uint32{}
	more := func(first, end uint64) {
		for block := first; block < end; block++ {
			u.counts[block] = max(u.counts[block], 1) + 1
		}
	}
	top := u.tree.top()
	more(u.tree[top-1].first, u.tree[top-1].first+u.half)
	for at := range top {
		more(u.tree[at].first+1, u.tree[at].first+u.children(at+1))
	}
}

// children is how many device 3's path has at a level.
func (u *unstored) children(at int) uint64 {
	if at == u.tree.top() {
		return u.half
	}
	return u.tree[at].dealt(u.tree[at-1].nodes, 1)
}

// mapped is what each device maps.
func (u *unstored) mapped() [3]uint64 {
	half := u.tree.leaf(u.tree.top()-1, u.half) * perNode
	return [3]uint64{u.tree[0].nodes * perNode, half, half}
}

// usedData is how many data blocks from one to another are in use.
func (u *unstored) usedData(from, to uint64) uint64 {
	return (to+u.spread-1)/u.spread - (from+u.spread-1)/u.spread
}

// ReadAt makes the blocks that are asked for.
func (u *unstored) ReadAt(b []byte, at int64) (int, error) {
	for n := 0; n < len(b); n += imageBlock {
		block := uint64(at+int64(n)) / imageBlock
		if block >= u.blocks {
			return n, io.EOF
		}
		u.make(b[n:n+imageBlock], block)
		u.reads++
	}
	return len(b), nil
}

func (u *unstored) make(b []byte, block uint64) {
	clear(b)
	kind := uint32(nodeCsum)
	switch {
	case block == 0:
		u.superblock(b)
		return
	case block >= u.used:
		return
	case block == u.index:
		kind = indexCsum
		for i := uint64(0); i*perBitmap < u.blocks; i++ {
			le.PutUint64(b[16+16*i:], u.index+1+i)
			le.PutUint32(b[16+16*i+8:], uint32(min(perBitmap, u.blocks-i*perBitmap)-u.count(i)))
		}
	case block > u.index:
		kind = bitmapCsum
		u.metadataBitmap(b, block-u.index-1)
	case block >= u.dataBitmaps && block < u.dataBitmaps+u.bitmapCount:
		kind = bitmapCsum
		u.dataBitmap(b, block-u.dataBitmaps)
	case block < 3, block >= u.empty:
		u.small(b, block)
	case block >= u.bitmaps[0].first:
		u.inTree(b, u.bitmaps, block)
	case block >= u.path:
		u.ofPath(b, int(block-u.path))
	case block == u.roots[1]:
		u.node(b, u.tree, u.tree.top(), 0, u.half)
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
	var m image
	data := root(max(u.data, u.claim), u.usedData(0, u.data), u.bitmaps[u.bitmaps.top()].first, u.empty)
	copy(b, m.superblock(data, root(u.blocks, u.used, u.index, u.large), 1, 2))
	le.PutUint64(b[344:], u.blocks)
	sum(b, superCsum)
}

// small makes a tree of one node.
func (u *unstored) small(b []byte, block uint64) {
	m := image{blocks: [][]byte{b}}
	var entries []entry
	size := 8
	switch block {
	case 1:
		for i, root := range u.roots {
			entries = append(entries, entry{uint64(i + 1), u64(root)})
		}
	case 2:
		size = 24
		for i, mapped := range u.mapped() {
			entries = append(entries, entry{uint64(i + 1), append(u64(mapped), make([]byte, 16)...)})
		}
	case u.empty, u.large:
		size = 4
		for _, shared := range slices.Sorted(maps.Keys(u.counts)) {
			if block == u.large && u.counts[shared] > 2 {
				entries = append(entries, entry{shared, le.AppendUint32(nil, u.counts[shared])})
			}
		}
	}
	m.fill(0, true, size, entries)
}

// ofPath makes a node of device 3's.
func (u *unstored) ofPath(b []byte, at int) {
	first := b[32+8*perNode:]
	switch at {
	case 0:
		u.inTree(b, u.tree, u.tree[0].first)
		le.PutUint64(first, mapping(u.data-1, 0))
		return
	case u.tree.top():
		u.node(b, u.tree, at, 0, u.half)
	default:
		u.inTree(b, u.tree, u.tree[at].first)
	}
	le.PutUint64(first, u.path+uint64(at)-1)
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
			le.PutUint64(b[32+8*perNode+8*j:], mapping((i*perNode+j)*u.spread, 0))
		}
	default:
		first, end := tree[0].dealt(u.bitmapCount, i), tree[0].dealt(u.bitmapCount, i+1)
		head(b, true, 16, perIndex, end-first)
		for j := range end - first {
			at := (first + j) * perBitmap
			le.PutUint64(b[32+8*j:], first+j)
			le.PutUint64(b[32+8*perIndex+16*j:], u.dataBitmaps+first+j)
			le.PutUint32(b[32+8*perIndex+16*j+8:], uint32(perBitmap-u.usedData(at, min(at+perBitmap, u.data))))
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

// recount changes a block's count.
func recount(b []byte, i uint64, c uint32) {
	word := b[16+i/32*8:]
	le.PutUint64(word, le.Uint64(word)&^(3<<(2*(i%32))))
	setBits(b, i, min(c, 3))
}

// dataBitmap counts one for each used block, and two for what is in the first leaf and in device 3's of it.
func (u *unstored) dataBitmap(b []byte, i uint64) {
	first := i * perBitmap
	end := min(first+perBitmap, u.data)
	if u.spread == 1 {
		ones(b, end-first)
	} else {
		for block := (first + u.spread - 1) / u.spread * u.spread; block < end; block += u.spread {
			setBits(b, block-first, 1)
		}
	}
	for j := uint64(1); j < perNode; j++ {
		if block := j * u.spread; block/perBitmap == i {
			recount(b, block%perBitmap, 2)
		}
	}
}

// count is how many of a bitmap's blocks are used.
func (u *unstored) count(bitmap uint64) uint64 {
	return min(perBitmap, max(u.used, bitmap*perBitmap)-bitmap*perBitmap)
}

// metadataBitmap counts one for each used block, and more for what is shared.
func (u *unstored) metadataBitmap(b []byte, i uint64) {
	ones(b, u.count(i))
	for block, c := range u.counts {
		if block/perBitmap == i {
			recount(b, block%perBitmap, c)
		}
	}
}
