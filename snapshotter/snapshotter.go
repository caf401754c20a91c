package snapshotter

import (
	"context"
	"fmt"
	"slices"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"

	"blockstore.dev/blockstore/snapshot"
)

// Snapshotter is one scope of a store as containerd's interface, for use in one
// process with the store. Its methods may be called by many goroutines; errors are
// of containerd's classes (package errdefs) and of the store's as well.
type Snapshotter struct {
	store *snapshot.Store
	scope scope
}

var (
	_ snapshots.Snapshotter = (*Snapshotter)(nil)
	_ snapshots.Cleaner     = (*Snapshotter)(nil)
)

// NewSnapshotter makes the snapshotter of the plugin of that name.
func NewSnapshotter(store *snapshot.Store, plugin string) (*Snapshotter, error) {
	s, err := scopeOf(plugin)
	return &Snapshotter{store, s}, err
}

// Prepare makes an active snapshot of the committed one parent, or an empty one,
// and returns its mounts. Label containerd.io/snapshot/max-size limits its size.
func (s *Snapshotter) Prepare(ctx context.Context, key, parent string, opts ...snapshots.Opt) ([]mount.Mount, error) {
	return s.make(ctx, key, parent, opts, s.store.Create)
}

// View makes a snapshot through which nobody can write, and returns its mounts.
func (s *Snapshotter) View(ctx context.Context, key, parent string, opts ...snapshots.Opt) ([]mount.Mount, error) {
	return s.make(ctx, key, parent, opts, s.store.View)
}

type maker func(context.Context, string, snapshot.CreateRequest) (snapshot.Info, error)

// make is undone if its mounts cannot be told: containerd does not know the key
// then, nor remove it before its next collection.
func (s *Snapshotter) make(ctx context.Context, key, parent string, opts []snapshots.Opt, do maker) (_ []mount.Mount, err error) {
	name, err := s.scope.name(key)
	if err != nil {
		return nil, err
	}
	base, err := applied(opts)
	if err != nil {
		return nil, err
	}
	size, err := sizeLimit(base.Labels)
	if err != nil {
		return nil, err
	}
	if _, err := remapping(base.Labels); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	in, err := do(ctx, name, snapshot.CreateRequest{
		Parent: s.scope.parent(parent), Size: size, Labels: base.Labels, Scratch: unpacking(key, base.Labels),
	})
	if err != nil {
		return nil, classify(err)
	}
	ms, err := s.mounts(ctx, in)
	if err != nil {
		undo := s.store.Drop(context.WithoutCancel(ctx), name)
		if undo != nil {
			err = fmt.Errorf("%w; and it stays until it is removed: %w", err, undo)
		}
	}
	return ms, err
}

// applied is what options ask for.
func applied(opts []snapshots.Opt) (snapshots.Info, error) {
	var base snapshots.Info
	for _, o := range opts {
		if err := o(&base); err != nil {
			return base, err
		}
	}
	return base, checkLabels(base.Labels)
}

// Mounts returns the mounts of an active snapshot or a view.
func (s *Snapshotter) Mounts(ctx context.Context, key string) ([]mount.Mount, error) {
	in, err := s.stat(ctx, key)
	if err != nil {
		return nil, err
	}
	if in.Kind == snapshot.KindLayer {
		return nil, fmt.Errorf("snapshot %q is committed and has no mounts: make a view of it: %w", key, errdefs.ErrFailedPrecondition)
	}
	return s.mounts(ctx, in)
}

func (s *Snapshotter) mounts(ctx context.Context, in snapshot.Info) ([]mount.Mount, error) {
	own, err := s.store.Mounts(ctx, in.Name)
	if err != nil {
		return nil, classify(err)
	}
	ids, err := remapping(in.Labels)
	if err != nil {
		return nil, err
	}
	ms := make([]mount.Mount, len(own))
	for i, m := range own {
		ms[i] = mount.Mount{Type: m.Type, Source: m.Source, Options: slices.Clone(m.Options)}
	}
	if n := len(ms); n > 0 && !changed(in.Parent, in.Labels) {
		ms[n-1].Options = append(ms[n-1].Options, ids...)
	}
	return ms, nil
}

// Commit makes an active snapshot a committed one with another name, and the
// labels of opts alone. Its files are durable before.
func (s *Snapshotter) Commit(ctx context.Context, name, key string, opts ...snapshots.Opt) error {
	base, err := applied(opts)
	if err != nil {
		return err
	}
	to, err := s.scope.name(name)
	if err != nil {
		return err
	}
	in, err := s.stat(ctx, key)
	if err != nil {
		return err
	}
	if in.Kind != snapshot.KindContainer {
		return fmt.Errorf("snapshot %q is not active: %w", key, errdefs.ErrFailedPrecondition)
	}
	if parent := s.scope.parent(base.Parent); parent != "" && parent != in.Parent {
		return fmt.Errorf("snapshot %q stands on another parent than %q, and block snapshots cannot be put on a new one: %w", key, base.Parent, errdefs.ErrInvalidArgument)
	}
	_, err = s.store.Freeze(ctx, in.Name, snapshot.FreezeRequest{Name: to, Labels: base.Labels})
	return classify(err)
}

// Remove removes a snapshot without children: from then on it is gone for
// everybody who asks, and its space comes back with the next Cleanup.
func (s *Snapshotter) Remove(ctx context.Context, key string) error {
	name, err := s.scope.name(key)
	if err != nil {
		return err
	}
	return removal(s.store.Drop(ctx, name))
}

// Cleanup gives the space of what was removed back. What is still mounted waits
// for the next one.
func (s *Snapshotter) Cleanup(ctx context.Context) error { return classify(s.store.Sweep(ctx)) }

// Stat describes a snapshot. It reads no more than the catalog.
func (s *Snapshotter) Stat(ctx context.Context, key string) (snapshots.Info, error) {
	in, err := s.stat(ctx, key)
	if err != nil {
		return snapshots.Info{}, err
	}
	return s.info(in), nil
}

func (s *Snapshotter) stat(ctx context.Context, key string) (snapshot.Info, error) {
	name, err := s.scope.name(key)
	if err != nil {
		return snapshot.Info{}, err
	}
	if err := ctx.Err(); err != nil {
		return snapshot.Info{}, classify(err)
	}
	in, err := s.store.Stat(ctx, name)
	if err != nil {
		return in, classify(fmt.Errorf("snapshot %q: %w", key, err))
	}
	return in, nil
}

// info is a snapshot as containerd sees it.
func (s *Snapshotter) info(in snapshot.Info) snapshots.Info {
	out := snapshots.Info{Kind: kind(in.Kind), Labels: in.Labels, Created: in.Created, Updated: in.Updated}
	out.Name, _ = s.scope.key(in.Name)
	out.Parent, _ = s.scope.key(in.Parent)
	return out
}

func kind(k snapshot.SnapshotKind) snapshots.Kind {
	switch k {
	case snapshot.KindContainer:
		return snapshots.KindActive
	case snapshot.KindView:
		return snapshots.KindView
	}
	return snapshots.KindCommitted
}

// Update changes the labels of the snapshot info.Name; see updated.
func (s *Snapshotter) Update(ctx context.Context, info snapshots.Info, paths ...string) (snapshots.Info, error) {
	name, err := s.scope.name(info.Name)
	if err != nil {
		return snapshots.Info{}, err
	}
	_, err = s.store.Relabel(ctx, name, func(old map[string]string) (map[string]string, error) {
		return updated(old, info.Labels, paths)
	})
	if err != nil {
		return snapshots.Info{}, classify(err)
	}
	return s.Stat(ctx, info.Name)
}

// Usage counts what a snapshot occupies without its parent. Inodes are not
// counted: a block snapshot shares them.
func (s *Snapshotter) Usage(ctx context.Context, key string) (snapshots.Usage, error) {
	in, err := s.stat(ctx, key)
	if err != nil {
		return snapshots.Usage{}, err
	}
	u, err := s.store.Usage(ctx, in.Name)
	if err != nil {
		return snapshots.Usage{}, classify(err)
	}
	return snapshots.Usage{Size: max(u.Added, 0)}, nil
}

// Close does nothing: the store is its opener's.
func (s *Snapshotter) Close() error { return nil }
