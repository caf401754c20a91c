package snapshot

import "context"

// Usage counts what a snapshot occupies now. A layer's was recorded when it was
// sealed, and a view occupies nothing.
func (s *Store) Usage(ctx context.Context, name string) (Usage, error) {
	all, err := s.Usages(ctx, name)
	return all[name], err
}

// Usages is Usage of several snapshots, in one go where the driver can.
func (s *Store) Usages(ctx context.Context, names ...string) (map[string]Usage, error) {
	usages := map[string]Usage{}
	var asked []string
	var volumes []Volume
	for _, name := range names {
		in, err := s.Stat(ctx, name)
		switch {
		case err != nil:
			return nil, err
		case in.Kind == KindLayer && in.Volume.Sealed:
			usages[name] = in.Usage
		case in.Kind == KindView:
			usages[name] = Usage{Exact: true}
		default:
			asked, volumes = append(asked, name), append(volumes, in.Volume)
		}
	}
	counted, err := s.measure(ctx, volumes)
	for i := range counted {
		usages[asked[i]] = counted[i]
	}
	return usages, err
}

func (s *Store) measure(ctx context.Context, volumes []Volume) ([]Usage, error) {
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

// Referenced counts everything that snapshots refer to, shared or not, in bytes on the backing store, by their names. What
// a layer refers to is counted when it is first asked for, and recorded. A view owns nothing to refer with: 0.
func (s *Store) Referenced(ctx context.Context, names ...string) (map[string]int64, error) {
	referenced := map[string]int64{}
	var asked []Info
	var volumes []Volume
	for _, name := range names {
		in, err := s.Stat(ctx, name)
		switch {
		case err != nil:
			return nil, err
		case in.Kind == KindView:
			referenced[name] = 0
		case in.Referenced != nil:
			referenced[name] = *in.Referenced
		default:
			asked, volumes = append(asked, in), append(volumes, in.Volume)
		}
	}
	if len(asked) == 0 {
		return referenced, nil
	}
	counted, err := s.driver.Referenced(ctx, volumes...)
	if err != nil {
		return nil, err
	}
	var layers []Info
	for i, in := range asked {
		referenced[in.Name] = counted[i]
		if in.Kind == KindLayer && in.Volume.Sealed {
			in.Referenced = &counted[i]
			layers = append(layers, in)
		}
	}
	s.recordReferenced(layers)
	return referenced, nil
}

// recordReferenced spares the next who asks the counting. What was counted is true without: a disk that takes no more must
// not keep anybody from seeing what is on it.
func (s *Store) recordReferenced(layers []Info) {
	if len(layers) == 0 {
		return
	}
	_ = s.commit(func(t *tx) error {
		for _, counted := range layers {
			in, err := t.snapshot(counted.Name)
			if err != nil || in.Volume != counted.Volume { // gone, or another by now
				continue
			}
			in.Referenced = counted.Referenced
			if err := t.put(bucketSnapshots, in.Name, in); err != nil {
				return err
			}
		}
		return nil
	})
}
