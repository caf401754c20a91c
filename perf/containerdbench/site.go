package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"

	"blockstore.dev/blockstore/perf"
	"blockstore.dev/blockstore/snapshot"
)

// site is a snapshotter with storage of its own.
type site struct {
	snapshots.Snapshotter
	o          options
	undo       *perf.Undo
	name       string // the kind's
	dir        string // everything of this site's
	kernelName string // for what the kernel has a name for
	store      *snapshot.Store
	keys       int // given out
}

// openSite makes a site of the named kind in a new directory below dir; what tells it
// from the kind's other sites.
func openSite(ctx context.Context, o options, u *perf.Undo, dir, name, what string) (*site, error) {
	s := &site{
		o: o, undo: u, name: name, dir: filepath.Join(dir, what),
		kernelName: fmt.Sprintf("bstest-containerdbench-%d-%s", os.Getpid(), what),
	}
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		return nil, err
	}
	var err error
	if s.Snapshotter, err = kindOf(name).open(ctx, s); err != nil {
		return nil, fmt.Errorf("preparing %s: %w", name, err)
	}
	return s, nil
}

// key is one that this site never had.
func (s *site) key(what string) string {
	s.keys++
	return fmt.Sprintf("%s-%d", what, s.keys)
}

// change performs a snapshot's mounts, as containerd does, while do changes its files.
func change(ctx context.Context, mounts []mount.Mount, do func(root string) error) error {
	return mount.WithTempMount(ctx, mounts, do)
}

// layer makes a committed snapshot with what fill writes.
func (s *site) layer(ctx context.Context, name, parent string, fill func(root string) error) error {
	key := s.key("filling")
	mounts, err := s.Prepare(ctx, key, parent)
	if err != nil {
		return err
	}
	if err := change(ctx, mounts, fill); err != nil {
		return err
	}
	return s.Commit(ctx, name, key)
}

// remove removes snapshots, the last first, with what they leave to clean up.
func (s *site) remove(ctx context.Context, keys []string) error {
	for i := len(keys) - 1; i >= 0; i-- {
		if err := s.Remove(ctx, keys[i]); err != nil {
			return err
		}
	}
	return s.cleanUp(ctx)
}

// leaves says whether removals leave something to clean up.
func (s *site) leaves() bool {
	_, ok := s.Snapshotter.(snapshots.Cleaner)
	return ok
}

// cleanUp does what removals left to do, if they leave anything.
func (s *site) cleanUp(ctx context.Context) error {
	if c, ok := s.Snapshotter.(snapshots.Cleaner); ok {
		return c.Cleanup(ctx)
	}
	return nil
}
