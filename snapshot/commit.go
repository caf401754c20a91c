package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"

	"blockstore.dev/blockstore/snapshot/failpoint"
	"blockstore.dev/blockstore/snapshot/layertar"
)

// Commit takes a snapshot of a container as it is now, computes its tar over the
// container's layer, and enters it as a layer, with an image if r.Config is set.
// The container may be mounted and written to meanwhile: the file system is
// frozen for the snapshot only. A container without changes gives a layer all
// the same.
func (s *Store) Commit(ctx context.Context, container string, r CommitRequest) (Image, Info, error) {
	in, parent, err := s.committable(ctx, container)
	if err != nil {
		return Image{}, Info{}, err
	}
	defer s.names.read(in.Parent)()
	defer s.names.read(container)()
	ids, err := s.ids.take(ctx, 1)
	if err != nil {
		return Image{}, Info{}, err
	}
	layer, err := s.freeze(ctx, in, ids[0], r.Progress)
	if err != nil {
		return Image{}, Info{}, errors.Join(fmt.Errorf("committing %q: %w", container, err), s.abandon(ctx, ids))
	}
	im, kept, err := s.enter(ctx, layer, parent, r)
	if err != nil || kept.Volume.ID != layer.Volume.ID { // failed, or the same layer is there already
		err = errors.Join(err, s.abandon(ctx, ids))
	}
	if err != nil {
		return Image{}, Info{}, fmt.Errorf("committing %q: %w", container, err)
	}
	s.ids.done(ids...)
	return im, kept, nil
}

// committable finds the container and the image that it was made from.
func (s *Store) committable(ctx context.Context, name string) (Info, Image, error) {
	in, err := s.Stat(ctx, name)
	if err != nil {
		return in, Image{}, err
	}
	if in.Kind != KindContainer {
		return in, Image{}, fmt.Errorf("%s %q cannot be committed, only containers can: %w", in.Kind, name, ErrInvalid)
	}
	if in.Image == "" {
		return in, Image{}, nil
	}
	im, err := s.Image(ctx, in.Image.String())
	return in, im, err
}

// freeze makes the sealed volume id out of a container's present state, and the
// layer record for it.
func (s *Store) freeze(ctx context.Context, c Info, id VolumeID, progress func(int64)) (Info, error) {
	opts := CreateOptions{Origin: c.Volume, Size: c.Volume.Size}
	if err := s.driver.Create(ctx, id, opts); err != nil {
		return Info{}, noSpace(err)
	}
	now := time.Now().UTC()
	failpoint.Hit("commit.volume")
	v := Volume{ID: id, Origin: c.Volume.ID, Size: c.Volume.Size}
	if err := s.driver.Seal(ctx, v); err != nil {
		return Info{}, noSpace(err)
	}
	v.Sealed = true
	failpoint.Hit("commit.sealed")
	layer := Info{Kind: KindLayer, Parent: c.Parent, Volume: v, Created: now, Updated: now}
	diff, err := s.recordTar(ctx, layer, c, progress)
	if err != nil {
		return Info{}, err
	}
	failpoint.Hit("commit.recorded")
	layer.DiffID, layer.TarSize = diff.DiffID, diff.TarBytes
	layer.Name, err = s.chainName(c.Parent, diff.DiffID)
	if err != nil {
		return Info{}, err
	}
	// What it added is counted against the layer below, not against the container.
	counted := v
	counted.Origin = c.Volume.Origin
	layer.Volume.Origin = counted.Origin
	layer.Usage, err = s.driver.Usage(ctx, counted)
	return layer, err
}

// chainName is the ChainID of a layer on top of another.
func (s *Store) chainName(parent string, diff digest.Digest) (string, error) {
	if parent == "" {
		return diff.String(), nil
	}
	p, err := digest.Parse(parent)
	if err != nil {
		return "", fmt.Errorf("layer %q has no ChainID to build on: %w", parent, ErrInvalid)
	}
	return identity.ChainID([]digest.Digest{p, diff}).String(), nil
}

// recordTar computes the tar of a sealed copy of a container over its parent and keeps
// what is needed to write it again.
func (s *Store) recordTar(ctx context.Context, layer, container Info, progress func(int64)) (_ layertar.Diffed, err error) {
	upper, release, err := s.vols.use(ctx, layer.Volume)
	if err != nil {
		return layertar.Diffed{}, err
	}
	defer func() { err = errors.Join(err, release()) }()
	lower, opts := "", layertar.DiffOptions{}
	if layer.Parent != "" {
		parent, volume, err := s.volume(ctx, layer.Parent)
		if err != nil {
			return layertar.Diffed{}, err
		}
		dir, release, err := s.vols.use(ctx, volume)
		if err != nil {
			return layertar.Diffed{}, err
		}
		defer func() { err = errors.Join(err, release()) }()
		lower = dir
		opts.CompareOptions = layertar.CompareOptions{Snapshots: true, Since: since(parent, container)}
		if opts.Lineage, err = s.track(ctx, volume, dir, opts.Since, container, layer.Volume); err != nil {
			return layertar.Diffed{}, err
		}
	}
	return s.splitDiff(ctx, lower, upper, s.tarPath(layer.Volume.ID), opts, progress)
}

// splitDiff runs the tar of a diff through the splitter, into the file at path.
func (s *Store) splitDiff(ctx context.Context, lower, upper, path string, opts layertar.DiffOptions, progress func(int64)) (_ layertar.Diffed, err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return layertar.Diffed{}, noSpace(err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if progress == nil {
		progress = func(int64) {}
	}
	pr, pw := io.Pipe()
	split := make(chan error, 1)
	go func() {
		err := layertar.Split(ctx, &countingReader{r: pr, report: progress}, f)
		pr.CloseWithError(err)
		split <- err
	}()
	diff, err := layertar.Diff(ctx, lower, upper, pw, opts)
	pw.CloseWithError(err)
	if splitErr := <-split; err == nil {
		err = splitErr
	}
	if err != nil {
		return diff, fmt.Errorf("computing the changes: %w", noSpace(err))
	}
	if err := syncFile(f); err != nil {
		return diff, err
	}
	return diff, syncDir(filepath.Dir(path))
}

// enter commits the layer and its image. If the layer's content is in the store
// already, under the same ChainID, that one is used; it is returned.
func (s *Store) enter(ctx context.Context, layer Info, parent Image, r CommitRequest) (Image, Info, error) {
	defer s.names.write(layer.Name)()
	kept, err := s.Stat(ctx, layer.Name)
	isNew := errors.Is(err, ErrNotFound)
	if isNew {
		kept = layer
	} else if err != nil {
		return Image{}, kept, err
	}
	var im Image
	if r.Config != nil {
		config, err := r.Config(kept, parent)
		if err != nil {
			return Image{}, kept, fmt.Errorf("making the image's configuration: %w", err)
		}
		layers, err := s.chain(kept)
		if err != nil {
			return Image{}, kept, err
		}
		im = Image{
			ID: digest.FromBytes(config), Config: config, Layers: layers,
			Refs: r.Refs, Created: time.Now().UTC(),
		}
	}
	err = s.commit(func(t *tx) error {
		if isNew {
			if err := t.sumUp(&kept); err != nil {
				return err
			}
			if err := t.addSnapshot(kept); err != nil {
				return err
			}
		}
		if im.ID == "" {
			return nil
		}
		return t.putImage(im)
	})
	if err == nil {
		failpoint.Hit("commit.committed")
	}
	return im, kept, err
}

// chain lists the names of a layer and those below it, lowest first.
func (s *Store) chain(top Info) ([]string, error) {
	names := []string{top.Name}
	err := s.cat.view(func(t *tx) error {
		for at := top.Parent; at != ""; {
			in, err := t.snapshot(at)
			if err != nil {
				return err
			}
			names = append([]string{at}, names...)
			at = in.Parent
		}
		return nil
	})
	return names, err
}
