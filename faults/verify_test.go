package faults

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"

	"blockstore.dev/blockstore/snapshot"
)

// verifier asks a store for what a history says that it must have.
type verifier struct {
	s    *snapshot.Store
	h    *history
	base snapshot.Image
	// k is the crash point.
	k int
	// cut says that the power was.
	cut bool
	// every content is read, or one of so many, those that changed of late always.
	recent int
	chance *rand.Rand
	sample int

	found []string
	// read counts the layers and containers whose content was read.
	read int
}

func (v *verifier) fail(format string, args ...any) {
	v.found = append(v.found, fmt.Sprintf(format, args...))
}

// all is what must hold after recovery; each line of the result is something that does not.
func (v *verifier) all(ctx context.Context) []string {
	report, err := v.s.Check(ctx, snapshot.CheckOptions{})
	if err != nil {
		v.fail("check: %v", err)
		return v.found
	}
	for _, f := range report.Findings {
		v.fail("check: volume %d: %s", f.Volume, f.Text)
	}
	if report.Pending > 0 {
		v.fail("check: %d removals are still to be done", report.Pending)
	}
	v.expect(ctx)
	return v.found
}

// expect compares what is visible with the history, and reads it.
func (v *verifier) expect(ctx context.Context) {
	listed, err := v.s.List(ctx)
	if err != nil {
		v.fail("list: %v", err)
		return
	}
	infos := map[string]snapshot.Info{}
	for _, in := range listed {
		infos[in.Name] = in
	}
	explained := map[string]bool{}
	for _, name := range v.base.Layers {
		explained[name] = true
		v.layer(ctx, name, "")
	}
	present := map[*object]bool{}
	for _, o := range v.h.objects {
		must, may := o.presence(v.k)
		must = must && !(v.cut && v.h.owed(o, v.k))
		is := false
		if o.image {
			is = v.image(ctx, o, must, may, explained)
		} else {
			_, is = infos[o.name]
			v.presence(o, is, must, may)
			explained[o.name] = true
		}
		present[o] = is
		if is && may && !o.image {
			v.snapshot(ctx, o, infos[o.name])
		}
	}
	for _, o := range v.h.objects {
		if o.was == nil || o.made.at(v.k) != open || o.gone && o.removed.at(v.k) != notBegun {
			continue
		}
		if lost := v.cut && v.h.owed(o.was, v.k); present[o] == present[o.was] && (present[o] || !lost) {
			v.fail("%s was becoming %s: %t, %t", o.was.name, o.name, present[o.was], present[o])
		}
	}
	for name := range infos {
		if !explained[name] {
			v.fail("%q is visible, and nobody was told of it", name)
		}
	}
}

func (v *verifier) presence(o *object, is, must, may bool) {
	switch {
	case must && !is:
		v.fail("%s was acknowledged and is gone", o.name)
	case !may && is:
		v.fail("%s is there and must not be", o.name)
	}
}

// wanted says whether to read a content now.
func (v *verifier) wanted(o *object) bool {
	recent := func(p *op) bool { return p != nil && p.begun < v.k && (p.done >= v.k || v.k-p.done < v.recent) }
	if recent(o.made) || recent(o.filled) || v.sample <= 1 || v.chance.IntN(v.sample) == 0 {
		return true
	}
	for _, c := range o.files {
		if recent(c.by) {
			return true
		}
	}
	return false
}

func (v *verifier) image(ctx context.Context, o *object, must, may bool, explained map[string]bool) bool {
	im, err := v.s.Image(ctx, o.name)
	is := err == nil
	if err != nil && !errors.Is(err, snapshot.ErrNotFound) {
		v.fail("image %s: %v", o.name, err)
		return false
	}
	v.presence(o, is, must, may)
	if !is {
		return false
	}
	own := im.Layers[min(len(v.base.Layers), len(im.Layers)):]
	for i, name := range own {
		explained[name] = true
		want := digest.Digest("")
		if o.diffIDs != nil {
			want = o.diffIDs[i]
		}
		if v.wanted(o) {
			v.layer(ctx, name, want)
		}
	}
	if len(own) == 0 || o.diffIDs != nil && len(own) != len(o.diffIDs) {
		v.fail("image %s has %d layers of its own", o.name, len(own))
	}
	return true
}

// layer writes a layer's tar again and compares it, bit for bit, by its digest.
func (v *verifier) layer(ctx context.Context, name string, want digest.Digest) {
	v.read++
	in, err := v.s.Stat(ctx, name)
	if err != nil {
		v.fail("layer %s: %v", name, err)
		return
	}
	sum := digest.Canonical.Digester()
	if err := v.s.WriteLayer(ctx, name, sum.Hash()); err != nil {
		v.fail("layer %s: %v", name, err)
		return
	}
	if sum.Digest() != in.DiffID || want != "" && want != in.DiffID {
		v.fail("layer %s: its tar has the digest %s, not %s or %s", name, sum.Digest(), in.DiffID, want)
	}
}

// snapshot reads the files of a container, or of a layer without a tar.
func (v *verifier) snapshot(ctx context.Context, o *object, in snapshot.Info) {
	kinds := []snapshot.SnapshotKind{o.kind}
	if o.filled != nil {
		switch o.filled.at(v.k) {
		case done:
			kinds = []snapshot.SnapshotKind{snapshot.KindLayer}
		case open:
			kinds = append(kinds, snapshot.KindLayer)
		}
	}
	if !slices.Contains(kinds, in.Kind) {
		v.fail("%s is a %s", o.name, in.Kind)
	}
	if o.scratch || o.untold || !v.wanted(o) {
		return
	}
	v.read++
	dir, release, err := v.s.Use(ctx, o.name)
	if err != nil {
		v.fail("using %s: %v", o.name, err)
		return
	}
	for name, c := range o.files {
		whole := in.Kind == snapshot.KindLayer && c.by == o.filled && o.filled != nil
		if c.by.at(v.k) != done && !whole {
			continue
		}
		sum, err := digestOf(filepath.Join(dir, name))
		if err != nil {
			v.fail("%s: %v", o.name, err)
		} else if sum != c.sum {
			v.fail("%s: file %s has another content than was written", o.name, name)
		}
	}
	if sum, err := digestOf(filepath.Join(dir, "base-1")); err != nil {
		v.fail("%s: %v", o.name, err)
	} else if want := digest.FromBytes(baseFile()); sum != want {
		v.fail("%s: the base's file has another content", o.name)
	}
	if err := release(); err != nil {
		v.fail("releasing %s: %v", o.name, err)
	}
}

func digestOf(path string) (digest.Digest, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := digest.Canonical.Digester()
	_, err = io.CopyBuffer(struct{ io.Writer }{sum.Hash()}, struct{ io.Reader }{f}, make([]byte, 1<<20))
	return sum.Digest(), err
}
