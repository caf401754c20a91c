package metadata

import (
	"context"
	"encoding/binary"
	"errors"
	"sort"

	"blockstore.dev/blockstore/dm"
)

// B-tree nodes: Linux, persistent-data/dm-btree-internal.h (struct node_header); little-endian.
const (
	nodeHeader     = 32
	flagInternal   = 1 << 0
	flagLeaf       = 1 << 1
	offEntries     = 16
	offMaxEntries  = 20
	offValueSize   = 24
	pointerSize    = 8
	maxEntriesUnit = 3

	// maxDepth bounds a tree: with nodes a third full, four levels hold 2^24 devices and five all blocks of the
	// largest pool.
	maxDepth = 12
)

// treeKind is one of the pool's trees, by name and by the size of what its leaves hold.
type treeKind struct {
	name      string
	valueSize int
}

func deviceTree() treeKind  { return treeKind{"mapping tree's top", pointerSize} }
func mappingTree() treeKind { return treeKind{"mapping tree", 8} }
func detailsTree() treeKind { return treeKind{"details tree", 24} }
func bitmapTree() treeKind  { return treeKind{"bitmap tree", 16} }
func countTree() treeKind   { return treeKind{"reference count tree", 4} }

// span is a range of keys, both ends in it.
type span struct{ low, high uint64 }

func everything() span { return span{0, 1<<64 - 1} }

// node is one block of a tree that has been checked.
type node struct {
	block         dm.MetadataBlocks
	b             []byte
	leaf          bool
	entries, room int
	valueSize     int
}

func (n *node) key(i int) uint64 { return binary.LittleEndian.Uint64(n.b[nodeHeader+8*i:]) }

func (n *node) value(i int) []byte {
	at := nodeHeader + 8*n.room + n.valueSize*i
	return n.b[at : at+n.valueSize]
}

func (n *node) uint64(i int) uint64 { return binary.LittleEndian.Uint64(n.value(i)) }

func (n *node) child(i int) dm.MetadataBlocks { return dm.MetadataBlocks(n.uint64(i)) }

// below is the range of keys that child i may hold, in a node that may hold in.
func (n *node) below(i int, in span) span {
	s := span{n.key(i), in.high}
	if i+1 < n.entries {
		s.high = n.key(i+1) - 1
	}
	return s
}

// find is the last entry whose key is not above key, -1 for none.
func (n *node) find(key uint64) int {
	return sort.Search(n.entries, func(i int) bool { return n.key(i) > key }) - 1
}

// place is where a node hangs.
type place struct {
	block dm.MetadataBlocks
	in    span
	depth int // 0 is the root
}

// node reads one node of a tree into b. A recycled block is a whole node of another tree, so that the checksum alone
// proves nothing.
func (v *View) node(ctx context.Context, t treeKind, p place, b []byte) (node, error) {
	bad := func(format string, args ...any) (node, error) {
		return node{}, corrupt(p.block, "node of the "+t.name+": "+format, args...)
	}
	if p.depth > maxDepth {
		return bad("it is more than %d levels deep", maxDepth)
	}
	if err := v.read(ctx, p.block, kindNode, b); err != nil {
		return node{}, err
	}
	le := binary.LittleEndian
	entries, room, size := le.Uint32(b[offEntries:]), le.Uint32(b[offMaxEntries:]), le.Uint32(b[offValueSize:])
	flags := le.Uint32(b[offFlags:])
	n := node{block: p.block, b: b, leaf: flags == flagLeaf, entries: int(entries), room: int(room), valueSize: int(size)}
	want := pointerSize
	if n.leaf {
		want = t.valueSize
	}
	switch {
	case flags != flagLeaf && flags != flagInternal:
		return bad("flags %#x", flags)
	case size != uint32(want):
		return bad("values of %d bytes instead of %d", size, want)
	case room > blockSize || nodeHeader+n.room*(8+want) > blockSize || room%maxEntriesUnit != 0 || entries > room:
		return bad("%d entries with room for %d", entries, room)
	case entries == 0 && (p.depth > 0 || !n.leaf):
		return bad("no entries")
	}
	for i := 1; i < n.entries; i++ {
		if n.key(i-1) >= n.key(i) {
			return bad("key %d comes before %d", n.key(i-1), n.key(i))
		}
	}
	if n.entries > 0 && (n.key(0) < p.in.low || n.key(n.entries-1) > p.in.high) {
		return bad("keys %d to %d, its parent has it for %d to %d", n.key(0), n.key(n.entries-1), p.in.low, p.in.high)
	}
	return n, nil
}

// walker goes through trees of one kind, in order of their keys. It holds one path of nodes.
type walker struct {
	v    *View
	kind treeKind
	// enter, if set, is asked about each reference to a node; what it does not want is not read.
	enter func(dm.MetadataBlocks) bool
	// leaf gets each leaf. It must not keep the node.
	leaf func(*node) error

	buffers [maxDepth + 1][]byte
}

func (w *walker) walk(ctx context.Context, root dm.MetadataBlocks) error {
	return w.descend(ctx, place{block: root, in: everything()})
}

func (w *walker) descend(ctx context.Context, p place) error {
	if w.enter != nil && !w.enter(p.block) {
		return nil
	}
	n, err := w.v.node(ctx, w.kind, p, w.buffer(p.depth))
	if err != nil {
		return err
	}
	if n.leaf {
		return w.leaf(&n)
	}
	for i := range n.entries {
		if err := w.descend(ctx, place{n.child(i), n.below(i, p.in), p.depth + 1}); err != nil {
			return err
		}
	}
	return nil
}

// buffer is the block for one level; a place that is too deep never gets to use its own.
func (w *walker) buffer(depth int) []byte {
	depth = min(depth, maxDepth)
	if w.buffers[depth] == nil {
		w.buffers[depth] = make([]byte, blockSize)
	}
	return w.buffers[depth]
}

// lookup finds the value of one key; nil where there is none.
func (v *View) lookup(ctx context.Context, t treeKind, root dm.MetadataBlocks, key uint64) ([]byte, error) {
	b := make([]byte, blockSize)
	for p := (place{block: root, in: everything()}); ; p.depth++ {
		n, err := v.node(ctx, t, p, b)
		if err != nil {
			return nil, err
		}
		i := n.find(key)
		switch {
		case i < 0, n.leaf && n.key(i) != key:
			return nil, nil
		case n.leaf:
			return n.value(i), nil
		}
		p.block, p.in = n.child(i), n.below(i, p.in)
	}
}

// errStop ends a walk that nobody wants to see more of.
var errStop = errors.New("stop")
