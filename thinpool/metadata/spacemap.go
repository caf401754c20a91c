package metadata

import (
	"context"
	"encoding/binary"
	"iter"

	"blockstore.dev/blockstore/dm"
)

// A space map counts references: two bits for each block in bitmaps, where 3 says that the count stands in a tree.
// Linux, persistent-data/dm-space-map-common.h (struct disk_index_entry, disk_metadata_index, disk_bitmap_header).
const (
	bitmapHeader    = 16
	countsPerBitmap = (blockSize - bitmapHeader) * 4
	indexHeader     = 16
	indexEntrySize  = 16
	maxIndexEntries = 255
	inTree          = 3
)

// SpaceMap counts the references to a pool's data blocks, or to its metadata blocks.
type SpaceMap struct {
	// Blocks is how many it counts for, Allocated how many of them have references.
	Blocks, Allocated uint64

	v        *View
	name     string
	root     spaceMapRoot
	metadata bool
}

// DataSpaceMap counts how many leaves refer to each data block: devices that share a leaf count once. ErrNoSpaceMaps
// for a metadata snapshot.
func (v *View) DataSpaceMap() (*SpaceMap, error) {
	return v.spaceMap("data space map", v.sb.data, false)
}

// MetadataSpaceMap counts the references to each metadata block. ErrNoSpaceMaps for a metadata snapshot.
func (v *View) MetadataSpaceMap() (*SpaceMap, error) {
	return v.spaceMap("metadata space map", v.sb.metadata, true)
}

func (v *View) spaceMap(name string, root spaceMapRoot, metadata bool) (*SpaceMap, error) {
	if v.held {
		return nil, ErrNoSpaceMaps
	}
	return &SpaceMap{Blocks: root.blocks, Allocated: root.allocated, v: v, name: name, root: root, metadata: metadata}, nil
}

// CountRun is a run of blocks with the same number of references.
type CountRun struct {
	Begin, Length uint64
	Count         uint32
}

// Counts goes through all blocks, in order, in the longest runs that there are. After an error nothing more comes.
func (s *SpaceMap) Counts(ctx context.Context) iter.Seq2[CountRun, error] {
	return func(yield func(CountRun, error) bool) {
		var run CountRun
		err := s.each(ctx, func(block uint64, count uint32) error {
			if run.Length > 0 && run.Count == count {
				run.Length++
				return nil
			}
			if run.Length > 0 && !yield(run, nil) {
				return errStop
			}
			run = CountRun{Begin: block, Length: 1, Count: count}
			return nil
		})
		switch {
		case err == errStop:
		case err != nil:
			yield(CountRun{}, err)
		case run.Length > 0:
			yield(run, nil)
		}
	}
}

// indexEntry is one bitmap's place and how many of its counts are said to be zero. Where the first of those is, is a hint
// too, which thin_restore writes loosely.
type indexEntry struct {
	block dm.MetadataBlocks
	free  uint32
}

func parseIndexEntry(b []byte) indexEntry {
	le := binary.LittleEndian
	return indexEntry{dm.MetadataBlocks(le.Uint64(b)), le.Uint32(b[8:])}
}

// each gives the count of every block. It reads the bitmaps beside the tree of large counts, each once.
func (s *SpaceMap) each(ctx context.Context, use func(block uint64, count uint32) error) error {
	large, stop := iter.Pull2(s.largeCounts(ctx))
	defer stop()
	var free uint64
	err := s.bitmaps(ctx, func(at uint64, e indexEntry, b []byte) error {
		n, err := s.bitmap(bitmapBlock{e, b, at, min(countsPerBitmap, s.Blocks-at)}, large, use)
		free += n
		return err
	})
	if err != nil {
		return err
	}
	// thin_restore counts a metadata block too many.
	if used := s.Blocks - free; used != s.Allocated && !s.metadata {
		return corrupt(0, "%s: %d blocks are said to be used, the bitmaps have %d", s.name, s.Allocated, used)
	}
	if c, err, more := large(); more && err == nil {
		return corrupt(s.root.counts, "%s: count of block %d, whose bits do not refer to it", s.name, c.Begin)
	} else if err != nil {
		return err
	}
	return nil
}

type bitmapBlock struct {
	entry     indexEntry
	b         []byte
	at, count uint64
}

// bits: in 64-bit words, the high bit of count i at 2i, the low one above it (sm_ll_lookup_bitmap).
func (m bitmapBlock) bits(i uint64) uint32 {
	b := m.b[bitmapHeader+i/4] >> (i % 4 * 2)
	return uint32(b&1<<1 | b>>1&1)
}

// bitmap gives the counts of one bitmap and compares them with what the index says of it.
func (s *SpaceMap) bitmap(m bitmapBlock, large func() (CountRun, error, bool), use func(uint64, uint32) error) (free uint64, err error) {
	for i := range m.count {
		count := m.bits(i)
		switch {
		case count == 0:
			free++
		case count == inTree:
			c, err, more := large()
			if err != nil {
				return free, err
			}
			if !more || c.Begin != m.at+i {
				return free, corrupt(m.entry.block, "%s: block %d has its count in the tree, where there is none", s.name, m.at+i)
			}
			count = c.Count
		}
		if err := use(m.at+i, count); err != nil {
			return free, err
		}
	}
	// Of a bitmap that the device's end cuts short the kernel counts all as free (sm_ll_extend).
	if m.count == countsPerBitmap && free != uint64(m.entry.free) {
		return free, corrupt(m.entry.block, "%s: %d blocks from %d on are free, the index says %d", s.name, free, m.at, m.entry.free)
	}
	return free, nil
}

// largeCounts goes through the tree of counts that two bits do not hold.
func (s *SpaceMap) largeCounts(ctx context.Context) iter.Seq2[CountRun, error] {
	return func(yield func(CountRun, error) bool) {
		w := walker{v: s.v, kind: countTree(), leaf: func(n *node) error {
			for i := range n.entries {
				count := binary.LittleEndian.Uint32(n.value(i))
				if count < inTree {
					return corrupt(n.block, "%s: block %d has a count of %d in the tree", s.name, n.key(i), count)
				}
				if !yield(CountRun{n.key(i), 1, count}, nil) {
					return errStop
				}
			}
			return nil
		}}
		if err := w.walk(ctx, s.root.counts); err != nil && err != errStop {
			yield(CountRun{}, err)
		}
	}
}

// bitmaps reads all bitmaps, in order.
func (s *SpaceMap) bitmaps(ctx context.Context, use func(at uint64, e indexEntry, b []byte) error) error {
	b := make([]byte, blockSize)
	var next uint64
	one := func(e indexEntry) error {
		if err := s.v.read(ctx, e.block, kindBitmap, b); err != nil {
			return err
		}
		if err := use(next*countsPerBitmap, e, b); err != nil {
			return err
		}
		next++
		return nil
	}
	want := (s.Blocks + countsPerBitmap - 1) / countsPerBitmap
	if s.metadata {
		return s.index(ctx, want, one)
	}
	w := walker{v: s.v, kind: bitmapTree(), leaf: func(n *node) error {
		for i := range n.entries {
			if n.key(i) != next || next >= want {
				return corrupt(n.block, "%s: bitmap %d where %d of %d is next", s.name, n.key(i), next, want)
			}
			if err := one(parseIndexEntry(n.value(i))); err != nil {
				return err
			}
		}
		return nil
	}}
	if err := w.walk(ctx, s.root.bitmaps); err != nil {
		return err
	}
	if next != want {
		return corrupt(s.root.bitmaps, "%s: %d bitmaps instead of %d", s.name, next, want)
	}
	return nil
}

// index reads the metadata space map's bitmaps, which one block lists.
func (s *SpaceMap) index(ctx context.Context, want uint64, use func(indexEntry) error) error {
	b := make([]byte, blockSize)
	if err := s.v.read(ctx, s.root.bitmaps, kindIndex, b); err != nil {
		return err
	}
	if want > maxIndexEntries {
		return corrupt(s.root.bitmaps, "%s: %d bitmaps, %d are possible", s.name, want, maxIndexEntries)
	}
	for i := range want {
		if err := use(parseIndexEntry(b[indexHeader+indexEntrySize*i:])); err != nil {
			return err
		}
	}
	return nil
}
