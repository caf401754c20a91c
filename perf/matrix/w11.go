package matrix

import (
	"context"
	"errors"
	"fmt"

	"blockstore.dev/blockstore/perf"
	"blockstore.dev/blockstore/perf/peers"
	"blockstore.dev/blockstore/snapshot"
)

// metadata is W11: what mapped blocks and empty layers take of the metadata.
func metadata() workload {
	return workload{
		name:   "W11",
		title:  "metadata: what pools and btrfs have of it for each 64 KiB of a new layer's file, and for each of 10, 100 and 1,000 empty layers, made of one layer and never mounted; and our catalog for each of those",
		rounds: steadyRounds, warmsUp: true,
		only: func(p peers.Peer) string {
			if p.Ours() || p.Name == peers.FloorOfBtrfs || p.Name == peers.FloorOfPool {
				return ""
			}
			if lacks := oneOfAKind(p); lacks != "" {
				return lacks
			}
			return "its metadata is not apart from its data"
		},
		prepare: func(ctx context.Context, s *stand) error { return s.Layer(ctx, small, "", fillSmall) },
		round: func(ctx context.Context, s *stand) error {
			if err := s.mapped(ctx); err != nil {
				return err
			}
			return s.emptyLayers(ctx)
		},
	}
}

// blockSize is what W11's blocks are: those of our pools.
const blockSize = 64 << 10

// Rows of W11.
func rowMapped() measure { return row("metadata of a block of 64 KiB") }

func rowEmptyLayer(layers int) measure {
	return scaled("metadata of an empty layer", float64(layers), "layers")
}

func rowCatalog(layers int) measure {
	return scaled("our catalog for a layer", float64(layers), "layers")
}

// emptyCrowds are how many empty layers there are, up to the most.
func (s Scale) emptyCrowds() []int {
	var fit []int
	for _, n := range []int{10, 100, 1000} {
		if n <= s.Layers {
			fit = append(fit, n)
		}
	}
	if len(fit) == 0 {
		fit = []int{s.Layers}
	}
	return fit
}

// mapped has a large layer come and go.
func (s *stand) mapped(ctx context.Context) error {
	before, err := s.withoutSpares(ctx)
	if err != nil {
		return err
	}
	if err := s.largeLayer(ctx, s.scale.FileSize); err != nil {
		return err
	}
	after, err := s.withoutSpares(ctx)
	if err != nil {
		return err
	}
	blocks := s.scale.FileSize / blockSize
	s.record(rowMapped(), perf.Bytes, float64(after.Since(before).Metadata)/float64(blocks))
	return s.Remove(ctx, large)
}

// emptyLayers has them come, and all go.
func (s *stand) emptyLayers(ctx context.Context) error {
	before, err := s.withoutSpares(ctx)
	if err != nil {
		return err
	}
	records, err := s.catalog()
	if err != nil {
		return err
	}
	var names []string
	for _, n := range s.scale.emptyCrowds() {
		for len(names) < n {
			name := s.name("empty")
			if err := errors.Join(s.emptyLayer(ctx, name), ctx.Err()); err != nil {
				return err
			}
			names = append(names, name)
		}
		if err := s.perLayer(ctx, n, before, records); err != nil {
			return err
		}
	}
	return each(names, 1, func(name string) error { return s.Remove(ctx, name) })
}

// emptyLayer makes one: a snapshot in which nothing was written.
func (s *stand) emptyLayer(ctx context.Context, name string) error {
	if err := s.Create(ctx, name, small); err != nil {
		return fmt.Errorf("empty layer: %w", err)
	}
	if ours, ok := s.Store.(*peers.Blockstore); ok {
		_, err := ours.Freeze(ctx, name, snapshot.FreezeRequest{})
		return err
	}
	return nil
}

// perLayer records what each of n layers takes.
func (s *stand) perLayer(ctx context.Context, n int, before peers.Space, records int64) error {
	after, err := s.withoutSpares(ctx)
	if err != nil {
		return err
	}
	s.record(rowEmptyLayer(n), perf.Bytes, float64(after.Since(before).Metadata)/float64(n))
	if !s.peer.Ours() {
		return nil
	}
	now, err := s.catalog()
	s.record(rowCatalog(n), perf.Bytes, float64(now-records)/float64(n))
	return err
}

// catalog is how much of our catalog is in use; 0 for others.
func (s *stand) catalog() (int64, error) {
	if ours, ok := s.Store.(*peers.Blockstore); ok {
		return ours.CatalogBytes()
	}
	return 0, nil
}
