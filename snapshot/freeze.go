package snapshot

import (
	"context"
	"fmt"
	"time"

	"blockstore.dev/blockstore/snapshot/failpoint"
)

// mayBearChildren says why nothing can be made on top of a snapshot. freeze lets
// containers become layers for that.
func (in Info) mayBearChildren(freeze bool) error {
	switch {
	case in.Kind == KindLayer:
		return nil
	case in.Kind == KindContainer && freeze && !in.Filling:
		return nil
	case in.Kind == KindContainer && freeze:
		return fmt.Errorf("unpacking a tar into %q was begun and never finished; remove it: %w", in.Name, ErrInvalid)
	}
	return fmt.Errorf("%q is a %s, not a layer: %w", in.Name, in.Kind, ErrInvalid)
}

// freeze makes a container a layer in the catalog. Its volume is still to be
// sealed. It says whether there was anything to do.
func (t *tx) freeze(name string, at time.Time) (bool, error) {
	in, err := t.snapshot(name)
	if err != nil {
		return false, err
	}
	if err := in.mayBearChildren(true); err != nil {
		return false, err
	}
	if in.Kind == KindLayer {
		return false, nil
	}
	in.Kind, in.NoTar = KindLayer, true
	in.Created, in.Updated = at, at
	return true, t.put(bucketSnapshots, name, in)
}

// volume is a snapshot and its volume, which is sealed if it is a layer's.
func (s *Store) volume(ctx context.Context, name string) (Info, Volume, error) {
	in, err := s.Stat(ctx, name)
	if err != nil || in.Kind != KindLayer || in.Volume.Sealed {
		return in, in.Volume, err
	}
	v, err := s.sealed(ctx, name)
	return in, v, err
}

// sealed is a layer's volume. One that was frozen in use is sealed now, if its
// users are gone; else they and others go on with it as it is.
func (s *Store) sealed(ctx context.Context, name string) (Volume, error) {
	in, err := s.Stat(ctx, name)
	if err != nil || in.Volume.Sealed {
		return in.Volume, err
	}
	v := in.Volume
	_, err = s.vols.whileIdle(v.ID, func() error {
		if in, err = s.Stat(ctx, name); err != nil || in.Volume.Sealed { // somebody else has done it
			v = in.Volume
			return err
		}
		if err := s.driver.Seal(ctx, v); err != nil {
			return noSpace(err)
		}
		failpoint.Hit("freeze.sealed")
		v.Sealed = true
		usage, err := s.driver.Usage(ctx, v)
		if err != nil {
			return err
		}
		return s.commit(func(t *tx) error {
			in, err := t.snapshot(name)
			if err != nil {
				return err
			}
			in.Volume.Sealed, in.Usage = true, usage
			return t.put(bucketSnapshots, name, in)
		})
	})
	if err != nil {
		return v, fmt.Errorf("sealing layer %q: %w", name, err)
	}
	return v, nil
}
