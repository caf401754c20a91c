package peers

import (
	"context"
	"errors"
	"path/filepath"

	"blockstore.dev/blockstore/btrfsvol"
	"blockstore.dev/blockstore/perf"
)

// subvolumes are those of a btrfs file system.
type subvolumes struct {
	root string
	ops  subvolumeOps
}

// subvolumeOps are what a floor and a command line do differently. Names are below
// the root.
type subvolumeOps interface {
	create(ctx context.Context, name string) error
	snapshot(ctx context.Context, source, name string) error
	remove(ctx context.Context, names ...string) error
}

func (b subvolumes) path(name string) string { return filepath.Join(b.root, name) }

func (b subvolumes) Layer(ctx context.Context, name, parent string, fill func(string) error) error {
	var err error
	if parent == "" {
		err = b.ops.create(ctx, name)
	} else {
		err = b.ops.snapshot(ctx, parent, name)
	}
	if err != nil {
		return err
	}
	return errors.Join(fill(b.path(name)), written(b.root))
}

func (b subvolumes) Create(ctx context.Context, name, layer string) error {
	return b.ops.snapshot(ctx, layer, name)
}

func (b subvolumes) Mount(_ context.Context, name string) (string, error) { return b.path(name), nil }
func (b subvolumes) Unmount(context.Context, string) error                { return nil }
func (b subvolumes) Remove(ctx context.Context, name string) error        { return b.ops.remove(ctx, name) }

// RemoveMany is one command where it is the command line.
func (b subvolumes) RemoveMany(ctx context.Context, names []string) error {
	return b.ops.remove(ctx, names...)
}

// btrfsIoctls are the kernel's calls.
type btrfsIoctls struct{ fs *btrfsvol.FS }

func openBtrfsFloor(ctx context.Context, s *Site) (Store, error) {
	root, err := s.fileSystem(ctx, "btrfs")
	if err != nil {
		return nil, err
	}
	fs, err := btrfsvol.Open(root)
	if err != nil {
		return nil, err
	}
	s.Undo.Add("what is open at "+root, fs.Close)
	return subvolumes{root, btrfsIoctls{fs}}, nil
}

func (b btrfsIoctls) create(_ context.Context, name string) error {
	return b.fs.Create(name, btrfsvol.CreateOptions{})
}

func (b btrfsIoctls) snapshot(_ context.Context, source, name string) error {
	return b.fs.Snapshot(source, name, btrfsvol.CreateOptions{})
}

func (b btrfsIoctls) remove(_ context.Context, names ...string) error {
	for _, name := range names {
		id, _, err := b.fs.Lookup(name)
		if err != nil {
			return err
		}
		if _, err := b.fs.Delete(id); err != nil {
			return err
		}
	}
	return nil
}

// btrfsProgs is the command line.
type btrfsProgs struct{ root string }

func openBtrfsProgs(ctx context.Context, s *Site) (Store, error) {
	root, err := s.fileSystem(ctx, "btrfs")
	return subvolumes{root, btrfsProgs{root}}, err
}

func (b btrfsProgs) run(ctx context.Context, verb string, names ...string) error {
	args := []string{"-q", "subvolume", verb}
	for _, name := range names {
		args = append(args, filepath.Join(b.root, name))
	}
	_, err := perf.Output(ctx, "btrfs", args...)
	return err
}

func (b btrfsProgs) create(ctx context.Context, name string) error { return b.run(ctx, "create", name) }

func (b btrfsProgs) remove(ctx context.Context, names ...string) error {
	return b.run(ctx, "delete", names...)
}

func (b btrfsProgs) snapshot(ctx context.Context, source, name string) error {
	return b.run(ctx, "snapshot", source, name)
}
