package snapshot

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"blockstore.dev/blockstore/snapshot/failpoint"
)

// Remove removes a container, a view, or a layer that nothing stands on. One
// that is mounted is ErrBusy. The removal is committed first; the volume goes
// before Remove returns, or, where the kernel does not let go of it, later.
func (s *Store) Remove(ctx context.Context, name string) error {
	defer s.names.write(name)()
	in, err := s.idle(ctx, name)
	if err != nil {
		return err
	}
	return s.remove(ctx, in)
}

// idle describes a snapshot whose volume nobody uses. What was lent and is not in use
// is taken back.
func (s *Store) idle(ctx context.Context, name string) (Info, error) {
	in, err := s.Stat(ctx, name)
	if err != nil || in.Kind == KindView {
		return in, err
	}
	if err := s.vols.takeBack(ctx, in.Volume.ID); err != nil {
		return in, fmt.Errorf("removing %s %q: %w", in.Kind, name, err)
	}
	if in.Mounted != "" {
		return in, fmt.Errorf("%s %q is mounted at %s; `umount` it first: %w", in.Kind, name, in.Mounted, ErrBusy)
	}
	if s.vols.inUse(in.Volume.ID) {
		return in, fmt.Errorf("%s %q is being read: %w", in.Kind, name, ErrBusy)
	}
	return in, nil
}

// remove commits a removal and does it, as far as the kernel lets it.
func (s *Store) remove(ctx context.Context, in Info) error {
	if err := s.commitRemoval(in); err != nil {
		return err
	}
	if in.Kind != KindView {
		s.collect(context.WithoutCancel(ctx), []VolumeID{in.Volume.ID})
	}
	return nil
}

func (s *Store) commitRemoval(in Info) error {
	err := s.commit(func(t *tx) error { _, err := t.dropSnapshot(in.Name); return err })
	if err == nil {
		failpoint.Hit("remove.committed")
	}
	return err
}

// Discard is Remove for what may be mounted still: the mount is taken out of sight,
// also where files are open in it. Those that have them open keep them. The volume goes
// in the background, as RemoveAll's do, or when those are done, with one of the next
// Sweeps.
func (s *Store) Discard(ctx context.Context, name string) error {
	defer s.names.write(name)()
	in, err := s.Stat(ctx, name)
	if err != nil {
		return err
	}
	if err := s.cat.view(func(t *tx) error { return t.removable(in) }); err != nil {
		return err
	}
	if in.Kind != KindView {
		if err := s.vols.detach(ctx, in.Volume); err != nil {
			return fmt.Errorf("detaching %s %q: %w", in.Kind, name, err)
		}
	}
	if err := s.commitRemoval(in); err != nil {
		return err
	}
	if in.Kind != KindView {
		s.sweepLater(ctx)
	}
	return nil
}

// Drop commits the removal of what nothing stands on, and leaves the rest to the
// next Sweep: so it costs one commit, and is never held up by those who have the
// snapshot mounted. What Mount shows is ErrBusy.
func (s *Store) Drop(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	defer s.names.write(name)()
	in, err := s.Stat(ctx, name)
	if err != nil {
		return err
	}
	if in.Kind != KindView && in.Mounted != "" {
		return fmt.Errorf("%s %q is mounted at %s; `umount` it first: %w", in.Kind, name, in.Mounted, ErrBusy)
	}
	return s.commit(func(t *tx) error { _, err := t.dropSnapshot(name); return err })
}

// removedTogether is how many removals RemoveAll commits at once, at most: a record of
// so many fits into a part of the journal, whatever their names are.
const removedTogether = 256

// RemoveAll is Remove of many, in any order: a layer and what stands on it may both be
// among them. Their removal is committed many at a time; their volumes go in the
// background afterwards, before Close returns. Each is tried: errs[i] is nil if
// names[i] went.
func (s *Store) RemoveAll(ctx context.Context, names ...string) (errs []error) {
	errs = make([]error, len(names))
	left := make([]int, len(names))
	for i := range names {
		left[i] = i
	}
	dropped := false
	for len(left) > 0 {
		before := len(left)
		for part := range slices.Chunk(left, removedTogether) {
			dropped = s.removePart(ctx, names, part, errs) || dropped
		}
		left = slices.DeleteFunc(left, func(i int) bool { return !errors.Is(errs[i], ErrBusy) })
		if len(left) == before {
			break
		}
		slices.Reverse(left) // who comes before what stands on it now comes after it
	}
	if dropped {
		s.sweepLater(ctx)
	}
	return errs
}

// removePart commits the removal of some of the names, and says whether that of any was.
func (s *Store) removePart(ctx context.Context, names []string, part []int, errs []error) bool {
	free := claims{locks: &s.names}
	defer free.release()
	var idle, locked []int
	for _, i := range part {
		if errs[i] = ctx.Err(); errs[i] != nil {
			continue
		}
		if !free.claim(names[i]) {
			locked = append(locked, i)
			continue
		}
		if _, errs[i] = s.idle(ctx, names[i]); errs[i] == nil {
			idle = append(idle, i)
		}
	}
	dropped := s.dropTogether(names, idle, errs)
	free.release()
	for _, i := range locked { // by somebody who may hold another of them: it is waited for with none held
		errs[i] = s.Remove(ctx, names[i])
	}
	return dropped
}

// dropTogether is one commit for all that can go.
func (s *Store) dropTogether(names []string, which []int, errs []error) (dropped bool) {
	if len(which) == 0 {
		return false
	}
	err := s.commit(func(t *tx) error {
		for _, i := range which {
			var in Info
			if in, errs[i] = t.snapshot(names[i]); errs[i] == nil {
				errs[i] = t.removable(in)
			}
			if errs[i] != nil {
				continue
			}
			if err := t.drop(in); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		failpoint.Hit("remove.committed")
	}
	for _, i := range which {
		if err != nil {
			errs[i] = err
		}
		dropped = dropped || errs[i] == nil
	}
	return dropped
}
