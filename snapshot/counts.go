package snapshot

import (
	"fmt"
	"sync/atomic"
	"time"
)

// CatalogCounts say what an open store's catalog has done since Open.
type CatalogCounts struct {
	// Commits are transactions that reached the disk, Updates the changes in them: changes that come at once share a
	// commit. Failures are commits that the disk refused.
	Commits, Updates, Failures uint64
	// Committing is how long all commits took together.
	Committing time.Duration
}

// CatalogCounts is what the catalog has done so far. It is cheap.
func (s *Store) CatalogCounts() CatalogCounts {
	c := &s.cat.counts
	return CatalogCounts{
		Commits: c.commits.Load(), Updates: c.updates.Load(), Failures: c.failures.Load(), Committing: time.Duration(c.nanoseconds.Load()),
	}
}

type catalogCounts struct {
	commits, updates, failures atomic.Uint64
	nanoseconds                atomic.Int64
}

func (c *catalogCounts) committed(updates int, took time.Duration, err error) {
	c.nanoseconds.Add(int64(took))
	if err != nil {
		c.failures.Add(1)
		return
	}
	c.commits.Add(1)
	c.updates.Add(uint64(updates))
}

// CatalogBytes is how much of the catalog's file is in use by what it holds: its file has free pages beside that. It
// reads the whole catalog.
func (s *Store) CatalogBytes() (int64, error) {
	var used int64
	err := s.cat.view(func(t *tx) error {
		for _, name := range buckets() {
			st := t.t.Bucket(name).Stats()
			used += int64(st.BranchInuse + st.LeafInuse + st.InlineBucketInuse)
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("measuring the catalog: %w", err)
	}
	return used, nil
}

// SpareCounts say what the spare snapshots of an open store are good for: see KeepSpares.
type SpareCounts struct {
	// Ready are those that nobody has asked for yet; Prepared those of them that can be activated with what is left to
	// do, because the driver has done the rest. Not every driver can.
	Ready, Prepared int
	// Taken are creations since Open that took one, Missed those that made a snapshot of their own while spares were kept.
	Taken, Missed uint64
}

// Spares counts them. It is cheap.
func (s *Store) Spares() SpareCounts {
	p := &s.spares
	p.mu.Lock()
	defer p.mu.Unlock()
	c := SpareCounts{Taken: p.taken, Missed: p.missed}
	for _, k := range p.kinds {
		c.Ready += len(k.ready)
		for _, sp := range k.ready {
			if sp.prepared() {
				c.Prepared++
			}
		}
	}
	return c
}
