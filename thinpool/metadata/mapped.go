package metadata

import (
	"context"

	"blockstore.dev/blockstore/dm"
)

// mappedCounter counts what trees map, and reads each node once. It remembers a byte for each leaf, and a number for
// each other node, of which there are at most a hundredth as many.
type mappedCounter struct {
	v        *View
	leaves   [][]byte // by pages of leafPage; entries of a leaf, 0 for what is none or not known
	internal map[dm.MetadataBlocks]dm.Blocks
	buffers  walker
}

const leafPage = 1 << 16

func newMappedCounter(v *View) *mappedCounter {
	return &mappedCounter{
		v: v, internal: map[dm.MetadataBlocks]dm.Blocks{},
		leaves: make([][]byte, (v.sb.MetadataBlocks+leafPage-1)/leafPage),
	}
}

func (m *mappedCounter) known(block dm.MetadataBlocks) (dm.Blocks, bool) {
	if n, ok := m.internal[block]; ok {
		return n, true
	}
	if block >= m.v.sb.MetadataBlocks || m.leaves[block/leafPage] == nil {
		return 0, false
	}
	n := m.leaves[block/leafPage][block%leafPage]
	return dm.Blocks(n), n > 0
}

func (m *mappedCounter) count(ctx context.Context, p place) (dm.Blocks, error) {
	if n, ok := m.known(p.block); ok {
		return n, nil
	}
	n, err := m.v.node(ctx, mappingTree(), p, m.buffers.buffer(p.depth))
	if err != nil {
		return 0, err
	}
	if n.leaf {
		return m.leaf(&n)
	}
	var sum dm.Blocks
	for i := range n.entries {
		below, err := m.count(ctx, place{n.child(i), n.below(i, p.in), p.depth + 1})
		if err != nil {
			return 0, err
		}
		sum += below
	}
	m.internal[p.block] = sum
	return sum, nil
}

func (m *mappedCounter) leaf(n *node) (dm.Blocks, error) {
	for i := range n.entries {
		if _, err := m.v.unpack(n, i); err != nil {
			return 0, err
		}
	}
	page := &m.leaves[n.block/leafPage]
	if *page == nil {
		*page = make([]byte, leafPage)
	}
	(*page)[n.block%leafPage] = byte(n.entries) // a leaf of mappings has room for 252
	return dm.Blocks(n.entries), nil
}
