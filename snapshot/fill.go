package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"blockstore.dev/blockstore/snapshot/failpoint"
	"blockstore.dev/blockstore/snapshot/layertar"
)

// Fill unpacks a layer tar into a container and makes the container a layer, with
// the tar's digest, under the name that it has. A container is filled once: that
// Fill has begun is committed before anything is read, and a second Fill is
// ErrInvalid, also after a first one that failed or was killed. Such a container
// is good for Remove only. The store keeps no record of the tar: see Info.NoTar.
func (s *Store) Fill(ctx context.Context, name string, r FillRequest) (layertar.Applied, error) {
	defer s.names.write(name)()
	in, err := s.beginFill(name)
	if err == nil {
		failpoint.Hit("fill.begun")
		var applied layertar.Applied
		if applied, err = s.fill(ctx, in, r); err == nil {
			return applied, nil
		}
	}
	_, drainErr := io.Copy(io.Discard, r.Tar) // whoever writes the tar hears of the error only then
	return layertar.Applied{}, errors.Join(fmt.Errorf("unpacking into %q: %w", name, err), drainErr)
}

// beginFill commits that Fill has begun.
func (s *Store) beginFill(name string) (Info, error) {
	var in Info
	err := s.commit(func(t *tx) (err error) {
		if in, err = t.snapshot(name); err != nil {
			return err
		}
		switch {
		case in.Kind != KindContainer:
			return fmt.Errorf("it is a %s, which nothing can be written to: %w", in.Kind, ErrInvalid)
		case in.Filling:
			return fmt.Errorf("that was begun before, and not finished; remove it and begin anew: %w", ErrInvalid)
		}
		in.Filling = true
		return t.put(bucketSnapshots, name, in)
	})
	return in, err
}

func (s *Store) fill(ctx context.Context, in Info, r FillRequest) (applied layertar.Applied, err error) {
	below, err := s.below(in)
	if err != nil {
		return applied, err
	}
	applied, frozen, err := s.applyTo(ctx, in.Volume, r, room(in, below))
	if err != nil {
		return applied, err
	}
	failpoint.Hit("fill.applied")
	in.Kind, in.Filling, in.NoTar, in.Scratch = KindLayer, false, true, false
	in.DiffID, in.TarSize = applied.DiffID, applied.TarBytes
	in.Created, in.Updated = frozen, frozen
	var spare []VolumeID
	in.Volume.Sealed, err = s.vols.sealIdle(in.Volume.ID, func() (err error) {
		spare, err = s.sealWithSpare(ctx, in.Volume, below)
		return err
	})
	if err != nil {
		return applied, fmt.Errorf("sealing: %w", err)
	}
	failpoint.Hit("fill.sealed")
	defer func() {
		if err != nil {
			err = errors.Join(err, s.abandon(ctx, spare))
		}
	}()
	if in.Usage, err = s.driver.Usage(ctx, in.Volume); err != nil {
		return applied, fmt.Errorf("counting its bytes: %w", err)
	}
	err = s.commit(func(t *tx) error {
		if err := t.sumUp(&in); err != nil {
			return err
		}
		return t.put(bucketSnapshots, in.Name, in)
	})
	if err != nil {
		return applied, err
	}
	failpoint.Hit("fill.committed")
	s.giveSpare(in, below, spare)
	return applied, nil
}

// Apply unpacks a layer tar into a container, which stays one, and writes it out. It
// keeps nobody from using the container meanwhile, only from removing it, which is
// ErrBusy. After an error the container holds some of the layer and is good for
// Remove only; what is wrong with the tar is ErrInvalid.
func (s *Store) Apply(ctx context.Context, name string, r FillRequest) (layertar.Applied, error) {
	in, err := s.Stat(ctx, name)
	if err != nil {
		return layertar.Applied{}, err
	}
	if in.Kind != KindContainer || in.Filling {
		return layertar.Applied{}, fmt.Errorf("unpacking into %s %q: only containers, and those that were never filled, can be written to: %w", in.Kind, name, ErrInvalid)
	}
	below, err := s.below(in)
	if err != nil {
		return layertar.Applied{}, err
	}
	applied, _, err := s.applyTo(ctx, in.Volume, r, room(in, below))
	if err != nil {
		return applied, fmt.Errorf("unpacking into %q: %w", name, err)
	}
	return applied, nil
}

// room is how many bytes of files a container can take at most on layers that hold below.
func room(in Info, below int64) int64 { return max(in.Volume.Size-below, 1) }

// applyTo unpacks a tar into a volume and writes it out: sealing does that only
// where nobody else has the volume mounted. It says when the last file was
// written.
func (s *Store) applyTo(ctx context.Context, v Volume, r FillRequest, most int64) (_ layertar.Applied, frozen time.Time, err error) {
	dir, release, err := s.vols.use(ctx, v)
	if err != nil {
		return layertar.Applied{}, frozen, err
	}
	defer func() { err = errors.Join(err, release()) }()
	applied, err := layertar.Apply(ctx, dir, r.Tar, layertar.ApplyOptions{MaxBytes: most, NoDevices: r.NoDevices, Owners: r.Owners})
	if err != nil {
		return applied, frozen, archiveError(err)
	}
	return applied, time.Now().UTC(), noSpace(syncTree(dir))
}
