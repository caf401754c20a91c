package btrfsvol

import (
	"errors"
	"fmt"
	"math"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/ioctl"
)

// Sizes of a tree search's buffer, in words of eight bytes: what it begins with,
// and what it may grow to for one large item (a leaf is 64 KiB at most).
const (
	searchWords    = 64 << 10 / 8
	maxSearchWords = 1 << 20 / 8
)

// A key orders the items of a btrfs tree.
type key struct {
	object uint64
	kind   uint32
	offset uint64
}

// next is the key that follows k, false for the last one.
func (k key) next() (key, bool) {
	switch {
	case k.offset < math.MaxUint64:
		k.offset++
	case k.kind < math.MaxUint8:
		k.kind, k.offset = k.kind+1, 0
	case k.object < math.MaxUint64:
		k = key{object: k.object + 1}
	default:
		return k, false
	}
	return k, true
}

// A span is one range of keys of one tree.
type span struct {
	tree uint64
	from key
	to   key
	// since skips leaves that no transaction from this one on has touched. Items of
	// a touched leaf all come, changed or not.
	since TransactionID
}

// search calls visit with each item of the span, in order. The item's data is
// valid during the call only.
func (fs *FS) search(s span, visit func(ioctl.BtrfsSearchItem) error) error {
	buffer := make([]uint64, searchWords)
	for from, more := s.from, true; more; {
		items, needed, err := ioctl.BtrfsTreeSearch(fs.fd, s.searchKey(from), buffer)
		if errors.Is(err, unix.EOVERFLOW) && len(buffer) < maxSearchWords {
			buffer = make([]uint64, min(maxSearchWords, max(2*len(buffer), int(min(needed, maxSearchWords*8)/8+64))))
			continue
		}
		if err != nil {
			return wrap(err, "search tree %d", s.tree)
		}
		if len(items) == 0 {
			return nil
		}
		for _, item := range items {
			if err := visit(item); err != nil {
				return err
			}
		}
		last := items[len(items)-1]
		from, more = key{last.Objectid, last.Type, last.Offset}.next()
	}
	return nil
}

func (s span) searchKey(from key) *ioctl.BtrfsSearchKey {
	return &ioctl.BtrfsSearchKey{
		TreeID:      s.tree,
		MinObjectid: from.object,
		MaxObjectid: s.to.object,
		MinType:     from.kind,
		MaxType:     s.to.kind,
		MinOffset:   from.offset,
		MaxOffset:   s.to.offset,
		MinTransid:  uint64(s.since),
		MaxTransid:  math.MaxUint64,
		NrItems:     math.MaxUint32,
	}
}

// itemsOf is the span of one object's items of one type.
func itemsOf(tree, object uint64, kind uint32) span {
	return span{tree: tree, from: key{object, kind, 0}, to: key{object, kind, math.MaxUint64}}
}

func corrupt(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrCorrupt, err)
}
