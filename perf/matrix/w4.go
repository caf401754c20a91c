package matrix

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"

	"blockstore.dev/blockstore/perf"
	"blockstore.dev/blockstore/perf/peers"
	"blockstore.dev/blockstore/snapshot"
)

// rowUnpack is W4's one.
func rowUnpack() measure { return row("an image's layers until all of it is on disk") }

// unpack is W4.
func unpack() workload {
	return workload{
		name:        "W4",
		title:       "unpack: an image's layers, plain tars in memory: loaded into a store, or by tar -x one over the other into one directory of a plain file system; until all of it is on disk. The image is the one of --image, or three made-up layers of small files and one large one each",
		fileSystems: true, programs: []string{"tar"}, counted: inFull,
		only: func(p peers.Peer) string {
			if p.FileSystem || p.Ours() {
				return ""
			}
			return "it has no way of its own to unpack an image; dockerbench and containerdbench have Docker's and containerd's"
		},
		prepare: func(_ context.Context, s *stand) (err error) {
			dir := filepath.Join(s.site.Dir, "tars")
			if err := os.Mkdir(dir, 0o755); err != nil {
				return err
			}
			if s.image != "" {
				s.tars, err = perf.LayerTars(s.image, dir)
				return err
			}
			s.tars, err = s.scale.madeUp(dir)
			return err
		},
		round: func(ctx context.Context, s *stand) error {
			for _, file := range s.tars {
				if err := perf.Warm(file); err != nil {
					return err
				}
			}
			if ours, ok := s.Store.(*peers.Blockstore); ok {
				return s.load(ctx, ours)
			}
			return s.extract(ctx)
		},
	}
}

// load is the store's way.
func (s *stand) load(ctx context.Context, ours *peers.Blockstore) error {
	var layers []snapshot.LayerSource
	for _, file := range s.tars {
		source, err := layerFrom(file)
		if err != nil {
			return err
		}
		layers = append(layers, source)
	}
	err := s.onDisk(rowUnpack(), func() error {
		_, err := ours.Load(ctx, snapshot.LoadRequest{Layers: layers})
		return err
	})
	if err != nil {
		return err
	}
	_, err = ours.GC(ctx) // nothing needs the layers
	return err
}

// layerFrom is a layer whose tar lies in a file.
func layerFrom(file string) (snapshot.LayerSource, error) {
	f, err := os.Open(file)
	if err != nil {
		return snapshot.LayerSource{}, err
	}
	defer f.Close()
	id, err := digest.FromReader(f)
	return snapshot.LayerSource{DiffID: id, Open: func(context.Context) (io.ReadCloser, error) { return os.Open(file) }}, err
}

// extract is tar's. Whiteouts are files to it.
func (s *stand) extract(ctx context.Context) error {
	name := s.name("tree")
	empty := func(string) error { return nil }
	if err := s.Layer(ctx, name, "", empty); err != nil {
		return err
	}
	dir, err := s.Mount(ctx, name)
	if err != nil {
		return err
	}
	err = s.onDisk(rowUnpack(), func() error {
		for _, file := range s.tars {
			if _, err := perf.Output(ctx, "tar", "-x", "-C", dir, "-f", file, "--numeric-owner", "--xattrs", "--xattrs-include=*"); err != nil {
				return err
			}
		}
		return nil
	})
	return errors.Join(err, s.Remove(ctx, name))
}

// madeUp writes three layers.
func (s Scale) madeUp(dir string) (tars []string, err error) {
	for i := range 3 {
		file := filepath.Join(dir, fmt.Sprintf("layer-%d.tar", i))
		if err := s.madeUpLayer(file, i); err != nil {
			return nil, err
		}
		tars = append(tars, file)
	}
	return tars, nil
}

func (s Scale) madeUpLayer(file string, n int) error {
	var names []string
	for i := range s.Files / 3 {
		names = append(names, fmt.Sprintf("layer-%d/dir-%d/file-%d", n, i/filesInDir, i))
	}
	return writeTar(file, byte(n), map[string]int64{fmt.Sprintf("large-%d", n): s.FileSize / 16}, names)
}

// writeTar writes a layer's tar: large files of random bytes, by name, and small ones
// of 4 KiB.
func writeTar(file string, seed byte, large map[string]int64, small []string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	t := tar.NewWriter(f)
	random := rand.NewChaCha8([32]byte{seed})
	add := func(name string, size int64) error {
		if err := t.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: size}); err != nil {
			return err
		}
		_, err := io.CopyN(t, random, size)
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(large)) {
		err = errors.Join(err, add(name, large[name]))
	}
	for _, name := range small {
		if err == nil {
			err = add(name, 4<<10)
		}
	}
	return errors.Join(err, t.Close(), f.Close())
}
