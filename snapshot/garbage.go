package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"blockstore.dev/blockstore/snapshot/failpoint"
)

// sweptGarbage are volumes that are gone from the kernel and still listed as
// garbage in the catalog. Their entries go with whatever is committed next, so
// that a removal costs one commit; where the driver has to settle removals first,
// they go many at a time and when the store closes.
type sweptGarbage struct {
	mu  sync.Mutex
	ids []VolumeID
}

func (g *sweptGarbage) add(ids ...VolumeID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ids = append(g.ids, ids...)
}

func (g *sweptGarbage) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.ids)
}

func (g *sweptGarbage) list() []VolumeID {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.ids)
}

func (g *sweptGarbage) take() []VolumeID {
	g.mu.Lock()
	defer g.mu.Unlock()
	ids := g.ids
	g.ids = nil
	return ids
}

// commit runs fn in a durable transaction, with the garbage that was swept.
func (s *Store) commit(fn func(*tx) error) error { return s.commitBy(s.cat.update, fn) }

// commitLazily is commit for what nobody misses after a power cut.
func (s *Store) commitLazily(fn func(*tx) error) error { return s.commitBy(s.cat.updateLazily, fn) }

// commitBy is commit by one of the catalog's ways to update it.
func (s *Store) commitBy(update func(func(*tx) error) error, fn func(*tx) error) error {
	var swept []VolumeID
	if _, ok := s.driver.(Settler); !ok {
		swept = s.swept.take()
	}
	err := update(func(t *tx) error {
		if err := t.clearGarbage(swept); err != nil {
			return err
		}
		return fn(t)
	})
	if err != nil {
		s.swept.add(swept...)
	}
	return err
}

// flushSwept commits what was swept, if anything was.
func (s *Store) flushSwept(ctx context.Context) error {
	swept := s.swept.take()
	if len(swept) == 0 {
		return nil
	}
	if d, ok := s.driver.(Settler); ok {
		if err := d.Settle(ctx); err != nil {
			s.swept.add(swept...)
			return fmt.Errorf("making removals durable: %w", err)
		}
	}
	return s.cat.update(func(t *tx) error { return t.clearGarbage(swept) })
}

// maxSwept is how many removals wait to be settled together.
const maxSwept = 64

// collect removes volumes whose removal is committed. What is busy stays garbage
// and is tried again at the next open and by GC.
func (s *Store) collect(ctx context.Context, ids []VolumeID) {
	for _, id := range ids {
		s.collectOne(ctx, id)
	}
	s.flushMany(ctx)
}

// flushMany is flushSwept when it is worth a commit. What fails is tried again with the next.
func (s *Store) flushMany(ctx context.Context) {
	if s.swept.count() >= maxSwept {
		_ = s.flushSwept(ctx)
	}
}

func (s *Store) collectOne(ctx context.Context, id VolumeID) {
	if err := s.removeVolume(ctx, id); err == nil {
		s.swept.add(id)
	}
}

// removeVolume removes a volume, what the store keeps beside it, and the spares that were
// made of it.
func (s *Store) removeVolume(ctx context.Context, id VolumeID) error {
	if err := s.spares.drop(ctx, id); err != nil {
		return err
	}
	if err := s.vols.retire(ctx, id, func() error { return s.driver.Remove(ctx, id) }); err != nil {
		return err
	}
	failpoint.Hit("volume.removed")
	return ignoreMissing(os.Remove(s.tarPath(id)))
}

// abandon undoes an unfinished operation's volumes. Where that fails the next
// open does it: the ids are still reserved and unknown to the catalog.
func (s *Store) abandon(ctx context.Context, ids []VolumeID) error {
	ctx = context.WithoutCancel(ctx)
	var errs []error
	for _, id := range ids {
		if err := s.removeVolume(ctx, id); err != nil {
			errs = append(errs, fmt.Errorf("undoing volume %d: %w", id, err))
			continue
		}
		s.ids.gone(id)
	}
	return errors.Join(errs...)
}

// tarPath is the file from which, with a layer's tree, its tar can be written
// again byte for byte.
func (s *Store) tarPath(id VolumeID) string {
	return filepath.Join(s.root, dirTars, strconv.FormatUint(uint64(id), 10)+".json.zst")
}

// removeTars removes the tar files of volumes that the catalog does not know.
func (s *Store) removeTars(ctx context.Context) error {
	entries, err := os.ReadDir(filepath.Join(s.root, dirTars))
	if err != nil {
		return err
	}
	var stale []string
	err = s.cat.view(func(t *tx) error {
		for _, e := range entries {
			number, _, _ := strings.Cut(e.Name(), ".")
			id, err := strconv.ParseUint(number, 10, 32)
			if err == nil && t.volumeName(VolumeID(id)) == "" {
				stale = append(stale, e.Name())
			}
		}
		return nil
	})
	for _, name := range stale {
		if err := ctx.Err(); err != nil {
			return err
		}
		err = errors.Join(err, ignoreMissing(os.Remove(filepath.Join(s.root, dirTars, name))))
	}
	return err
}
