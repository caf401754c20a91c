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
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot/failpoint"
	"blockstore.dev/blockstore/snapshot/layertar"
)

// maxLayers bounds an image: device-mapper and btrfs have no limit of their own,
// but a config that names more than this is not an image.
const maxLayers = 4096

// Load puts an image with its layers into the store. Layers that are there
// already are not read. The others are unpacked on one volume that stays mounted
// for the whole chain, with a snapshot at each boundary. All of it becomes
// visible in one commit, or none of it.
//
// A layer whose tar has another digest than its DiffID, or breaks a rule of
// package layertar, is ErrInvalid; one that does not fit is ErrNoSpace.
func (s *Store) Load(ctx context.Context, r LoadRequest) (Image, error) {
	if len(r.Layers) > maxLayers {
		return Image{}, fmt.Errorf("an image of %d layers (at most %d): %w", len(r.Layers), maxLayers, ErrInvalid)
	}
	names, err := chainNames(r.Layers)
	if err != nil {
		return Image{}, err
	}
	have, unlock, err := s.lockChain(names)
	if err != nil {
		return Image{}, err
	}
	defer unlock()
	for i := range have {
		r.report(LoadProgress{Layer: i, Done: true, Known: true})
	}
	l := &loading{store: s, request: r, names: names, have: have}
	if err := l.unpack(ctx); err != nil {
		return Image{}, errors.Join(err, s.abandon(ctx, l.ids))
	}
	im := r.image(names)
	err = s.commit(func(t *tx) error {
		for _, in := range l.infos {
			if err := t.sumUp(&in); err != nil {
				return err
			}
			if err := t.addSnapshot(in); err != nil {
				return err
			}
		}
		if im.ID == "" {
			return nil
		}
		return t.putImage(im)
	})
	if err != nil {
		return Image{}, errors.Join(fmt.Errorf("loading: %w", err), s.abandon(ctx, l.ids))
	}
	failpoint.Hit("load.committed")
	s.ids.done(l.ids...)
	if im.ID == "" {
		return Image{Layers: names}, nil
	}
	return s.Image(ctx, im.ID.String())
}

func (r LoadRequest) report(p LoadProgress) {
	if r.Progress != nil {
		r.Progress(p)
	}
}

// image is the record that the request asks for; its ID is empty without a config.
func (r LoadRequest) image(names []string) Image {
	if r.Config == nil {
		return Image{}
	}
	im := Image{ID: digest.FromBytes(r.Config), Config: r.Config, Layers: names, Refs: r.Refs, Created: r.Created}
	if im.Created.IsZero() {
		im.Created = time.Now().UTC()
	}
	return im
}

// chainNames are the ChainIDs of a list of layers.
func chainNames(layers []LayerSource) ([]string, error) {
	ids := make([]digest.Digest, len(layers))
	for i, l := range layers {
		if err := l.DiffID.Validate(); err != nil {
			return nil, fmt.Errorf("DiffID %q of layer %d: %w: %w", l.DiffID, i, ErrInvalid, err)
		}
		ids[i] = l.DiffID
	}
	names := make([]string, len(ids))
	for i, c := range identity.ChainIDs(ids) {
		names[i] = c.String()
	}
	return names, nil
}

// lockChain keeps others from loading the layers that are missing and from
// removing the ones that are there, from the lowest up. It says how many are
// there.
func (s *Store) lockChain(names []string) (have int, unlock func(), err error) {
	var held []func()
	unlock = func() {
		for i := len(held) - 1; i >= 0; i-- {
			held[i]()
		}
	}
	exists := func(name string) (bool, error) {
		in, err := s.Stat(context.Background(), name)
		if errors.Is(err, ErrNotFound) {
			return false, nil
		}
		if err == nil && in.Kind != KindLayer {
			err = fmt.Errorf("%s %q has a layer's name: %w", in.Kind, name, ErrExists)
		}
		return err == nil, err
	}
	missing := false
	for _, name := range names {
		if !missing {
			held = append(held, s.names.read(name))
			ok, err := exists(name)
			if err != nil {
				unlock()
				return 0, nil, err
			}
			if ok {
				have++
				continue
			}
			held[len(held)-1]()
			held = held[:len(held)-1]
		}
		held = append(held, s.names.write(name))
		ok, err := exists(name) // somebody may have loaded it while we waited
		if err != nil {
			unlock()
			return 0, nil, err
		}
		if ok && !missing {
			have++
			continue
		}
		missing = true
	}
	return have, unlock, nil
}

// loading is one Load under way.
type loading struct {
	store   *Store
	request LoadRequest
	names   []string
	have    int

	ids    []VolumeID
	infos  []Info
	origin Volume
	used   int64
}

// unpack writes the missing layers. What it made is in ids, whether it succeeds
// or not.
func (l *loading) unpack(ctx context.Context) (err error) {
	s := l.store
	missing := l.request.Layers[l.have:]
	if len(missing) == 0 {
		return nil
	}
	l.origin = Volume{ID: Base, Size: s.header.BaseSize, Sealed: true}
	if l.have > 0 {
		err := s.cat.view(func(t *tx) error {
			in, err := t.snapshot(l.names[l.have-1])
			if err != nil {
				return err
			}
			l.origin = in.Volume
			l.used, _, err = t.chainBytes(in)
			return err
		})
		if err != nil {
			return err
		}
	}
	if l.ids, err = s.ids.take(ctx, len(missing)); err != nil {
		return err
	}
	failpoint.Hit("load.reserved")
	target := s.vols.dir(dirWork, l.ids[len(l.ids)-1])
	if err := os.Mkdir(target, 0o700); err != nil {
		return noSpace(err)
	}
	defer func() { err = errors.Join(err, ignoreMissing(os.Remove(target))) }()
	up, err := s.driver.Unpack(ctx, UnpackOptions{
		Origin: l.origin, Volumes: l.ids, OriginBytes: l.used, Target: target,
	})
	if err != nil {
		return fmt.Errorf("preparing a volume for the layers: %w", noSpace(err))
	}
	failpoint.Hit("load.prepared")
	defer func() {
		err = errors.Join(err, up.Close())
		failpoint.Hit("load.unpacked")
	}()
	for i := range missing {
		if err := l.layer(ctx, up, i); err != nil {
			return fmt.Errorf("layer %d (%s): %w", l.have+i+1, missing[i].DiffID, err)
		}
	}
	return syncDir(filepath.Join(s.root, dirTars))
}

// layer unpacks the i-th missing layer, verifies and seals it.
func (l *loading) layer(ctx context.Context, up Unpacker, i int) error {
	s, index := l.store, l.have+i
	src := l.request.Layers[index]
	failpoint.Hit("load.layer")
	applied, err := l.apply(ctx, up.Dir(), index, src, s.tarPath(l.ids[i]))
	if err != nil {
		return err
	}
	if applied.DiffID != src.DiffID {
		return fmt.Errorf("its content has the digest %s: %w", applied.DiffID, ErrInvalid)
	}
	frozen := time.Now().UTC()
	failpoint.Hit("load.applied")
	if err := up.Seal(ctx); err != nil {
		return fmt.Errorf("sealing: %w", noSpace(err))
	}
	failpoint.Hit("load.sealed")
	in := Info{
		Name: l.names[index], Kind: KindLayer, DiffID: src.DiffID, TarSize: applied.TarBytes,
		Volume:  Volume{ID: l.ids[i], Origin: l.origin.ID, Size: l.origin.Size, Sealed: true},
		Created: frozen, Updated: frozen,
	}
	if index > 0 {
		in.Parent = l.names[index-1]
	}
	if in.Usage, err = s.driver.Usage(ctx, in.Volume); err != nil {
		return fmt.Errorf("counting its bytes: %w", err)
	}
	l.infos = append(l.infos, in)
	l.origin = in.Volume
	l.used += in.Usage.Added
	l.request.report(LoadProgress{Layer: index, Read: applied.TarBytes, Done: true})
	return nil
}

// apply unpacks one tar beneath dir and keeps what is needed to write it again.
func (l *loading) apply(ctx context.Context, dir string, index int, src LayerSource, tarPath string) (_ layertar.Applied, err error) {
	r, err := src.Open(ctx)
	if err != nil {
		return layertar.Applied{}, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	split, err := os.OpenFile(tarPath, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return layertar.Applied{}, noSpace(err)
	}
	defer func() { err = errors.Join(err, split.Close()) }()
	counted := &countingReader{r: r, report: func(n int64) {
		l.request.report(LoadProgress{Layer: index, Read: n})
	}}
	applied, err := layertar.Apply(ctx, dir, counted, layertar.ApplyOptions{
		MaxBytes:  max(l.origin.Size-l.used, 1),
		NoDevices: l.request.NoDevices,
		Split:     split,
	})
	if err != nil {
		return applied, archiveError(err)
	}
	return applied, syncFile(split)
}

// archiveError puts this package's sentinels beside layertar's.
func archiveError(err error) error {
	switch {
	case errors.Is(err, layertar.ErrTooLarge):
		return fmt.Errorf("%w: %w (give the store a larger --base-size)", ErrNoSpace, err)
	case errors.Is(err, layertar.ErrArchive):
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return noSpace(err)
}

// countingReader reports progress every few MiB.
type countingReader struct {
	r           io.Reader
	n, reported int64
	report      func(int64)
}

const reportEvery = 4 << 20

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if c.n-c.reported >= reportEvery {
		c.reported = c.n
		c.report(c.n)
	}
	return n, err
}

// syncFile makes what was written to a file durable.
func syncFile(f *os.File) error {
	if failpoint.Leave("flush") {
		return nil
	}
	return noSpace(f.Sync())
}

// syncTree writes the file system that holds dir out, and tells of its errors,
// which unmounting does not.
func syncTree(dir string) error {
	if failpoint.Leave("flush") {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = unix.Syncfs(int(d.Fd()))
	if err != nil {
		err = fmt.Errorf("writing out %s: %w", dir, err)
	}
	return errors.Join(err, d.Close())
}

// syncDir makes new names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(syncFile(d), d.Close())
}
