package snapshot

// CatalogCommits counts the write transactions that the catalog ever committed.
func (s *Store) CatalogCommits() int {
	n := 0
	_ = s.cat.view(func(t *tx) error { n = t.t.ID(); return nil })
	return n
}
