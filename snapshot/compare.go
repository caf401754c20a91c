package snapshot

import (
	"context"
	"errors"
	"fmt"
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
	if err := c.showBoth(ctx, s, r); err != nil {
		return nil, err
	}
	if r.Instant && c.Info.Kind == KindContainer {
		locked[r.Name]() // whoever takes long to read the copy is in nobody's way
	}
	return c, nil
}

// showBoth shows both sides. Files that a snapshot has in common with what it stands
// on are known by their inodes, and by the driver's account of what was written.
func (c *Comparison) showBoth(ctx context.Context, s *Store, r CompareRequest) (err error) {
	var below Info
	var lower, upper Volume
	ancestor := false
	if r.Below != "" {
		if below, err = s.Stat(ctx, r.Below); err != nil {
			return err
		}
		if ancestor, err = s.standsOn(c.Info, r.Below); err != nil {
			return err
		}
		if c.lower, lower, err = c.show(ctx, s, below, r.Instant); err != nil {
			return err
		}
	}
	if c.upper, upper, err = c.show(ctx, s, c.Info, r.Instant); err != nil || !ancestor {
		return err
	}
	c.opts = layertar.CompareOptions{Snapshots: true, Since: since(below, c.Info)}
	c.opts.Lineage, err = s.track(ctx, lower, c.lower, c.opts.Since, c.Info, upper)
	failpoint.Hit("compare.tracked")
	return err
}

// show shows a snapshot, or a sealed copy of a container if it has to be one instant.
func (c *Comparison) show(ctx context.Context, s *Store, in Info, instant bool) (dir string, v Volume, err error) {
	if instant && in.Kind == KindContainer {
		if v, err = c.copy(ctx, s, in.Volume); err != nil {
			return "", v, err
		}
	} else if _, v, err = s.volume(ctx, in.Name); err != nil {
		return "", v, err
	}
	dir, release, err := s.vols.use(ctx, v)
	if err != nil {
		return "", v, fmt.Errorf("showing %s %q: %w", in.Kind, in.Name, err)
	}
	c.undo = append(c.undo, release)
	return dir, v, nil
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

// copy makes a sealed copy of a container. A process that dies leaves it as a volume
// that the catalog does not know, see the next open.
func (c *Comparison) copy(ctx context.Context, s *Store, from Volume) (Volume, error) {
	ids, err := s.ids.take(ctx, 1)
	if err != nil {
		return Volume{}, err
	}
	c.undo = append(c.undo, func() error { return s.abandon(ctx, ids) })
	v := Volume{ID: ids[0], Origin: from.ID, Size: from.Size}
	if err := s.driver.Create(ctx, v.ID, CreateOptions{Origin: from, Size: from.Size}); err != nil {
		return v, noSpace(err)
	}
	failpoint.Hit("compare.volume")
	if err := s.driver.Seal(ctx, v); err != nil {
		return v, noSpace(err)
	}
	v.Sealed = true
	return v, nil
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
