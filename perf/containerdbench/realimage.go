package main

import (
	"context"
	"os"

	"github.com/containerd/containerd/v2/pkg/archive"

	"blockstore.dev/blockstore/perf"
)

// rowRealImage is the unpacking of an image by containerd's own applier, which waits for
// no file.
const rowRealImage = "unpack of the real image"

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
