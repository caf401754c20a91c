package metadata

import (
	"context"
	"iter"

	"blockstore.dev/blockstore/dm"
)

// Alone goes through what a device maps and no other does, which deleting it frees, in order of virtual blocks and in
// runs of blocks that follow each other in the device. It reads the nodes that only this device has, and the bitmaps that
// count them and their blocks: what is shared takes no time, however large it is. While a metadata snapshot is held, what
// hangs from that too is none of it.
//
// After an error nothing more comes: ErrNotFound for a device that does not exist, ErrNoSpaceMaps for a metadata snapshot.
func (v *View) Alone(ctx context.Context, id dm.DeviceID) iter.Seq2[Range, error] {
	return func(yield func(Range, error) bool) {
		err := v.alone(ctx, id, func(r Range) bool { return yield(r, nil) })
		if err != nil && err != errStop {
			yield(Range{}, err)
		}
	}
}

// Range is a run of a thin device's virtual blocks.
type Range struct{ Begin, Length dm.Blocks }

func (v *View) alone(ctx context.Context, id dm.DeviceID, use func(Range) bool) error {
	nodes, err := v.MetadataSpaceMap()
	if err != nil {
		return err
	}
	data, err := v.DataSpaceMap()
	if err != nil {
		return err
	}
	root, err := v.root(ctx, id)
	if err != nil {
		return err
	}
	ofNodes, ofData := bitmapReader{s: nodes}, bitmapReader{s: data}
	var run Range
	var failed error
	w := walker{v: v, kind: mappingTree()}
	w.enter = func(block dm.MetadataBlocks) bool {
		if failed != nil {
			return false
		}
		var n uint32
		n, failed = ofNodes.count(ctx, uint64(block))
		return failed == nil && n == 1
	}
	w.leaf = func(n *node) error {
		for i := range n.entries {
			m, err := v.unpack(n, i)
			if err != nil {
				return err
			}
			references, err := ofData.count(ctx, uint64(m.Data))
			switch {
			case err != nil:
				return err
			case references != 1:
				continue
			case run.Length > 0 && m.Begin == run.Begin+run.Length:
				run.Length++
				continue
			case run.Length > 0 && !use(run):
				return errStop
			}
			run = Range{Begin: m.Begin, Length: 1}
		}
		return nil
	}
	if err := w.walk(ctx, root); err != nil {
		return err
	}
	if failed == nil && run.Length > 0 {
		use(run)
	}
	return failed
}

// bitmapReader looks counts up, one by one, and remembers the bitmap that it read last.
type bitmapReader struct {
	s    *SpaceMap
	have bool
	nth  uint64
	b    []byte
}

// count is the number of a block's references, where 3 is that or more.
func (r *bitmapReader) count(ctx context.Context, block uint64) (uint32, error) {
	if block >= r.s.Blocks {
		return 0, corrupt(dm.MetadataBlocks(r.s.root.bitmaps), "%s: block %d of %d", r.s.name, block, r.s.Blocks)
	}
	if nth := block / countsPerBitmap; !r.have || r.nth != nth {
		if err := r.read(ctx, nth); err != nil {
			return 0, err
		}
	}
	return bitmapBlock{b: r.b}.bits(block % countsPerBitmap), nil
}

func (r *bitmapReader) read(ctx context.Context, nth uint64) error {
	r.have = false
	if r.b == nil {
		r.b = make([]byte, blockSize)
	}
	v := r.s.v
	var entry indexEntry
	if r.s.metadata {
		if err := v.read(ctx, r.s.root.bitmaps, kindIndex, r.b); err != nil {
			return err
		}
		if nth >= maxIndexEntries {
			return corrupt(r.s.root.bitmaps, "%s: bitmap %d, %d are possible", r.s.name, nth, maxIndexEntries)
		}
		entry = parseIndexEntry(r.b[indexHeader+indexEntrySize*nth:])
	} else {
		value, err := v.lookup(ctx, bitmapTree(), r.s.root.bitmaps, nth)
		if err != nil {
			return err
		}
		if value == nil {
			return corrupt(r.s.root.bitmaps, "%s: bitmap %d is missing", r.s.name, nth)
		}
		entry = parseIndexEntry(value)
	}
	if err := v.read(ctx, entry.block, kindBitmap, r.b); err != nil {
		return err
	}
	r.have, r.nth = true, nth
	return nil
}
