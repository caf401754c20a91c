package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/mount"

	"blockstore.dev/blockstore/perf"
)

// The rows that have parts, counts or targets.
const (
	rowPrepare = "prepare"
	rowMounts  = "mounts"
	rowRemove  = "remove"
	rowCleanup = rowRemove + ": " + partCleanup
	rowBoth    = "prepare and commit, nothing written"
	rowUsage   = "usage, one byte changed"
)

// partOnDisk is with a wait for what a snapshotter leaves to the kernel.
const partOnDisk = "and until all of it is on disk"

// partCleanup is what a removal leaves for the next cleanup, shared out among those that were removed.
const partCleanup = "the cleanup afterwards"

func rowUnpack(layers int) string {
	if layers == 1 {
		return "unpack of 1 layer"
	}
	return fmt.Sprintf("unpack of %d layers", layers)
}

func rowConcurrent(n int) string { return fmt.Sprintf("%d prepares at once, until the last", n) }
func rowCrowd(present int) string {
	return fmt.Sprintf("prepare, %d present", present)
}

// round is everything once. It leaves the sites as it found them, and nothing unwritten.
func (p *peer) round(ctx context.Context) error {
	steps := []struct {
		what string
		run  func(context.Context) error
	}{
		{"prepare, mounts, remove, cleanup", p.lifeCycle},
		{"prepare and commit", p.prepareCommit},
		{"usage", p.usage},
		{"unpack", p.unpacks},
		{"concurrent prepares", p.prepareAtOnce},
		{"prepare among others", p.prepareAmong},
	}
	for _, s := range steps {
		if err := s.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.what, err)
		}
		if err := errors.Join(ctx.Err(), perf.Flush(p.dir)); err != nil {
			return err
		}
	}
	return nil
}

// lifeCycle is what a container costs that nobody writes into.
func (p *peer) lifeCycle(ctx context.Context) error {
	var keys []string
	for range p.o.operations {
		keys = append(keys, p.main.key("one"))
	}
	steps := []struct {
		row string
		do  func(key string) error
	}{
		{rowPrepare, func(key string) error { return second(p.main.Prepare(ctx, key, image)) }},
		{rowMounts, func(key string) error { return second(p.main.Mounts(ctx, key)) }},
		{rowRemove, func(key string) error { return p.main.Remove(ctx, key) }},
	}
	for _, s := range steps {
		for _, key := range keys {
			took, err := timed(func() error { return s.do(key) })
			if err != nil {
				return err
			}
			p.add(s.row, took)
		}
	}
	took, err := timed(func() error { return p.main.cleanUp(ctx) })
	if p.main.leaves() {
		p.addPart(rowRemove, partCleanup, took/time.Duration(len(keys)))
	}
	return err
}

func second(_ []mount.Mount, err error) error { return err }

func (p *peer) prepareCommit(ctx context.Context) error {
	var names []string
	for range p.o.operations {
		key, name := p.main.key("two"), p.main.key("empty")
		prepare, err := timed(func() error { return second(p.main.Prepare(ctx, key, image)) })
		if err != nil {
			return err
		}
		commit, err := timed(func() error { return p.main.Commit(ctx, name, key) })
		if err != nil {
			return err
		}
		p.add(rowBoth, prepare+commit)
		p.addPart(rowBoth, "commit", commit)
		names = append(names, name)
	}
	return p.main.remove(ctx, names)
}

func (p *peer) usage(ctx context.Context) error {
	for range p.o.operations {
		took, err := timed(func() error {
			_, err := p.main.Usage(ctx, changed)
			return err
		})
		if err != nil {
			return err
		}
		p.add(rowUsage, took)
	}
	return nil
}

// prepareAtOnce is what a node does that starts many containers.
func (p *peer) prepareAtOnce(ctx context.Context) error {
	keys, errs := make([]string, p.o.concurrent), make([]error, p.o.concurrent)
	for i := range keys {
		keys[i] = p.main.key("at-once")
	}
	var wg sync.WaitGroup
	begin := time.Now()
	for i, key := range keys {
		wg.Go(func() { errs[i] = second(p.main.Prepare(ctx, key, small)) })
	}
	wg.Wait()
	took := time.Since(begin)
	if err := errors.Join(errs...); err != nil {
		return err
	}
	p.add(rowConcurrent(len(keys)), took)
	return p.main.remove(ctx, keys)
}

// prepareAmong takes the sites in turns, so that what else the machine does meets all
// of them alike.
func (p *peer) prepareAmong(ctx context.Context) error {
	for i := range p.o.operations {
		for j := range p.crowds {
			c := p.crowds[(i+j)%len(p.crowds)]
			key := c.key("among")
			took, err := timed(func() error { return second(c.Prepare(ctx, key, small)) })
			if err != nil {
				return fmt.Errorf("with %d present: %w", c.present, err)
			}
			p.add(rowCrowd(c.present), took)
			if err := c.remove(ctx, []string{key}); err != nil {
				return err
			}
		}
	}
	return nil
}
