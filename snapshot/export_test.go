package snapshot

import "context"

// CatalogCommits counts the write transactions that the catalog ever committed.
func (s *Store) CatalogCommits() int {
	n := 0
	_ = s.cat.view(func(t *tx) error { n = t.t.ID(); return nil })
	return n
}

// HoldSweeps keeps removals in the background from going on, until release.
func (s *Store) HoldSweeps() (release func()) {
	s.sweeping.Lock()
	return s.sweeping.Unlock
}

// DropSpares removes all spares.
func (s *Store) DropSpares(ctx context.Context) error {
	_, err := s.spares.clear(ctx)
	return err
}

// DamageCatalog takes out the first record of a bucket and puts a wrong one in.
func (s *Store) DamageCatalog(bucket string) error {
	return s.cat.update(func(t *tx) error {
		first, _ := t.t.Bucket([]byte(bucket)).Cursor().First()
		k := string(first)
		if err := t.set([]byte(bucket), "0"+k, []byte("of nobody")); err != nil {
			return err
		}
		if bucket == "refs" { // a name that is gone is no damage that could be told
			return nil
		}
		return t.remove([]byte(bucket), k)
	})
}
