package main

import (
	"context"
	"time"

	"github.com/containerd/containerd/v2/core/snapshots"
)

// unpackTimes are the parts of a chain's unpacking.
type unpackTimes struct{ prepare, write, commit time.Duration }

func (t unpackTimes) total() time.Duration { return t.prepare + t.write + t.commit }

// unpack makes a chain of n layers as containerd does, with the label by which its unpacker
// tells snapshotters what they are for, of what fill writes for each, counted from 1, and
// returns their names.
func (s *site) unpack(ctx context.Context, n int, fill func(layer int) func(root string) error) (names []string, t unpackTimes, err error) {
	parent := ""
	for i := range n {
		key, name := s.key("extract"), s.key("layer")
		begin := time.Now()
		mounts, err := s.Prepare(ctx, key, parent, snapshots.WithLabels(map[string]string{snapshots.LabelSnapshotRef: name}))
		if err != nil {
			return names, t, err
		}
		prepared := time.Now()
		if err := change(ctx, mounts, fill(i+1)); err != nil {
			return names, t, err
		}
		written := time.Now()
		if err := s.Commit(ctx, name, key); err != nil {
			return names, t, err
		}
		t.prepare += prepared.Sub(begin)
		t.write += written.Sub(prepared)
		t.commit += time.Since(written)
		names, parent = append(names, name), name
	}
	return names, t, nil
}

// unpacks makes and removes the chains.
func (p *peer) unpacks(ctx context.Context) error {
	for _, n := range p.o.layers {
		names, t, err := p.main.unpack(ctx, n, func(layer int) func(string) error { return fillLayer(layer, p.data) })
		if err != nil {
			return err
		}
		if err := p.addUnpacked(rowUnpack(n), t); err != nil {
			return err
		}
		if err := p.main.remove(ctx, names); err != nil {
			return err
		}
	}
	return p.unpackImage(ctx)
}
