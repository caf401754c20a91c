package metadata

import (
	"context"

	"blockstore.dev/blockstore/dm"
)

// HeldRoot finds the metadata snapshot that a pool holds by what its space map counts, whatever the superblock says: 0
// for none. The two differ after a power cut, since the kernel writes the superblock's word of a metadata snapshot that
// it takes or releases (dm-thin-metadata.c, __reserve_metadata_snap and __release_metadata_snap) together with the
// blocks of the commit behind it, and before that commit: the superblock then names a snapshot for which nothing is
// counted, or none while one is counted. The pool must be down.
//
// It reads the metadata space map; where the superblock names none also what refers to metadata blocks, which is all but
// the leaves of the devices' mappings, and the blocks in use that nothing refers to: about one block in a hundred of those
// that are in use.
func (v *View) HeldRoot(ctx context.Context) (dm.MetadataBlocks, error) {
	counts, err := v.MetadataSpaceMap()
	if err != nil {
		return 0, err
	}
	if v.sb.HeldRoot != 0 {
		return v.counted(ctx, counts)
	}
	t := tally{v: v, metadata: newWeighted(uint64(v.sb.MetadataBlocks))}
	if err := t.references(ctx); err != nil {
		return 0, err
	}
	b := make([]byte, blockSize)
	for run, err := range counts.Counts(ctx) {
		if err != nil {
			return 0, err
		}
		if run.Count == 0 {
			continue
		}
		for i := run.Begin; i < run.Begin+run.Length; i++ {
			if t.metadata.counts.get(i) > 0 {
				continue
			}
			if ctx.Err() != nil {
				return 0, context.Cause(ctx)
			}
			if err := v.readRaw(dm.MetadataBlocks(i), b); err != nil {
				return 0, err
			}
			if _, err := parseSuperblock(b, dm.MetadataBlocks(i)); err == nil {
				return dm.MetadataBlocks(i), nil
			}
		}
	}
	return 0, nil
}

// counted is the metadata snapshot that the superblock names, if it is counted.
func (v *View) counted(ctx context.Context, counts *SpaceMap) (dm.MetadataBlocks, error) {
	held := uint64(v.sb.HeldRoot)
	for run, err := range counts.Counts(ctx) {
		if err != nil {
			return 0, err
		}
		if run.Count > 0 && run.Begin <= held && held < run.Begin+run.Length {
			return v.sb.HeldRoot, nil
		}
	}
	return 0, nil
}

// references counts references to metadata blocks without reading the leaves of the mappings, which refer to none.
func (t *tally) references(ctx context.Context) error {
	t.metadata.add(0)
	if err := t.state(ctx, t.v, t.aboveLeaves); err != nil {
		return err
	}
	return t.spaceMaps(ctx)
}

// aboveLeaves goes through a device's mappings. All leaves of a tree are equally deep.
func (t *tally) aboveLeaves(ctx context.Context, root dm.MetadataBlocks) error {
	if root < t.v.sb.MetadataBlocks && t.metadata.counts.get(uint64(root)) > 0 {
		return nil // another device has the same
	}
	var w walker
	height, p := 0, place{block: root, in: everything()}
	for ; ; height++ {
		n, err := t.v.node(ctx, mappingTree(), p, w.buffer(p.depth))
		if err != nil {
			return err
		}
		if n.leaf {
			break
		}
		p = place{n.child(0), n.below(0, p.in), p.depth + 1}
	}
	return t.above(ctx, &w, place{block: root, in: everything()}, height)
}

// above counts the references below a place that is so high above the leaves.
func (t *tally) above(ctx context.Context, w *walker, p place, height int) error {
	if !t.refer(p.block) || height == 0 {
		return nil
	}
	n, err := t.v.node(ctx, mappingTree(), p, w.buffer(p.depth))
	if err != nil {
		return err
	}
	for i := range n.entries {
		if n.leaf {
			break // not a tree of the kernel's; what it has below the others is read as what nothing refers to
		}
		if err := t.above(ctx, w, place{n.child(i), n.below(i, p.in), p.depth + 1}, height-1); err != nil {
			return err
		}
	}
	return nil
}
