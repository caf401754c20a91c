package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/pkg/archive"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"blockstore.dev/blockstore/perf"
)

// rowRealImage is the unpacking of an image by containerd's own applier, which waits for
// no file.
const rowRealImage = "unpack of the real image"

// layerTars writes the layers of an image in an OCI layout, DIR:REF, into dir as plain
// tars, lowest first, so that decompression is in nobody's time.
func layerTars(from, dir string) (tars []string, err error) {
	layout, ref, _ := strings.Cut(from, ":")
	blob := func(d v1.Descriptor) string {
		return filepath.Join(layout, "blobs", d.Digest.Algorithm().String(), d.Digest.Encoded())
	}
	var index v1.Index
	if err := readJSON(filepath.Join(layout, "index.json"), &index); err != nil {
		return nil, err
	}
	for _, image := range index.Manifests {
		if image.Annotations[v1.AnnotationRefName] != ref {
			continue
		}
		var manifest v1.Manifest
		if err := readJSON(blob(image), &manifest); err != nil {
			return nil, err
		}
		for i, layer := range manifest.Layers {
			to := filepath.Join(dir, fmt.Sprintf("layer-%d.tar", i))
			if err := decompress(blob(layer), to); err != nil {
				return nil, err
			}
			tars = append(tars, to)
		}
		return tars, nil
	}
	return nil, fmt.Errorf("--image: no %q in %s", ref, layout)
}

func readJSON(file string, into any) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

func decompress(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	plain, err := compression.DecompressStream(in)
	if err != nil {
		return err
	}
	defer plain.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() {
		if e := out.Close(); err == nil {
			err = e
		}
	}()
	_, err = io.Copy(out, plain)
	return err
}

// unpackImage makes a chain of the real image's layers.
func (p *peer) unpackImage(ctx context.Context) error {
	if len(p.o.tars) == 0 {
		return nil
	}
	for _, tar := range p.o.tars { // read from memory by all
		if err := perf.Warm(tar); err != nil {
			return err
		}
	}
	names, t, err := p.main.unpack(ctx, len(p.o.tars), func(n int) func(string) error {
		return func(root string) error { return applyTar(ctx, root, p.o.tars[n-1]) }
	})
	if err != nil {
		return err
	}
	if err := p.addUnpacked(rowRealImage, t); err != nil {
		return err
	}
	return p.main.remove(ctx, names)
}

func applyTar(ctx context.Context, root, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = archive.Apply(ctx, root, f)
	return err
}

// addUnpacked records what a chain took, and what it takes until all of it is on disk.
func (p *peer) addUnpacked(row string, t unpackTimes) error {
	flush, err := timed(func() error { return perf.Flush(p.main.dir) })
	if err != nil {
		return err
	}
	p.add(row, t.total())
	// Parts stand behind their row: the last that is added first stands first.
	p.addPart(row, partOnDisk, t.total()+flush)
	p.addPart(row, "commit", t.commit)
	p.addPart(row, "mount, write, unmount", t.write)
	p.addPart(row, "prepare", t.prepare)
	return nil
}
