package snapshot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"blockstore.dev/blockstore/snapshot/layertar"
)

// since is a time at which a snapshot that has below under it did not differ from it yet. A container on it was made later than it stood still,
// mostly so much later that of no file it is open whether the container has changed it in the same tick. When a layer between the two
// began to be made is not recorded.
func since(below, in Info) time.Time {
	if in.Kind == KindContainer && in.Parent == below.Name {
		return in.Created
	}
	return below.Created
}

// track asks the driver what was written between the volume lower, which is shown at dir, and upper, which is
// that of in or a snapshot of it; in stands on lower's. nil if it cannot tell.
func (s *Store) track(ctx context.Context, lower Volume, dir string, began time.Time, in Info, upper Volume) (layertar.Lineage, error) {
	t, ok := s.driver.(Tracker)
	if !ok {
		return nil, nil
	}
	above, err := s.lineage(lower.ID, in)
	if err != nil {
		return nil, err
	}
	if n := len(above); n > 0 && above[n-1].ID == upper.ID {
		above = above[:n-1]
	}
	account, err := t.Track(ctx, lower, append(above, upper), began)
	if errors.Is(err, ErrNotSupported) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if l, ok := account.(layertar.Lineage); ok {
		return l, nil
	}
	p, err := s.parents.of(ctx, lower, dir)
	if err != nil {
		return nil, err
	}
	return p.Lineage(account), nil
}

// CannotTell is the error of a Tracker that cannot tell what changed, and why: an ErrNotSupported.
func CannotTell(format string, args ...any) error {
	return fmt.Errorf(format+", so what changed cannot be told: %w", append(args, ErrNotSupported)...)
}

// lineage is the volumes from above lower to a snapshot's own, the lowest first.
func (s *Store) lineage(lower VolumeID, in Info) ([]Volume, error) {
	var above []Volume
	err := s.cat.view(func(t *tx) (err error) {
		for in.Volume.ID != lower {
			above = append(above, in.Volume)
			if in.Parent == "" {
				return ErrNotFound
			}
			if in, err = t.snapshot(in.Parent); err != nil {
				return err
			}
		}
		return nil
	})
	slices.Reverse(above)
	return slices.CompactFunc(above, func(a, b Volume) bool { return a.ID == b.ID }), err // a view has its layer's
}
