package snapshot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot/failpoint"
	"blockstore.dev/blockstore/snapshot/mount"
)

// StoreOptions say which store and how to come by it.
type StoreOptions struct {
	// Root is the store's directory.
	Root string
	// Kinds are the drivers that this program has.
	Kinds []Kind
	// Wait is how long to wait for another process that has the store.
	Wait time.Duration
	// Waiting, if set, is called once if there is something to wait for.
	Waiting func(holder string)
}

// Store is an open store. Its methods may be called by many goroutines at once.
type Store struct {
	root     string
	lock     *rootLock
	cat      *catalog
	header   header
	driver   Driver
	ids      *idAllocator
	names    nameLocks
	vols     volumes
	swept    sweptGarbage
	sweeping sweeping
	spares   spares
	parents  knownParents
}

// Open brings the store at o.Root up, after a clean stop as after a crash: what
// an operation left half-made is gone, and every committed layer is whole. A
// store that another process has is ErrBusy; catalog and backing store that do
// not belong together are ErrCorrupt, and neither is changed.
func Open(ctx context.Context, o StoreOptions) (s *Store, err error) {
	root, err := filepath.Abs(o.Root)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(root, catalogFile)); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("no store at %s; make one with `init`, or name its directory with --root: %w", root, ErrNotFound)
		}
		return nil, fmt.Errorf("opening the store at %s: %w", root, err)
	}
	s = &Store{root: root, sweeping: sweeping{wake: make(chan struct{}, 1)}, parents: knownParents{most: mostParents}}
	if s.lock, err = lockRoot(ctx, root, o.Wait, o.Waiting); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close(context.WithoutCancel(ctx)))
			s = nil
		}
	}()
	if s.cat, err = openCatalog(filepath.Join(root, catalogFile)); err != nil {
		return s, err
	}
	if err = s.cat.view(func(t *tx) (err error) { s.header, err = t.header(); return err }); err != nil {
		return s, err
	}
	kind, err := s.kind(o.Kinds)
	if err != nil {
		return s, err
	}
	if err = s.upgrade(); err != nil {
		return s, err
	}
	if s.driver, err = kind.Open(ctx, OpenOptions{Root: root, StoreID: s.header.StoreID, Config: s.header.Config, Keep: s.keepConfig}); err != nil {
		return s, fmt.Errorf("opening the %s store at %s: %w", s.header.Driver, root, err)
	}
	s.vols = volumes{store: s, states: map[VolumeID]*volumeState{}}
	s.spares.store = s
	return s, s.recover(ctx)
}

// upgrade gives a store that an older program made this one's format, so that the older
// one, which would not look into the journal, refuses it.
func (s *Store) upgrade() error {
	if s.header.Version == catalogVersion {
		return nil
	}
	s.header.Version = catalogVersion
	if err := s.cat.update(func(t *tx) error { return t.putHeader(s.header) }); err != nil {
		return err
	}
	return s.cat.checkpoint()
}

// keepConfig is OpenOptions.Keep.
func (s *Store) keepConfig(config json.RawMessage) error {
	return s.cat.update(func(t *tx) error {
		h, err := t.header()
		if err != nil {
			return err
		}
		h.Config = config
		return t.putHeader(h)
	})
}

// kind finds the driver that the store was made with.
func (s *Store) kind(kinds []Kind) (Kind, error) {
	h := s.header
	if h.StoreID == "" || h.Config == nil {
		return nil, fmt.Errorf("the store at %s was never finished; run `init` again, or `destroy --yes`: %w", s.root, ErrCorrupt)
	}
	if h.Version < 1 || h.Version > catalogVersion {
		return nil, fmt.Errorf("the store at %s has format %d, this program knows %d: %w", s.root, h.Version, catalogVersion, ErrNotSupported)
	}
	for _, k := range kinds {
		if k.Name() == h.Driver {
			return k, nil
		}
	}
	return nil, fmt.Errorf("the store at %s needs the driver %s, which this program does not have: %w", s.root, h.Driver, ErrNotSupported)
}

// recover makes kernel and catalog agree again.
func (s *Store) recover(ctx context.Context) error {
	var record idRecord
	var garbage []VolumeID
	if err := s.cat.view(func(t *tx) (err error) {
		record, err = t.ids()
		garbage = t.garbage()
		return err
	}); err != nil {
		return err
	}
	if err := s.matchEpoch(ctx, record.Epoch); err != nil {
		return err
	}
	if err := s.recoverMounts(ctx); err != nil {
		return err
	}
	failpoint.Hit("open.mounts")
	unfinished, err := s.unfinished(ctx, record)
	if err != nil {
		return err
	}
	if err := s.driver.Remove(ctx, unfinished...); err != nil {
		return fmt.Errorf("removing unfinished volumes: %w", err)
	}
	failpoint.Hit("open.unfinished")
	if err := s.removeTars(ctx); err != nil {
		return err
	}
	s.ids = &idAllocator{
		cat: s.cat, driver: s.driver, record: record, inWork: map[VolumeID]bool{},
		next: max(record.Used+1, record.PurgeFrom),
	}
	failpoint.Hit("open.tars")
	s.collect(ctx, garbage)
	failpoint.Hit("open.garbage")
	if err := s.unsealContainers(ctx); err != nil {
		return fmt.Errorf("finding what was sealed and is no layer: %w", err)
	}
	return s.flushSwept(ctx)
}

// matchEpoch compares the ages of catalog and backing store.
func (s *Store) matchEpoch(ctx context.Context, want uint64) error {
	e, ok := s.driver.(Epoched)
	if !ok {
		return nil
	}
	have, err := e.Epoch(ctx)
	if err != nil {
		return err
	}
	switch {
	case have == want:
		return nil
	case have+1 == want: // the process died between reservation and pool
		return e.SetEpoch(ctx, have, want)
	}
	return fmt.Errorf("the catalog is at transaction %d, the %s backing store at %d: one of them is a copy of another age; "+
		"nothing was changed; put the matching one back: %w", want, s.header.Driver, have, ErrCorrupt)
}

// recoverMounts undoes the mounts that a dead process made for itself, and takes
// over those that Mount made for others.
func (s *Store) recoverMounts(ctx context.Context) error {
	if err := releaseWork(s.root); err != nil {
		return err
	}
	if err := s.clearDir(ctx, dirWork); err != nil {
		return err
	}
	shown, err := mount.Below(filepath.Join(s.root, dirMounts))
	if err != nil {
		return err
	}
	for _, e := range shown {
		id, err := strconv.ParseUint(filepath.Base(e.Target), 10, 32)
		if err != nil || filepath.Dir(e.Target) != filepath.Join(s.root, dirMounts) {
			continue // mounted by somebody inside a container's tree
		}
		s.vols.adopt(VolumeID(id))
	}
	return s.clearDir(ctx, dirMounts)
}

// clearDir removes the mount points below dir that nothing is mounted on, and
// deactivates their volumes.
func (s *Store) clearDir(ctx context.Context, dir string) error {
	entries, err := os.ReadDir(filepath.Join(s.root, dir))
	if err != nil {
		return err
	}
	for _, e := range entries {
		id, err := strconv.ParseUint(e.Name(), 10, 32)
		if err != nil || s.vols.shown(VolumeID(id)) {
			continue
		}
		if err := s.driver.Deactivate(ctx, VolumeID(id)); err != nil && !errors.Is(err, ErrBusy) {
			return err
		}
		if err := os.Remove(filepath.Join(s.root, dir, e.Name())); err != nil && !errors.Is(err, unix.EBUSY) {
			return err
		}
	}
	return nil
}

// unfinished lists the reserved ids that no committed volume has. A driver that
// can list its volumes narrows them down to those that exist.
func (s *Store) unfinished(ctx context.Context, r idRecord) ([]VolumeID, error) {
	var ids []VolumeID
	few := false
	prober, canProbe := s.driver.(Prober)
	err := s.cat.view(func(t *tx) error {
		garbage := map[VolumeID]bool{}
		for _, id := range t.garbage() {
			garbage[id] = true
		}
		for id := r.PurgeFrom; id < r.End; id++ {
			if t.volumeName(id) == "" && !garbage[id] {
				ids = append(ids, id)
			}
		}
		few = canProbe && len(ids) < t.t.Bucket(bucketVolumes).Stats().KeyN
		return nil
	})
	if err != nil {
		return nil, err
	}
	var exist []VolumeID
	if few {
		exist, err = prober.Exist(ctx, ids...)
	} else {
		exist, err = s.driver.Volumes(ctx)
	}
	if errors.Is(err, ErrNotSupported) {
		return ids, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking for unfinished volumes: %w", err)
	}
	return slices.DeleteFunc(ids, func(id VolumeID) bool { return !slices.Contains(exist, id) }), nil
}

// Close releases the store. Volumes that somebody has mounted stay mounted.
func (s *Store) Close(ctx context.Context) error {
	var errs []error
	defer s.sweeping.hurried()()
	s.sweeping.later.Wait()
	if s.ids != nil {
		errs = append(errs, s.spares.close(ctx), s.flushSwept(ctx))
	}
	if s.driver != nil {
		errs = append(errs, s.vols.releaseLent(ctx), together(s.root), closeDoors(s.root, false), s.driver.Close(ctx))
	}
	if s.cat != nil {
		errs = append(errs, s.cat.close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	s.ids, s.driver, s.cat, s.lock = nil, nil, nil, nil
	return errors.Join(errs...)
}

// Destroy removes a store with everything in it, finished or not. While a volume
// is mounted it is ErrBusy, and nothing is removed.
func Destroy(ctx context.Context, o StoreOptions) (err error) {
	root, err := filepath.Abs(o.Root)
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(root, catalogFile)); err != nil {
		return fmt.Errorf("no store at %s: %w", root, ErrNotFound)
	}
	lock, err := lockRoot(ctx, root, o.Wait, o.Waiting)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	s := &Store{root: root}
	if s.header, err = headerOf(filepath.Join(root, catalogFile)); err != nil {
		return err
	}
	shown, err := mount.Below(root)
	if err != nil {
		return err
	}
	for _, e := range shown {
		if filepath.Dir(e.Target) == filepath.Join(root, dirMounts) {
			return fmt.Errorf("%s is mounted; `umount` its container first: %w", e.Target, ErrBusy)
		}
	}
	for i := len(shown) - 1; i >= 0; i-- {
		if filepath.Dir(shown[i].Target) == filepath.Join(root, dirWork) {
			if err := mount.Unmount(shown[i].Target); err != nil {
				return err
			}
		}
	}
	if err := errors.Join(together(root), closeDoors(root, true)); err != nil {
		return err
	}
	for _, k := range o.Kinds {
		if k.Name() == s.header.Driver {
			if err := k.Destroy(ctx, OpenOptions{Root: root, StoreID: s.header.StoreID, Config: s.header.Config}); err != nil {
				return fmt.Errorf("destroying the %s store at %s: %w", k.Name(), root, err)
			}
			failpoint.Hit("destroy.driver")
			return removeRoot(root)
		}
	}
	if s.header.Driver == "" {
		return removeRoot(root)
	}
	return fmt.Errorf("the store at %s needs the driver %s, which this program does not have: %w", root, s.header.Driver, ErrNotSupported)
}

// headerOf reads the header of a catalog, also of one whose journal an earlier Destroy removed before it died.
func headerOf(path string) (h header, err error) {
	cat, err := openCatalog(path)
	if errors.Is(err, errNoJournal) {
		cat = &catalog{}
		cat.db, err = bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second, ReadOnly: true})
	}
	if err != nil {
		return h, err
	}
	err = cat.view(func(t *tx) (err error) { h, err = t.header(); return err })
	return h, errors.Join(err, cat.close())
}

// removeRoot removes the store's own files; the catalog last, since it says what
// there may be. Files of others keep the directory.
func removeRoot(root string) error {
	var errs []error
	for _, d := range []string{dirMounts, dirWork} { // only empty directories in there
		entries, _ := os.ReadDir(filepath.Join(root, d))
		for _, e := range entries {
			errs = append(errs, os.Remove(filepath.Join(root, d, e.Name())))
		}
		errs = append(errs, ignoreMissing(os.Remove(filepath.Join(root, d))))
	}
	failpoint.Hit("destroy.mountpoints")
	errs = append(errs, os.RemoveAll(filepath.Join(root, dirTars)), os.RemoveAll(filepath.Join(root, dirBegun)), os.RemoveAll(filepath.Join(root, dirDoors)), os.RemoveAll(filepath.Join(root, dirDriver)))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, name := range []string{ControlSocket, journalFile, catalogFile, "lock"} {
		failpoint.Hit("destroy." + name)
		if err := os.Remove(filepath.Join(root, name)); ignoreMissing(err) != nil {
			return err
		}
	}
	if err := os.Remove(root); err != nil && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EBUSY) {
		return err
	}
	return nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
