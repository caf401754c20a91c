package metadata

import (
	"context"
	"fmt"
	"slices"

	"blockstore.dev/blockstore/dm"
)

// DeviceUsage is what a thin device occupies.
type DeviceUsage struct {
	Device
	// Exclusive is the number of its blocks that no other device maps: deleting it frees them.
	Exclusive dm.Blocks
}

// Shared is the number of its blocks that others map too.
func (u DeviceUsage) Shared() dm.Blocks { return u.Mapped - u.Exclusive }

// Usage is what the thin devices of a pool occupy.
type Usage struct {
	// Devices are in order of their numbers.
	Devices []DeviceUsage
	// Used is the number of data blocks that any device maps, each counted once: the sum of all Exclusive, and Shared.
	Used, Shared dm.Blocks
}

// Usage counts what all devices have alone and what they share. It reads each node of the mapping trees at most twice,
// however many devices share it.
func (v *View) Usage(ctx context.Context) (Usage, error) {
	devices, err := v.Devices(ctx)
	if err != nil {
		return Usage{}, err
	}
	trees, err := v.trees(ctx)
	if err != nil {
		return Usage{}, err
	}
	if err := v.sameDevices(devices, trees); err != nil {
		return Usage{}, err
	}
	refs := v.newReferences()
	for _, t := range trees {
		if err := refs.add(ctx, t.root); err != nil {
			return Usage{}, err
		}
	}
	u := Usage{Used: refs.used, Shared: refs.used}
	for i, d := range devices {
		n, err := refs.exclusive(ctx, trees[i].root)
		if err != nil {
			return Usage{}, err
		}
		if n > d.Mapped {
			return Usage{}, corrupt(v.sb.DetailsRoot, "details tree: device %d is said to map %d blocks and has %d alone", d.ID, d.Mapped, n)
		}
		u.Devices = append(u.Devices, DeviceUsage{Device: d, Exclusive: n})
		u.Shared -= n
	}
	return u, nil
}

func (v *View) sameDevices(devices []Device, trees []tree) error {
	if !slices.EqualFunc(devices, trees, func(d Device, t tree) bool { return d.ID == t.id }) {
		return corrupt(v.sb.DetailsRoot, "details tree and mapping tree have different devices")
	}
	return nil
}

// references counts, saturating, the references to the nodes of mapping trees, and in their leaves those to data
// blocks. A node is read once.
type references struct {
	v           *View
	nodes, data *counts
	used        dm.Blocks // data blocks with any reference
	walker      walker
}

func (v *View) newReferences() *references {
	r := &references{v: v, nodes: newCounts(uint64(v.sb.MetadataBlocks)), data: newCounts(uint64(v.sb.DataBlocks))}
	r.walker = walker{v: v, kind: mappingTree(), enter: r.first, leaf: r.count}
	return r
}

func (r *references) add(ctx context.Context, root dm.MetadataBlocks) error {
	return r.walker.walk(ctx, root)
}

// first counts a reference to a node. One outside of the metadata is read, and that is the error.
func (r *references) first(block dm.MetadataBlocks) bool {
	return block >= r.v.sb.MetadataBlocks || r.nodes.add(uint64(block)) == 0
}

func (r *references) count(n *node) error {
	for i := range n.entries {
		m, err := r.v.unpack(n, i)
		if err != nil {
			return err
		}
		if r.data.add(uint64(m.Data)) == 0 {
			r.used++
		}
	}
	return nil
}

// exclusive counts the data blocks of a tree that have one reference, from nodes that have one.
func (r *references) exclusive(ctx context.Context, root dm.MetadataBlocks) (dm.Blocks, error) {
	var alone dm.Blocks
	w := walker{v: r.v, kind: mappingTree()}
	w.enter = func(block dm.MetadataBlocks) bool {
		return block >= r.v.sb.MetadataBlocks || r.nodes.get(uint64(block)) == 1
	}
	w.leaf = func(n *node) error {
		for i := range n.entries {
			m, err := r.v.unpack(n, i)
			if err != nil {
				return err
			}
			if r.data.get(uint64(m.Data)) == 1 {
				alone++
			}
		}
		return nil
	}
	err := w.walk(ctx, root)
	return alone, err
}

// GroupUsage is what some thin devices occupy together.
type GroupUsage struct {
	// Mapped is the number of data blocks that any of them maps, each counted once.
	Mapped dm.Blocks
	// Exclusive is the number of those that no device outside of the group maps: deleting the group frees them.
	Exclusive dm.Blocks
}

// Shared is the number of the group's blocks that others map too.
func (g GroupUsage) Shared() dm.Blocks { return g.Mapped - g.Exclusive }

// Group counts what the devices together have alone, which is what deleting all of them would free. ErrNotFound when
// one of them does not exist.
func (v *View) Group(ctx context.Context, ids ...dm.DeviceID) (GroupUsage, error) {
	trees, err := v.trees(ctx)
	if err != nil {
		return GroupUsage{}, err
	}
	missing := map[dm.DeviceID]bool{}
	for _, id := range ids {
		missing[id] = true
	}
	others, group := v.newReferences(), v.newReferences()
	for _, t := range trees {
		of := others
		if missing[t.id] {
			of = group
			delete(missing, t.id)
		}
		if err := of.add(ctx, t.root); err != nil {
			return GroupUsage{}, err
		}
	}
	for id := range missing {
		return GroupUsage{}, fmt.Errorf("thin device %d: %w", id, ErrNotFound)
	}
	return GroupUsage{Mapped: group.used, Exclusive: dm.Blocks(group.data.without(others.data))}, nil
}
