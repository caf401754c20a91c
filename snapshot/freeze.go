package snapshot

import (
	"context"
	"errors"
	"fmt"
	"time"

	"blockstore.dev/blockstore/snapshot/failpoint"
)

// mayBearChildren says why nothing can be made on top of a snapshot. freeze lets
// containers become layers for that.
func (in Info) mayBearChildren(freeze bool) error {
	switch {
	case in.Kind == KindLayer:
		return nil
	case in.Kind == KindContainer && freeze && !in.Filling:
		return nil
	case in.Kind == KindContainer && freeze:
		return fmt.Errorf("unpacking a tar into %q was begun and never finished; remove it: %w", in.Name, ErrInvalid)
	}
	return fmt.Errorf("%q is a %s, not a layer: %w", in.Name, in.Kind, ErrInvalid)
}

// freeze makes a container a layer in the catalog. Its volume is still to be
// sealed. It says whether there was anything to do.
func (t *tx) freeze(name string, at time.Time) (bool, error) {
	in, err := t.snapshot(name)
	if err != nil {
		return false, err
	}
	if err := in.mayBearChildren(true); err != nil {
		return false, err
	}
	if in.Kind == KindLayer {
		return false, nil
	}
	in.Kind, in.NoTar, in.Scratch = KindLayer, true, false
	in.Created, in.Updated = at, at
	return true, t.put(bucketSnapshots, name, in)
}

// FreezeRequest turns a container into a layer.
type FreezeRequest struct {
	// Name is the layer's; "" leaves the container's.
	Name string
	// Labels are the layer's. The container's are not inherited.
	Labels map[string]string
}

// Freeze makes a container a layer, as it is now, in one commit; the container's
// name is free then. What was written is durable before. The volume is sealed
// unless somebody has it mounted: then that happens when it is next used by
// nobody, and who has files open for writing can change the layer until then. The
// layer has no tar record, see Info.NoTar.
//
// A process that keeps spares has one of the layer then, where the driver makes it by the
// way.
//
// A snapshot that is no container is ErrInvalid, a name that is taken ErrExists.
func (s *Store) Freeze(ctx context.Context, container string, r FreezeRequest) (Info, error) {
	if r.Name == "" {
		r.Name = container
	}
	if err := checkName(r.Name); err != nil {
		return Info{}, err
	}
	defer s.names.writeBoth(container, r.Name)()
	in, err := s.Stat(ctx, container)
	if err == nil && r.Name != container {
		if old, err := s.Stat(ctx, r.Name); err == nil {
			return Info{}, fmt.Errorf("%s %q: %w", old.Kind, r.Name, ErrExists)
		}
	}
	if err == nil {
		err = in.mayBearChildren(true)
	}
	if err == nil && in.Kind != KindContainer {
		err = fmt.Errorf("it is a %s already: %w", in.Kind, ErrInvalid)
	}
	if err == nil {
		in, err = s.freezeAs(ctx, in, r)
	}
	if err != nil {
		return Info{}, fmt.Errorf("making container %q a layer: %w", container, err)
	}
	return s.withMount(in), nil
}

func (s *Store) freezeAs(ctx context.Context, in Info, r FreezeRequest) (_ Info, err error) {
	below, err := s.below(in)
	if err != nil {
		return in, err
	}
	var spare []VolumeID
	in.Volume.Sealed, err = s.settle(ctx, in.Volume, func() error {
		spare, err = s.sealWithSpare(ctx, in.Volume, below)
		return err
	})
	if err != nil {
		return in, err
	}
	failpoint.Hit("freeze.settled")
	defer func() {
		if err != nil {
			err = errors.Join(err, s.abandon(ctx, spare))
		}
		if err != nil && in.Volume.Sealed {
			err = errors.Join(err, s.unseal(context.WithoutCancel(ctx), in.Volume.ID))
		}
	}()
	if in.Usage, err = s.driver.Usage(ctx, in.Volume); err != nil {
		return in, err
	}
	old := in.Name
	in.Name, in.Kind, in.NoTar, in.Labels, in.Mounted = r.Name, KindLayer, true, r.Labels, ""
	in.Scratch = false
	in.Created = time.Now().UTC()
	in.Updated = in.Created
	err = s.commit(func(t *tx) error {
		if err := t.rename(old, in.Name); err != nil {
			return err
		}
		if err := t.sumUp(&in); err != nil {
			return err
		}
		return t.put(bucketSnapshots, in.Name, in)
	})
	if err != nil {
		return in, err
	}
	failpoint.Hit("freeze.committed")
	if !in.Volume.Sealed {
		s.vols.refuseWriters(in.Volume.ID)
	}
	s.giveSpare(in, below, spare)
	return in, nil
}

// sealWithSpare seals a volume. Whoever commits a layer goes on to make something of it,
// the next layer or a container: where spares are kept, and both together are a wait for the
// disk less, one is made by the way.
func (s *Store) sealWithSpare(ctx context.Context, v Volume, below int64) (spare []VolumeID, err error) {
	if d, ok := s.driver.(Stacker); ok && s.spares.kept() {
		ids, err := s.ids.take(ctx, 1)
		if err == nil {
			err = d.SealBelow(ctx, v, ids[0], below)
		}
		if err == nil {
			failpoint.Hit("seal.spare")
			return ids, nil
		}
		if err := s.abandon(ctx, ids); err != nil {
			return nil, err
		}
		if errors.Is(err, ErrBusy) {
			return nil, err
		}
		// There may be room for the layer and none for another volume.
	}
	return nil, noSpace(s.driver.Seal(ctx, v))
}

// giveSpare hands over what sealWithSpare made on top of a layer that is committed by now.
func (s *Store) giveSpare(in Info, below int64, spare []VolumeID) {
	if len(spare) > 0 {
		s.spares.give(CreateOptions{Origin: in.Volume, Size: in.Volume.Size, OriginBytes: below + in.Usage.Added}, spare[0])
	}
}

// unseal makes containers writable again that were sealed and did not become layers.
func (s *Store) unseal(ctx context.Context, ids ...VolumeID) error {
	d, ok := s.driver.(Unsealer)
	if !ok {
		return nil
	}
	return d.Unseal(ctx, ids...)
}

// unsealContainers does it for those that a process left that died in between.
func (s *Store) unsealContainers(ctx context.Context) error {
	if _, ok := s.driver.(Unsealer); !ok {
		return nil
	}
	var ids []VolumeID
	err := s.cat.view(func(t *tx) error {
		return t.eachContainer(func(in Info) error {
			if !in.Filling {
				ids = append(ids, in.Volume.ID)
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	return s.unseal(ctx, ids...)
}

// settle makes what is in a volume durable, and seals it unless it is in use.
func (s *Store) settle(ctx context.Context, v Volume, seal func() error) (sealed bool, err error) {
	sealed, err = s.vols.sealIdle(v.ID, seal)
	if err != nil && !errors.Is(err, ErrBusy) || sealed {
		return sealed, err
	}
	dir, release, err := s.vols.use(ctx, v)
	if err != nil {
		return false, err
	}
	err = noSpace(syncTree(dir))
	if d, ok := s.driver.(Scratcher); ok && err == nil {
		err = noSpace(d.Flush(ctx))
	}
	return false, errors.Join(err, release())
}

// volume is a snapshot and its volume, which is sealed if it is a layer's.
func (s *Store) volume(ctx context.Context, name string) (Info, Volume, error) {
	in, err := s.Stat(ctx, name)
	if err != nil || in.Kind != KindLayer || in.Volume.Sealed {
		return in, in.Volume, err
	}
	v, err := s.sealed(ctx, name)
	return in, v, err
}

// errSealedBefore says that somebody else has sealed a layer meanwhile.
var errSealedBefore = errors.New("sealed before")

// sealed is a layer's volume. One that was frozen in use is sealed now, if its
// users are gone; else they and others go on with it as it is.
func (s *Store) sealed(ctx context.Context, name string) (Volume, error) {
	in, err := s.Stat(ctx, name)
	if err != nil || in.Volume.Sealed {
		return in.Volume, err
	}
	v := in.Volume
	_, err = s.vols.sealIdle(v.ID, func() error {
		if in, err = s.Stat(ctx, name); err != nil {
			return err
		}
		if in.Volume.Sealed {
			v = in.Volume
			return errSealedBefore
		}
		if err := s.driver.Seal(ctx, v); err != nil {
			return noSpace(err)
		}
		failpoint.Hit("freeze.sealed")
		v.Sealed = true
		usage, err := s.driver.Usage(ctx, v)
		if err != nil {
			return err
		}
		return s.commit(func(t *tx) error {
			in, err := t.snapshot(name)
			if err != nil {
				return err
			}
			in.Volume.Sealed, in.Usage = true, usage
			if err := t.sumUp(&in); err != nil {
				return err
			}
			return t.put(bucketSnapshots, name, in)
		})
	})
	if err != nil && !errors.Is(err, errSealedBefore) {
		return v, fmt.Errorf("sealing layer %q: %w", name, err)
	}
	return v, nil
}
