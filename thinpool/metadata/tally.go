package metadata

import (
	"context"

	"blockstore.dev/blockstore/dm"
)

// weighted counts references to blocks: up to three for each, and a sum for each bitmap's range, in which every block
// has a weight of its own. Two sets of counts with equal sums are equal but for a chance of 2^-64.
type weighted struct {
	counts *counts
	sums   []uint64
}

func newWeighted(blocks uint64) *weighted {
	return &weighted{newCounts(blocks), make([]uint64, blocks/countsPerBitmap+1)}
}

func (w *weighted) add(block uint64) (before int) {
	w.sums[block/countsPerBitmap] += weight(block)
	return w.counts.add(block)
}

// weight is an odd number that looks random: splitmix64's finish.
func weight(block uint64) uint64 {
	z := (block + 1) * 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31 | 1
}

// tally counts all references that there are, by going through everything once.
type tally struct {
	v              *View
	data, metadata *weighted
}

func newTally(v *View) *tally {
	return &tally{v, newWeighted(uint64(v.sb.DataBlocks)), newWeighted(uint64(v.sb.MetadataBlocks))}
}

func (t *tally) all(ctx context.Context) error {
	t.metadata.add(0)
	if err := t.state(ctx, t.v, t.mappings(t.v)); err != nil {
		return err
	}
	if t.v.sb.HeldRoot != 0 {
		held, err := OpenHeld(t.v.r)
		if err != nil {
			return err
		}
		t.refer(held.sb.HeldRoot)
		if err := t.state(ctx, held, t.mappings(held)); err != nil {
			return err
		}
	}
	return t.spaceMaps(ctx)
}

func (t *tally) spaceMaps(ctx context.Context) error {
	data, metadata := t.v.spaceMapsOf()
	for _, s := range []*SpaceMap{data, metadata} {
		if err := t.spaceMap(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// spaceMapsOf are the space maps of a View that is not held.
func (v *View) spaceMapsOf() (data, metadata *SpaceMap) {
	data, _ = v.DataSpaceMap()
	metadata, _ = v.MetadataSpaceMap()
	return data, metadata
}

// refer counts a reference to a metadata block, and says whether it is the first. One outside of the metadata counts
// as first: it is read then, and that is the error.
func (t *tally) refer(block dm.MetadataBlocks) bool {
	return block >= t.v.sb.MetadataBlocks || t.metadata.add(uint64(block)) == 0
}

// state counts what hangs from a superblock: the details, the devices, and by device what they map.
func (t *tally) state(ctx context.Context, v *View, device func(context.Context, dm.MetadataBlocks) error) error {
	details := walker{v: v, kind: detailsTree(), enter: t.refer, leaf: func(*node) error { return nil }}
	if err := details.walk(ctx, v.sb.DetailsRoot); err != nil {
		return err
	}
	top := walker{v: v, kind: deviceTree(), enter: t.refer, leaf: func(n *node) error {
		for i := range n.entries {
			if err := device(ctx, n.child(i)); err != nil {
				return err
			}
		}
		return nil
	}}
	return top.walk(ctx, v.sb.MappingRoot)
}

// mappings counts what a device's mappings refer to.
func (t *tally) mappings(v *View) func(context.Context, dm.MetadataBlocks) error {
	w := walker{v: v, kind: mappingTree(), enter: t.refer, leaf: func(n *node) error {
		for i := range n.entries {
			m, err := v.unpack(n, i)
			if err != nil {
				return err
			}
			t.data.add(uint64(m.Data))
		}
		return nil
	}}
	return w.walk
}

// spaceMap counts the blocks that a space map itself takes.
func (t *tally) spaceMap(ctx context.Context, s *SpaceMap) error {
	counts := walker{v: t.v, kind: countTree(), enter: t.refer, leaf: func(*node) error { return nil }}
	if err := counts.walk(ctx, s.root.counts); err != nil {
		return err
	}
	if s.metadata {
		t.refer(s.root.bitmaps)
		want := (s.Blocks + countsPerBitmap - 1) / countsPerBitmap
		return s.index(ctx, want, func(e indexEntry) error { t.refer(e.block); return nil })
	}
	bitmaps := walker{v: t.v, kind: bitmapTree(), enter: t.refer, leaf: func(n *node) error {
		for i := range n.entries {
			t.refer(parseIndexEntry(n.value(i)).block)
		}
		return nil
	}}
	return bitmaps.walk(ctx, s.root.bitmaps)
}
