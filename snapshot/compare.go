package snapshot

import (
	"context"
	"errors"
	"io"
	"sync"

	"blockstore.dev/blockstore/snapshot/failpoint"
	"blockstore.dev/blockstore/snapshot/layertar"
)

// Comparison shows two snapshots to this process until Close. Neither can be
// removed meanwhile, unless it is the copy of a container that is compared. Its
// methods may be called one after the other.
type Comparison struct {
	// Info is the snapshot that is compared.
	Info Info

	lower, upper string
	opts         layertar.CompareOptions
	undo         []func() error
}

// Compare begins a comparison, which the caller must close.
func (s *Store) Compare(ctx context.Context, r CompareRequest) (_ *Comparison, err error) {
	c := &Comparison{}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	first, second := r.Below, r.Name // a parent's lock comes before its child's
	if below, err := s.Stat(ctx, r.Below); err == nil {
		if upsideDown, err := s.standsOn(below, r.Name); err == nil && upsideDown {
			first, second = second, first
		}
	}
	locked := map[string]func(){}
	for _, name := range []string{first, second} {
		if locked[name] == nil {
			locked[name] = sync.OnceFunc(s.names.read(name))
			c.undo = append(c.undo, func() error { locked[name](); return nil })
		}
	}
	if c.Info, err = s.Stat(ctx, r.Name); err != nil {
		return nil, err
	}
	if r.Below != "" {
		if err := c.showLower(ctx, s, r); err != nil {
			return nil, err
		}
	}
	if err := c.show(ctx, s, c.Info, r.Instant, &c.upper); err != nil {
		return nil, err
	}
	if r.Instant && c.Info.Kind == KindContainer {
		locked[r.Name]() // whoever takes long to read the copy is in nobody's way
	}
	return c, nil
}

// show shows a snapshot, or a sealed copy of a container if it has to be one instant.
func (c *Comparison) show(ctx context.Context, s *Store, in Info, instant bool, dir *string) error {
	if instant && in.Kind == KindContainer {
		return c.showInstant(ctx, s, in.Volume, dir)
	}
	at, release, err := s.Use(ctx, in.Name)
	if err != nil {
		return err
	}
	*dir = at
	c.undo = append(c.undo, release)
	return nil
}

// showLower shows the snapshot below. Files that it has in common with what stands
// on it are known by their inodes.
func (c *Comparison) showLower(ctx context.Context, s *Store, r CompareRequest) error {
	below, err := s.Stat(ctx, r.Below)
	if err != nil {
		return err
	}
	ancestor, err := s.standsOn(c.Info, r.Below)
	if err != nil {
		return err
	}
	if ancestor {
		c.opts = layertar.CompareOptions{Snapshots: true, FrozenAt: below.Created}
	}
	return c.show(ctx, s, below, r.Instant, &c.lower)
}

// standsOn says whether a snapshot has another one below it.
func (s *Store) standsOn(in Info, below string) (bool, error) {
	err := s.cat.view(func(t *tx) (err error) {
		for in.Parent != "" && in.Parent != below {
			if in, err = t.snapshot(in.Parent); err != nil {
				return err
			}
		}
		return nil
	})
	return in.Parent == below, err
}

// showInstant shows a sealed copy of a container. A process that dies leaves it as a
// volume that the catalog does not know, see the next open.
func (c *Comparison) showInstant(ctx context.Context, s *Store, from Volume, dir *string) error {
	ids, err := s.ids.take(ctx, 1)
	if err != nil {
		return err
	}
	c.undo = append(c.undo, func() error { return s.abandon(ctx, ids) })
	if err := s.driver.Create(ctx, ids[0], CreateOptions{Origin: from, Size: from.Size}); err != nil {
		return noSpace(err)
	}
	failpoint.Hit("compare.volume")
	v := Volume{ID: ids[0], Origin: from.ID, Size: from.Size}
	if err := s.driver.Seal(ctx, v); err != nil {
		return noSpace(err)
	}
	v.Sealed = true
	at, release, err := s.vols.use(ctx, v)
	if err != nil {
		return err
	}
	*dir = at
	c.undo = append(c.undo, release)
	return nil
}

// Close ends the comparison. It may be called twice.
func (c *Comparison) Close() error {
	var errs []error
	for i := len(c.undo) - 1; i >= 0; i-- {
		errs = append(errs, c.undo[i]())
	}
	c.undo = nil
	return errors.Join(errs...)
}

// Changes lists the differences, sorted by path.
func (c *Comparison) Changes(ctx context.Context) ([]layertar.Change, error) {
	return layertar.Changes(ctx, c.lower, c.upper, c.opts)
}

// WriteTar writes the layer tar that makes the one of the other.
func (c *Comparison) WriteTar(ctx context.Context, w io.Writer, o TarOptions) (layertar.Diffed, error) {
	return layertar.Diff(ctx, c.lower, c.upper, w, layertar.DiffOptions{CompareOptions: c.opts, Owners: o.Owners, Latest: o.Latest})
}

// Size sums the sizes of the files that were added or changed, see layertar.Size.
func (c *Comparison) Size(ctx context.Context) (int64, error) {
	return layertar.Size(ctx, c.lower, c.upper, c.opts)
}
