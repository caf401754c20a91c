package snapshot

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"blockstore.dev/blockstore/snapshot/failpoint"
	"blockstore.dev/blockstore/snapshot/mount"
)

// maxName bounds a snapshot's name; containerd's keys are the longest in use.
const maxName = 4096

func checkName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("the empty name: %w", ErrInvalid)
	case len(name) > maxName:
		return fmt.Errorf("a name of %d bytes (at most %d): %w", len(name), maxName, ErrInvalid)
	case strings.ContainsRune(name, 0):
		return fmt.Errorf("name %q holds a NUL: %w", name, ErrInvalid)
	case !utf8.ValidString(name): // JSON, in which the catalog keeps it, has no others
		return fmt.Errorf("name %q is not UTF-8: %w", name, ErrInvalid)
	}
	return nil
}

// Create makes a container: a writable snapshot of the layer r.Parent. It costs
// one snapshot in the kernel and one commit, whatever the layer's size and
// however many there are.
func (s *Store) Create(ctx context.Context, name string, r CreateRequest) (Info, error) {
	if err := checkName(name); err != nil {
		return Info{}, err
	}
	defer s.lockNew(name, r.Parent)()
	return s.create(ctx, name, r)
}

// creation says how the volume of a new container is made, and refuses what cannot be.
func (s *Store) creation(name string, r CreateRequest) (CreateOptions, error) {
	origin, used, err := s.origin(name, r)
	if err != nil {
		return CreateOptions{}, err
	}
	size := r.Size
	if size == 0 {
		size = origin.Size
	}
	if size < origin.Size {
		return CreateOptions{}, fmt.Errorf("container %q: size %d is below its image's limit %d: %w", name, size, origin.Size, ErrInvalid)
	}
	return CreateOptions{Origin: origin, Size: size, OriginBytes: used}, nil
}

// create is Create with the names locked.
func (s *Store) create(ctx context.Context, name string, r CreateRequest) (Info, error) {
	o, err := s.creation(name, r)
	if err != nil {
		return Info{}, err
	}
	now := time.Now().UTC() // before the snapshot: what either changes after that is stamped later, see Info.Created
	id, err := s.newVolume(ctx, o)
	if err != nil {
		return Info{}, fmt.Errorf("creating container %q: %w", name, err)
	}
	failpoint.Hit("create.volume")
	in := Info{
		Name: name, Kind: KindContainer, Parent: r.Parent, Image: r.Image, Labels: r.Labels,
		Volume:  Volume{ID: id, Origin: o.Origin.ID, Size: o.Size},
		Created: now, Updated: now, Scratch: r.Scratch,
	}
	commit := s.commit
	if r.Scratch {
		commit = s.commitLazily
	}
	froze := false
	err = commit(func(t *tx) (err error) {
		if r.FreezeParent && r.Parent != "" {
			if froze, err = t.freeze(r.Parent, now); err != nil {
				return err
			}
		}
		return t.addSnapshot(in)
	})
	if err != nil {
		return Info{}, errors.Join(fmt.Errorf("creating container: %w", err), s.abandon(ctx, []VolumeID{id}))
	}
	failpoint.Hit("create.committed")
	s.ids.done(id)
	if froze {
		s.vols.refuseWriters(o.Origin.ID)
	}
	return in, nil
}

// newVolume makes the volume that a container begins as, or takes a spare. Spares take
// no room that a creation needs.
func (s *Store) newVolume(ctx context.Context, o CreateOptions) (VolumeID, error) {
	if o.Origin.Sealed {
		if id, ok := s.spares.take(o); ok {
			failpoint.Hit("create.spare")
			if s.hasRoom(ctx) {
				return id, nil
			}
			if err := s.abandon(ctx, []VolumeID{id}); err != nil {
				return 0, err
			}
		}
	}
	ids, err := s.ids.take(ctx, 1)
	if err != nil {
		return 0, err
	}
	failpoint.Hit("create.reserved")
	err = noSpace(s.driver.Create(ctx, ids[0], o))
	if errors.Is(err, ErrNoSpace) {
		cleared, clearErr := s.spares.clear(ctx)
		swept, sweepErr := s.sweepNow(ctx)
		if cleared || swept {
			err = errors.Join(noSpace(s.driver.Create(ctx, ids[0], o)), clearErr, sweepErr)
		}
	}
	if err != nil {
		err = errors.Join(err, s.abandon(ctx, ids))
	}
	return ids[0], err
}

// hasRoom says whether the driver would make a new volume.
func (s *Store) hasRoom(ctx context.Context) bool {
	d, ok := s.driver.(Roomy)
	return !ok || d.Room(ctx) == nil
}

// View shows a layer under a name of its own, read-only, without a volume of its
// own. r.Size has no meaning for it.
func (s *Store) View(ctx context.Context, name string, r CreateRequest) (Info, error) {
	if err := checkName(name); err != nil {
		return Info{}, err
	}
	if err := ctx.Err(); err != nil {
		return Info{}, err
	}
	defer s.lockNew(name, r.Parent)()
	origin, _, err := s.origin(name, r)
	if err != nil {
		return Info{}, err
	}
	if r.Parent != "" {
		if origin, err = s.sealed(ctx, r.Parent); err != nil {
			return Info{}, err
		}
		if !origin.Sealed {
			return Info{}, fmt.Errorf("layer %q is still mounted as the container that it was; unmount it: %w", r.Parent, ErrBusy)
		}
	}
	now := time.Now().UTC()
	in := Info{
		Name: name, Kind: KindView, Parent: r.Parent, Image: r.Image, Labels: r.Labels,
		Volume: origin, Created: now, Updated: now,
	}
	if err := s.commit(func(t *tx) error { return t.addSnapshot(in) }); err != nil {
		return Info{}, fmt.Errorf("creating view: %w", err)
	}
	return in, nil
}

// lockNew locks the name of a new snapshot and, for reading, its parent's. A
// snapshot of itself has one name only; origin refuses it.
func (s *Store) lockNew(name, parent string) (unlock func()) {
	if parent == name {
		return s.names.write(name)
	}
	unlockParent := s.names.read(parent)
	unlockName := s.names.write(name)
	return func() { unlockName(); unlockParent() }
}

// origin is the volume that a new snapshot begins as, and the bytes that its
// layers hold. It refuses names that are taken before anything is made.
func (s *Store) origin(name string, r CreateRequest) (Volume, int64, error) {
	origin := Volume{ID: Base, Size: s.header.BaseSize, Sealed: true}
	var used int64
	err := s.cat.view(func(t *tx) error {
		if old, err := t.snapshot(name); err == nil {
			return fmt.Errorf("%s %q: %w", old.Kind, name, ErrExists)
		} else if !errors.Is(err, ErrNotFound) {
			return err
		}
		if r.Parent == "" {
			return nil
		}
		p, err := t.snapshot(r.Parent)
		if err != nil {
			return fmt.Errorf("parent of %q: %w", name, err)
		}
		if err := p.mayBearChildren(r.FreezeParent); err != nil {
			return fmt.Errorf("parent of %q: %w", name, err)
		}
		origin = p.Volume
		used, _, err = t.chainBytes(p)
		return err
	})
	return origin, used, err
}

// Stat describes a snapshot.
func (s *Store) Stat(_ context.Context, name string) (Info, error) {
	var in Info
	err := s.cat.view(func(t *tx) (err error) { in, err = t.snapshot(name); return err })
	if err != nil {
		return Info{}, err
	}
	return s.withMount(in), nil
}

// withMount says where a snapshot is mounted now, whatever its record says.
func (s *Store) withMount(in Info) Info {
	in.Mounted = ""
	if s.vols.shown(in.Volume.ID) {
		in.Mounted = s.vols.dir(dirMounts, in.Volume.ID)
	}
	return in
}

// List describes all snapshots, ordered by name.
func (s *Store) List(context.Context) ([]Info, error) {
	var all []Info
	err := s.cat.view(func(t *tx) error {
		return t.eachSnapshot(func(in Info) error {
			all = append(all, s.withMount(in))
			return nil
		})
	})
	return all, err
}

// Children describes the snapshots that stand on a layer directly.
func (s *Store) Children(_ context.Context, name string) ([]Info, error) {
	var all []Info
	err := s.cat.view(func(t *tx) error {
		prefix := name + "\x00"
		return t.each(bucketChildren, prefix, func(k string, _ []byte) error {
			in, err := t.snapshot(k[len(prefix):])
			all = append(all, s.withMount(in))
			return err
		})
	})
	return all, err
}

// Mounts returns the mounts that show a container or view, for the caller to
// perform. The volume is active until Remove, or until Close if nobody mounted
// it. Layers are seen through views.
func (s *Store) Mounts(ctx context.Context, name string) ([]mount.Mount, error) {
	defer s.names.read(name)()
	in, err := s.Stat(ctx, name)
	if err != nil {
		return nil, err
	}
	if in.Kind == KindLayer {
		return nil, fmt.Errorf("%q is a layer; make a view or a container of it: %w", name, ErrInvalid)
	}
	ms, err := s.vols.lend(ctx, in.Volume)
	if d, ok := s.driver.(Scratcher); ok && err == nil && in.Scratch {
		ms = d.Scratch(ms)
	}
	return ms, err
}

// Mount shows a snapshot at a directory of the store, which it returns, until
// Unmount; beyond the life of this process. Mounting twice gives the same
// directory. Layers and views are shown read-only.
func (s *Store) Mount(ctx context.Context, name string) (string, error) {
	return s.MountWith(ctx, name, MountOptions{})
}

// MountWith is Mount with options. What is mounted already stays as it is.
func (s *Store) MountWith(ctx context.Context, name string, o MountOptions) (string, error) {
	defer s.names.read(name)()
	in, volume, err := s.volume(ctx, name)
	if err != nil {
		return "", err
	}
	dir, err := s.vols.show(ctx, volume, o)
	if err != nil {
		return "", fmt.Errorf("mounting %s %q: %w", in.Kind, name, err)
	}
	return dir, nil
}

// Unmount undoes Mount. What is not mounted is no error; what is open is
// ErrBusy, and the error names who has it open.
func (s *Store) Unmount(ctx context.Context, name string) error {
	defer s.names.read(name)()
	in, err := s.Stat(ctx, name)
	if err != nil {
		return err
	}
	if err := s.vols.hide(ctx, in.Volume); err != nil {
		return fmt.Errorf("unmounting %s %q: %w", in.Kind, name, err)
	}
	return nil
}

// Use shows a snapshot's tree for as long as the caller needs it, which it ends
// with release. Layers and views are shown read-only.
func (s *Store) Use(ctx context.Context, name string) (dir string, release func() error, err error) {
	in, volume, err := s.volume(ctx, name)
	if err != nil {
		return "", nil, err
	}
	dir, release, err = s.vols.use(ctx, volume)
	if err != nil {
		return "", nil, fmt.Errorf("showing %s %q: %w", in.Kind, name, err)
	}
	return dir, release, nil
}
