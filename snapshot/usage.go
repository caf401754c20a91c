package snapshot

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Usage counts what a snapshot occupies now. A layer's was recorded when it was
// sealed, and a view occupies nothing.
func (s *Store) Usage(ctx context.Context, name string) (Usage, error) {
	in, err := s.countOne(ctx, name, s.CountUsage)
	return in.Usage, err
}

// Referenced counts everything that a snapshot refers to, shared or not, in bytes on the backing store. What a layer refers
// to is counted when it is first asked for, and recorded. A view owns nothing to refer with: 0.
func (s *Store) Referenced(ctx context.Context, name string) (int64, error) {
	in, err := s.countOne(ctx, name, s.CountReferenced)
	if err != nil {
		return 0, err
	}
	return in.Usage.Referenced, nil
}

func (s *Store) countOne(ctx context.Context, name string, count func(context.Context, []Info) ([]Info, error)) (Info, error) {
	in, err := s.Stat(ctx, name)
	if err != nil {
		return Info{}, err
	}
	list, err := count(ctx, []Info{in})
	if err != nil {
		return Info{}, err
	}
	if len(list) == 0 {
		return Info{}, fmt.Errorf("%s %q went while it was counted: %w", in.Kind, name, ErrNotFound)
	}
	return list[0], nil
}

// CountUsage gives the snapshots of a list their Usage of now, in one go where the driver can. What they refer to is not
// counted with it. What went since it was listed is left out.
func (s *Store) CountUsage(ctx context.Context, list []Info) ([]Info, error) {
	return s.countList(ctx, list, func(list []Info) error {
		asked, volumes := uncounted(list, func(Usage) bool { return true })
		usages, err := s.usages(ctx, volumes)
		for i, u := range usages {
			asked[i].Usage = u
		}
		return err
	})
}

// uncounted are those of a list whose volumes are to be counted, and the volumes: those that may be written to, and layers whose
// record does not tell. Views own nothing, and all of that is known.
func uncounted(list []Info, tells func(Usage) bool) (asked []*Info, volumes []Volume) {
	for i := range list {
		switch in := &list[i]; {
		case in.Kind == KindView:
			in.Usage = Usage{Exact: true}
		case in.Kind == KindContainer || !in.Volume.Sealed || !tells(in.Usage):
			asked, volumes = append(asked, in), append(volumes, in.Volume)
		}
	}
	return asked, volumes
}

func (s *Store) usages(ctx context.Context, volumes []Volume) ([]Usage, error) {
	if a, ok := s.driver.(UsageCounter); ok && len(volumes) > 1 {
		return a.Usages(ctx, volumes)
	}
	var all []Usage
	for _, v := range volumes {
		u, err := s.driver.Usage(ctx, v)
		if err != nil {
			return nil, err
		}
		all = append(all, u)
	}
	return all, nil
}

// CountReferenced gives the snapshots of a list what they refer to now, as Referenced does, in one go. What went since it was
// listed is left out.
func (s *Store) CountReferenced(ctx context.Context, list []Info) ([]Info, error) {
	return s.countList(ctx, list, func(list []Info) error {
		asked, volumes := uncounted(list, func(u Usage) bool { return u.Referenced != 0 })
		if len(volumes) == 0 {
			return nil
		}
		counted, err := s.driver.Referenced(ctx, volumes...)
		if err != nil {
			return err
		}
		var layers []Info
		for i, in := range asked {
			in.Usage.Referenced = counted[i]
			if in.Kind == KindLayer && in.Volume.Sealed && counted[i] != 0 {
				layers = append(layers, *in)
			}
		}
		s.recordReferenced(layers)
		return nil
	})
}

// countList has count go through a copy of a list. Where it fails and some of the list is gone by now, it begins again with
// the rest.
func (s *Store) countList(ctx context.Context, list []Info, count func([]Info) error) ([]Info, error) {
	for {
		counted := slices.Clone(list)
		err := count(counted)
		if err == nil {
			return counted, nil
		}
		left := slices.DeleteFunc(slices.Clone(list), func(in Info) bool {
			now, err := s.Stat(ctx, in.Name)
			return errors.Is(err, ErrNotFound) || err == nil && now.Volume.ID != in.Volume.ID
		})
		if len(left) == len(list) {
			return nil, err
		}
		list = left
	}
}

// recordReferenced spares the next who asks the counting. What was counted is true without: a disk that takes no more must
// not keep anybody from seeing what is on it.
func (s *Store) recordReferenced(layers []Info) {
	if len(layers) == 0 {
		return
	}
	_ = s.commitLazily(func(t *tx) error {
		for _, counted := range layers {
			in, err := t.snapshot(counted.Name)
			if err != nil || in.Volume != counted.Volume { // gone, or another by now
				continue
			}
			in.Usage.Referenced = counted.Usage.Referenced
			if err := t.put(bucketSnapshots, in.Name, in); err != nil {
				return err
			}
		}
		return nil
	})
}
