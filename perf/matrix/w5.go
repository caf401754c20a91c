package matrix

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"blockstore.dev/blockstore/perf"
	"blockstore.dev/blockstore/perf/peers"
)

// small is a layer with one file of 4 KiB.
const small = "small"

func fillSmall(root string) error { return fillRandom(filepath.Join(root, "file"), 4<<10, 1) }

// lifeCycle is W5: what a container costs that nobody writes into, with few and many
// layers in the store.
func lifeCycle() workload {
	return workload{
		name:    "W5",
		title:   "life cycle: create a container, mount it, look at one file, unmount, remove, with 1, 100 and 1,000 layers in the store; each size is a store of its own",
		counted: once,
		prepare: crowds,
		round: func(ctx context.Context, s *stand) error {
			// The crowds take turns, so that what else the machine does meets all of them alike.
			for i := range s.scale.Operations {
				for j := range s.crowds {
					if err := s.live(ctx, s.crowds[(i+j)%len(s.crowds)]); err != nil {
						return err
					}
				}
			}
			return nil
		},
	}
}

// crowds makes a store for each number of layers.
func crowds(ctx context.Context, s *stand) error {
	for _, n := range s.scale.crowds() {
		if err := s.crowd(ctx, n); err != nil {
			return fmt.Errorf("with %d layers: %w", n, err)
		}
	}
	return nil
}

// crowdOf is a store with that many layers.
type crowdOf struct {
	peers.Store
	layers int
}

// crowd makes a store with n layers: the stand's own for the least, or one at a site
// beside it.
func (s *stand) crowd(ctx context.Context, n int) error {
	store, site := s.Store, s.site
	if len(s.crowds) > 0 {
		var err error
		if site, err = s.site.Beside(fmt.Sprint("crowd-", n)); err != nil {
			return err
		}
		if store, err = s.peer.Open(ctx, site); err != nil {
			return err
		}
	}
	if err := store.Layer(ctx, small, "", fillSmall); err != nil {
		return err
	}
	for i := 1; i < n; i++ {
		err := store.Layer(ctx, fmt.Sprint("layer-", i), small, func(root string) error {
			return fillRandom(filepath.Join(root, "other"), 4<<10, byte(i))
		})
		if err := errors.Join(err, ctx.Err()); err != nil {
			return err
		}
	}
	s.crowds = append(s.crowds, crowdOf{store, n})
	return perf.Flush(site.Dir)
}

// Rows of W5. Each crowd has those of creation and of all together.
func rowCreate(layers int) measure { return scaled("create", float64(layers), "layers") }

func rowLifeCycle(layers int) measure { return scaled("whole life cycle", float64(layers), "layers") }

// live is one container's life.
func (s *stand) live(ctx context.Context, c crowdOf) error {
	name := s.name("life")
	var dir string
	var whole time.Duration
	steps := []struct {
		m  measure
		do func() error
	}{
		{rowCreate(c.layers), func() error { return c.Create(ctx, name, small) }},
		{row("mount"), func() (err error) { dir, err = c.Mount(ctx, name); return err }},
		{row("first stat"), func() error { _, err := os.Stat(filepath.Join(dir, "file")); return err }},
		{row("unmount"), func() error { return c.Unmount(ctx, name) }},
		{row("remove"), func() error { return c.Remove(ctx, name) }},
	}
	for i, step := range steps {
		// The steps between are the same in every crowd: the first crowd's are enough.
		record := i == 0 || c.layers == s.crowds[0].layers
		took, err := s.tookIf(record, step.m, step.do)
		if err != nil {
			return err
		}
		whole += took
		if i == 0 && record && c.layers == s.crowds[0].layers {
			begin := time.Now()
			if err := perf.Flush(s.site.Dir); err != nil {
				return err
			}
			s.part(step.m, "and until it is on disk", perf.Seconds, (took + time.Since(begin)).Seconds())
		}
	}
	s.record(rowLifeCycle(c.layers), perf.Seconds, whole.Seconds())
	return nil
}

// tookIf is took, or only the time.
func (s *stand) tookIf(record bool, m measure, do func() error) (time.Duration, error) {
	if record {
		return s.took(m, do)
	}
	begin := time.Now()
	err := do()
	return time.Since(begin), err
}
