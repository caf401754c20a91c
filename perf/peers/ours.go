package peers

import (
	"context"
	"errors"
	"path/filepath"

	"blockstore.dev/blockstore/perf"
	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/btrfs"
	"blockstore.dev/blockstore/snapshot/thin"
)

// Blockstore is blockstore's own store, with what only it can do.
type Blockstore struct {
	*snapshot.Store
	open snapshot.StoreOptions
}

func openOursOnBtrfs(ctx context.Context, s *Site) (Store, error) {
	root, err := s.fileSystem(ctx, "btrfs")
	if err != nil {
		return nil, err
	}
	return openOurs(ctx, s, btrfs.Kind{}, snapshot.InitOptions{Root: filepath.Join(root, "store")})
}

// openOursOnPool has the pool's two files beside the file system of the store's root.
func openOursOnPool(ctx context.Context, s *Site) (Store, error) {
	root, err := s.fileSystem(ctx, "ext4")
	if err != nil {
		return nil, err
	}
	data, metadata, err := perf.LoopFiles(ctx, s.Dir, s.DiskSize)
	if err != nil {
		return nil, err
	}
	s.uses(data.Path())
	s.uses(metadata.Path())
	// Between making the store and opening it nobody else holds them.
	s.Undo.Add("the pool's loop devices", func() error { return errors.Join(data.Close(), metadata.Close()) })
	b, err := openOurs(ctx, s, thin.Kind{}, snapshot.InitOptions{
		Root: filepath.Join(root, "store"), DataDevice: data.Path(), MetadataDevice: metadata.Path(),
	})
	if err == nil {
		s.accounts = append(s.accounts, account{space: b.space})
	}
	return b, err
}

func openOurs(ctx context.Context, s *Site, kind snapshot.Kind, o snapshot.InitOptions) (*Blockstore, error) {
	o.BaseSize = s.VolumeSize
	if err := snapshot.Init(ctx, kind, o, "for a benchmark"); err != nil {
		return nil, err
	}
	b := &Blockstore{open: snapshot.StoreOptions{Root: o.Root, Kinds: []snapshot.Kind{kind}}}
	s.Undo.Add("the store at "+o.Root, func() error {
		back, cancel := perf.Undoing()
		defer cancel()
		return snapshot.Destroy(back, b.open)
	})
	s.Undo.Add("the store's opener", func() error {
		back, cancel := perf.Undoing()
		defer cancel()
		return b.close(back)
	})
	return b, b.Reopen(ctx)
}

// Reopen closes the store and opens it again, as `blockstore serve` opens it.
func (b *Blockstore) Reopen(ctx context.Context) error {
	if err := b.close(ctx); err != nil {
		return err
	}
	store, err := snapshot.Open(ctx, b.open)
	if err != nil {
		return err
	}
	store.KeepSpares()
	b.Store = store
	return nil
}

func (b *Blockstore) close(ctx context.Context) error {
	if b.Store == nil {
		return nil
	}
	err := b.Store.Close(ctx)
	b.Store = nil
	return err
}

// Layer fills a container, and makes a layer of it.
func (b *Blockstore) Layer(ctx context.Context, name, parent string, fill func(string) error) error {
	if err := b.Create(ctx, name, parent); err != nil {
		return err
	}
	dir, err := b.Mount(ctx, name)
	if err != nil {
		return err
	}
	if err := errors.Join(fill(dir), b.Unmount(ctx, name)); err != nil {
		return err
	}
	_, err = b.Freeze(ctx, name, snapshot.FreezeRequest{})
	return err
}

// Create makes a container.
func (b *Blockstore) Create(ctx context.Context, name, layer string) error {
	_, err := b.Store.Create(ctx, name, snapshot.CreateRequest{Parent: layer})
	return err
}

// RemoveMany is `blockstore rm` of many.
func (b *Blockstore) RemoveMany(ctx context.Context, names []string) error {
	return errors.Join(b.RemoveAll(ctx, names...)...)
}

// Settle waits for the removals in the background.
func (b *Blockstore) Settle(context.Context) error {
	b.WaitSwept()
	return nil
}
