package snapshot

import (
	"context"
	"fmt"
	"time"
)

// Relabel replaces a snapshot's labels by what change makes of them, durably, and
// describes the snapshot as it is then. change may alter and return the map that
// it is given, which may be nil; its error ends the matter and is returned.
func (s *Store) Relabel(ctx context.Context, name string, change func(map[string]string) (map[string]string, error)) (Info, error) {
	if err := ctx.Err(); err != nil {
		return Info{}, err
	}
	defer s.names.write(name)()
	var in Info
	err := s.commit(func(t *tx) (err error) {
		if in, err = t.snapshot(name); err != nil {
			return err
		}
		if in.Labels, err = change(in.Labels); err != nil {
			return err
		}
		in.Updated = time.Now().UTC()
		return t.put(bucketSnapshots, name, in)
	})
	if err != nil {
		return Info{}, fmt.Errorf("changing labels: %w", err)
	}
	return s.withMount(in), nil
}
