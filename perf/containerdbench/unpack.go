package main

import (
	"context"
	"time"

	"blockstore.dev/blockstore/perf"
)

// unpackTimes are the parts of a chain's unpacking.
type unpackTimes struct{ prepare, write, commit time.Duration }

func (t unpackTimes) total() time.Duration { return t.prepare + t.write + t.commit }

// unpack makes a chain of n layers as containerd does, and returns their names.
func (s *site) unpack(ctx context.Context, n int, data []byte) (names []string, t unpackTimes, err error) {
	parent := ""
	for i := range n {
		key, name := s.key("extract"), s.key("layer")
		begin := time.Now()
		mounts, err := s.Prepare(ctx, key, parent)
		if err != nil {
			return names, t, err
		}
		prepared := time.Now()
		if err := change(ctx, mounts, fillLayer(i+1, data)); err != nil {
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
		names, t, err := p.main.unpack(ctx, n, p.data)
		if err != nil {
			return err
		}
		flush, err := timed(func() error { return perf.Flush(p.main.dir) })
		if err != nil {
			return err
		}
		row := rowUnpack(n)
		p.add(row, t.total())
		// Parts stand behind their row: the last that is added first stands first.
		p.addPart(row, "and until all of it is on disk", t.total()+flush)
		p.addPart(row, "commit", t.commit)
		p.addPart(row, "mount, write, unmount", t.write)
		p.addPart(row, "prepare", t.prepare)
		if err := p.main.remove(ctx, names); err != nil {
			return err
		}
	}
	return nil
}
