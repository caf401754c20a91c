package snapshot

import (
	"context"
	"errors"
	"fmt"

	"blockstore.dev/blockstore/snapshot/mount"
)

// Identify is Mounts backwards: it says which snapshot mounts show, that others got
// from Mounts and hand back, in any later process and with "ro" added or not. A
// container is itself. A view is the layer that it shows, since both are one volume;
// a view of nothing is the base, a layer without a name, as which CompareRequest.Below
// knows it. Mounts of others, and mounts that this driver cannot know again, are
// ErrNotFound.
func (s *Store) Identify(ctx context.Context, ms []mount.Mount) (Info, error) {
	l, ok := s.driver.(Locator)
	if !ok {
		return Info{}, fmt.Errorf("the driver %s does not know its mounts again: %w", s.driver.Name(), ErrNotFound)
	}
	if len(ms) != 1 { // no driver returns more
		return Info{}, fmt.Errorf("%d mounts, of which none is the store's: %w", len(ms), ErrNotFound)
	}
	id, err := l.Locate(ctx, ms[0])
	if err != nil {
		return Info{}, fmt.Errorf("looking for the snapshot of %s: %w", ms[0].Source, err)
	}
	if id == Base {
		return Info{Kind: KindLayer, Volume: Volume{ID: Base, Size: s.header.BaseSize, Sealed: true}}, nil
	}
	var in Info
	err = s.cat.view(func(t *tx) (err error) {
		name := t.volumeName(id)
		if name == "" {
			return errors.New("it was removed")
		}
		in, err = t.snapshot(name)
		return err
	})
	if err != nil {
		return Info{}, fmt.Errorf("looking for the snapshot of %s, volume %d: %w: %w", ms[0].Source, id, ErrNotFound, err)
	}
	return s.withMount(in), nil
}
