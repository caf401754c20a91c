package metadata

import (
	"context"
	"iter"

	"blockstore.dev/blockstore/dm"
)

// ChangeKind says how two thin devices stand to each other in some virtual blocks.
type ChangeKind uint8

const (
	// Different: both map them, to different data blocks.
	Different ChangeKind = iota + 1
	// LeftOnly: the second device does not map them.
	LeftOnly
	// RightOnly: the first device does not map them.
	RightOnly
	// Same: both map them to the same data blocks. Delta leaves it out unless it is asked for.
	Same
)

// String is thin_delta's word.
func (k ChangeKind) String() string {
	switch k {
	case Different:
		return "different"
	case LeftOnly:
		return "left_only"
	case RightOnly:
		return "right_only"
	case Same:
		return "same"
	}
	return "unknown"
}

// Change is a run of virtual blocks of one kind.
type Change struct {
	Kind          ChangeKind
	Begin, Length dm.Blocks
}

// DeltaOptions say what is compared.
type DeltaOptions struct {
	Left, Right dm.DeviceID
	// Same asks for what is the same, too. It takes a walk through all of both devices.
	Same bool
}

// Delta compares two thin devices, block by virtual block, in order. It skips subtrees that both have at the same
// address, so that it takes time in what changed since one became a snapshot of the other, or both of a third. That
// data blocks are the same, or not, says nothing of devices that did not exist at the same time.
//
// After an error, which ErrNotFound is for a device that does not exist, nothing more comes.
func (v *View) Delta(ctx context.Context, o DeltaOptions) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		d := differ{v: v, ctx: ctx, same: o.Same, yield: yield}
		if err := d.compare(o); err != nil && err != errStop {
			yield(Change{}, err)
		}
	}
}

// item is a subtree of some height, 1 for a leaf, or a mapping of height 0 and its data block.
type item struct {
	height int
	place  // a mapping's is its key
	data   dm.Blocks
}

func (i item) key() uint64 { return i.in.low }

// side is what is still to be compared of one device, the next item last.
type side struct {
	items  []item
	buffer []byte
}

func (s *side) next() (item, bool) {
	if len(s.items) == 0 {
		return item{}, false
	}
	return s.items[len(s.items)-1], true
}

func (s *side) drop() { s.items = s.items[:len(s.items)-1] }

type differ struct {
	v           *View
	ctx         context.Context
	same        bool
	left, right side
	run         Change
	yield       func(Change, error) bool
}

func (d *differ) compare(o DeltaOptions) error {
	left, err := d.v.root(d.ctx, o.Left)
	if err != nil {
		return err
	}
	right, err := d.v.root(d.ctx, o.Right)
	if err != nil {
		return err
	}
	if left == right && !d.same {
		return nil
	}
	if err := d.begin(&d.left, left); err != nil {
		return err
	}
	if err := d.begin(&d.right, right); err != nil {
		return err
	}
	for {
		done, err := d.step()
		if err != nil {
			return err
		}
		if done {
			return d.flush()
		}
	}
}

// begin puts a whole tree on a side. Its height, which the first path downwards tells, is what lets trees of unequal
// height meet at equal nodes.
func (d *differ) begin(s *side, root dm.MetadataBlocks) error {
	s.buffer = make([]byte, blockSize)
	p := place{block: root, in: everything()}
	height := 1
	for q := p; ; height++ {
		n, err := d.v.node(d.ctx, mappingTree(), q, s.buffer)
		if err != nil {
			return err
		}
		if n.leaf {
			break
		}
		q = place{n.child(0), n.below(0, q.in), q.depth + 1}
	}
	s.items = []item{{height: height, place: p}}
	return nil
}

// step compares what comes next on both sides, or opens a subtree there.
func (d *differ) step() (done bool, err error) {
	a, isA := d.left.next()
	b, isB := d.right.next()
	switch {
	case !isA && !isB:
		return true, nil
	case isA && isB && a.height > 0 && b.height > 0 && a.block == b.block && !d.same:
		d.left.drop()
		d.right.drop()
		return false, nil
	case isA && a.height > 0 && (!isB || opensFirst(a, b)):
		return false, d.open(&d.left)
	case isB && b.height > 0 && (!isA || a.height > 0 || b.key() <= a.key()):
		return false, d.open(&d.right)
	case isA && (!isB || a.key() < b.key()):
		d.left.drop()
		return false, d.emit(LeftOnly, a)
	case isB && (!isA || b.key() < a.key()):
		d.right.drop()
		return false, d.emit(RightOnly, b)
	}
	d.left.drop()
	d.right.drop()
	if a.data != b.data { // the time is of no account
		return false, d.emit(Different, a)
	}
	return false, d.emit(Same, a)
}

// opensFirst says whether the subtree a is opened before anything is done about b: the higher of two subtrees is, so
// that the other may turn up in it, and one that may hold keys before b's.
func opensFirst(a, b item) bool {
	switch {
	case b.height == 0:
		return a.key() <= b.key()
	case a.height != b.height:
		return a.height > b.height
	}
	return a.key() <= b.key()
}

// open replaces a subtree by what is in its root.
func (d *differ) open(s *side) error {
	it, _ := s.next()
	n, err := d.v.node(d.ctx, mappingTree(), it.place, s.buffer)
	if err != nil {
		return err
	}
	if n.leaf != (it.height == 1) {
		return corrupt(it.block, "node of the mapping tree: its branches have unequal lengths")
	}
	s.drop()
	for i := n.entries - 1; i >= 0; i-- {
		child := item{height: it.height - 1}
		if n.leaf {
			m, err := d.v.unpack(&n, i)
			if err != nil {
				return err
			}
			child.data, child.in = m.Data, span{n.key(i), n.key(i)}
		} else {
			child.place = place{n.child(i), n.below(i, it.in), it.depth + 1}
		}
		s.items = append(s.items, child)
	}
	return nil
}

// emit adds one block to the run, or begins the next one.
func (d *differ) emit(k ChangeKind, it item) error {
	if k == Same && !d.same {
		return nil
	}
	at := dm.Blocks(it.key())
	if d.run.Kind == k && at == d.run.Begin+d.run.Length {
		d.run.Length++
		return nil
	}
	if err := d.flush(); err != nil {
		return err
	}
	d.run = Change{Kind: k, Begin: at, Length: 1}
	return nil
}

func (d *differ) flush() error {
	if d.run.Length > 0 && !d.yield(d.run, nil) {
		return errStop
	}
	d.run = Change{}
	return nil
}
