package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"blockstore.dev/blockstore/snapshot/mount"
)

// Repairer is a Kind whose backing store has structures of its own that can be damaged, and repaired while it is down.
type Repairer interface {
	// Repair leaves a backing store that opens and takes changes, and takes it down. While a volume is in use it is
	// ErrBusy, and nothing is changed. What is replaced is kept. Without o.Yes it is ErrUnconfirmed, and the error says what
	// would be done.
	Repair(ctx context.Context, at OpenOptions, o RepairOptions) (Repaired, error)
}

// RepairOptions say how a backing store is repaired.
type RepairOptions struct {
	Yes bool
	// Epoch is the catalog's, for a backing store that has lost its own; see Epoched.
	Epoch uint64
	// Say, if set, is told each step before it is done.
	Say func(step string)
}

// Repaired is what was found and done.
type Repaired struct {
	// Damage is what was wrong, "" if nothing was.
	Damage string `json:"damage,omitempty"`
	// Rebuilt says that the damaged structures were made anew; the old ones are in the file Kept.
	Rebuilt bool   `json:"rebuilt"`
	Kept    string `json:"kept,omitempty"`
	// Volumes are those that there are now.
	Volumes []VolumeID `json:"volumes"`
	// Lost are those that the catalog has and the backing store has not, or not any more.
	Lost []VolumeID `json:"lost"`
}

// Repair repairs the backing store below a store that need not be able to open, and says which volumes it has lost.
// ErrNotSupported for drivers that have nothing to repair.
func Repair(ctx context.Context, o StoreOptions, how RepairOptions) (r Repaired, err error) {
	root, err := filepath.Abs(o.Root)
	if err != nil {
		return r, err
	}
	if _, err := os.Stat(filepath.Join(root, catalogFile)); err != nil {
		return r, fmt.Errorf("no store at %s: %w", root, ErrNotFound)
	}
	lock, err := lockRoot(ctx, root, o.Wait, o.Waiting)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	s := &Store{root: root}
	if s.cat, err = openCatalog(filepath.Join(root, catalogFile)); err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, s.cat.close()) }()
	var volumes []VolumeID
	err = s.cat.view(func(t *tx) error {
		var err error
		if s.header, err = t.header(); err != nil {
			return err
		}
		ids, err := t.ids()
		if err != nil {
			return err
		}
		how.Epoch = ids.Epoch
		return t.eachSnapshot(func(in Info) error {
			if in.Kind != KindView {
				volumes = append(volumes, in.Volume.ID)
			}
			return nil
		})
	})
	if err != nil {
		return r, err
	}
	k, err := s.kind(o.Kinds)
	if err != nil {
		return r, err
	}
	repairer, ok := k.(Repairer)
	if !ok {
		return r, fmt.Errorf("the %s driver has nothing that is repaired so: %w", k.Name(), ErrNotSupported)
	}
	if how.Yes {
		if err := releaseWork(root); err != nil {
			return r, err
		}
	}
	r, err = repairer.Repair(ctx, OpenOptions{Root: root, StoreID: s.header.StoreID, Config: s.header.Config}, how)
	if err != nil {
		return r, fmt.Errorf("repairing the %s store at %s: %w", k.Name(), root, err)
	}
	r.Lost = []VolumeID{}
	for _, id := range volumes {
		if !slices.Contains(r.Volumes, id) {
			r.Lost = append(r.Lost, id)
		}
	}
	return r, nil
}

// releaseWork undoes the mounts that a dead process made for itself.
func releaseWork(root string) error {
	work, err := mount.Below(filepath.Join(root, dirWork))
	if err != nil {
		return err
	}
	for i := len(work) - 1; i >= 0; i-- {
		if err := mount.Unmount(work[i].Target); err != nil {
			return fmt.Errorf("clearing a mount that a dead process left: %w", err)
		}
	}
	return nil
}
