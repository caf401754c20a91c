package faults

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/mount"
	"github.com/opencontainers/go-digest"
)

// op is an operation on the store: it is begun, and acknowledged when it returned.
type op struct {
	id   int
	what string
	// begun and done are the log's entries that say so; never, if they are not reached.
	begun, done int
	waits       bool // until the disk has the catalog's record
}

const never = 1 << 30

// state of an operation at a crash point.
type state int

const (
	notBegun state = iota
	open
	done
)

// at is the operation's state when the log's entries below k are on the disk. No operation is one that was done always.
func (o *op) at(k int) state {
	switch {
	case o == nil || o.done < k:
		return done
	case o.begun < k:
		return open
	}
	return notBegun
}

// content is a file that somebody wrote and synced.
type content struct {
	sum digest.Digest
	by  *op
}

// object is a snapshot or an image with layers of its own. Names are used once only.
type object struct {
	name    string
	kind    snapshot.SnapshotKind
	scratch bool // of no use to anybody after a power cut, until it is a layer; it may be gone then
	image   bool // name is a reference, and the layers beside base are its own
	made    *op
	removed *op // nil: never
	gone    bool
	was     *object // what it was before, under another name
	files   map[string]content
	diffIDs []digest.Digest // of an image's own layers, nil where it is not known before
	filled  *op             // made it a layer
	below   *object         // the worker's layer that it stands on
	users   int
	untold  bool // mounted while the kernel told nobody what it lost: its file system may be torn
}

// presence says whether an object must be there, may be, or must not be.
func (o *object) presence(k int) (must, may bool) {
	made := o.made.at(k)
	if made == notBegun {
		return false, false
	}
	removed := notBegun
	if o.gone {
		removed = o.removed.at(k)
	}
	if removed == done {
		return false, false
	}
	return made == done && removed == notBegun, true
}

// effect is what an operation does to the objects.
type effect struct {
	made    *object
	removed *object
	filled  *object // becomes a layer
	in      *object // gets a file, or is unmounted
	file    string  // empty: none
	sum     digest.Digest
}

func (e effect) apply(o *op) {
	o.waits = e.made != nil && !e.made.scratch || e.removed != nil || e.filled != nil
	if e.made != nil {
		e.made.made = o
	}
	if e.removed != nil {
		e.removed.gone, e.removed.removed = true, o
	}
	if e.filled != nil {
		e.filled.filled = o
	}
	if e.in != nil && e.file != "" {
		e.in.files[e.file] = content{sum: e.sum, by: o}
	}
}

// history is what was asked of a store and what it acknowledged.
type history struct {
	mu      sync.Mutex
	objects []*object
	ops     []*op
	// mark, if set, notes that an operation is begun or done.
	mark func(o *op, what string, e effect) error
}

func (h *history) note(o *op, what string, e effect) error {
	if h.mark == nil {
		return nil
	}
	return h.mark(o, what, e)
}

// do runs f as an operation.
func (h *history) do(what string, e effect, f func() error) error {
	h.mu.Lock()
	o := &op{id: len(h.ops), what: what, begun: never, done: never}
	h.ops = append(h.ops, o)
	e.apply(o)
	if e.made != nil {
		h.objects = append(h.objects, e.made)
	}
	h.mu.Unlock()
	if err := h.note(o, "begun", e); err != nil {
		return err
	}
	if err := f(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return h.note(o, "done", e)
}

// owed says whether a power cut may take a scratch container with it: nothing that waited for the disk was begun after it
// was made, and acknowledged.
func (h *history) owed(c *object, k int) bool {
	return c.scratch && !slices.ContainsFunc(h.ops, func(o *op) bool { return o.waits && o.begun > c.made.done && o.done < k })
}

// settle turns the marks of a log into what was begun and done when.
func (h *history) settle(log []entry) (start, end int) {
	for i, e := range log {
		var id int
		switch {
		case e.mark == "start":
			start = i + 1
		case e.mark == "end":
			end = i
		case scan(e.mark, "begun-%d", &id):
			h.ops[id].begun = i
		case scan(e.mark, "done-%d", &id):
			h.ops[id].done = i
		}
	}
	return start, end
}

func scan(text, format string, into *int) bool {
	n, _ := fmt.Sscanf(text, format, into)
	return n == 1
}

// worker does random operations on objects of its own, on top of the base image that all share.
type worker struct {
	h      *history
	s      *snapshot.Store
	base   snapshot.Image
	chance *rand.Rand
	number int
	count  int

	// unpackIn is where layers are unpacked as containerd does it; empty: they are not.
	unpackIn string

	containers, layers, images []*object
}

func (w *worker) ctx() context.Context { return context.Background() }

func (w *worker) name(kind string) string {
	w.count++
	return fmt.Sprintf("w%d-%s%d", w.number, kind, w.count)
}

func (w *worker) noise(most int) []byte {
	b := make([]byte, 1+w.chance.IntN(most))
	for i := range b {
		b[i] = byte(w.chance.Uint32())
	}
	return b
}

// step does one operation.
func (w *worker) step() error {
	type choice struct {
		weight int
		do     func() error
	}
	var all []choice
	add := func(possible bool, weight int, do func() error) {
		if possible {
			all = append(all, choice{weight, do})
		}
	}
	add(len(w.containers) < 2, 4, w.create)
	add(len(w.containers) > 0, 4, w.write)
	add(len(w.containers) > 0 && len(w.images) < 2, 1, w.commit)
	add(len(w.containers) > 0 && len(w.layers) < 2, 2, w.freeze)
	add(len(w.containers) > 0 && len(w.layers) < 2, 2, w.freezeMounted)
	add(len(w.layers) < 2, 1, w.fill)
	add(len(w.layers) < 2 && w.unpackIn != "", 2, w.unpack)
	add(len(w.images) < 2, 2, w.load)
	add(len(w.containers) > 1, 2, w.removeContainer)
	add(slices.ContainsFunc(w.layers, func(l *object) bool { return l.users == 0 }), 2, w.removeLayer)
	add(len(w.images) > 0, 1, w.removeImage)
	sum := 0
	for _, c := range all {
		sum += c.weight
	}
	n := w.chance.IntN(sum)
	for _, c := range all {
		if n -= c.weight; n < 0 {
			return c.do()
		}
	}
	return errors.New("no operation is possible")
}

func (w *worker) pick(of []*object) *object { return of[w.chance.IntN(len(of))] }

func without(list []*object, o *object) []*object {
	return slices.DeleteFunc(list, func(other *object) bool { return other == o })
}

// parent is the base image's top layer, or a layer of the worker's.
func (w *worker) parent() (string, *object) {
	if len(w.layers) > 0 && w.chance.IntN(2) == 0 {
		l := w.pick(w.layers)
		return l.name, l
	}
	return w.base.Layers[len(w.base.Layers)-1], nil
}

func (w *worker) newContainer(scratch bool) (*object, error) {
	parent, layer := w.parent()
	c := &object{name: w.name("container"), kind: snapshot.KindContainer, scratch: scratch, below: layer, files: map[string]content{}}
	if layer != nil {
		layer.users++
		maps.Copy(c.files, layer.files)
	}
	return c, w.h.do("create "+c.name, effect{made: c}, func() error {
		_, err := w.s.Create(w.ctx(), c.name, snapshot.CreateRequest{Parent: parent, Scratch: scratch})
		return err
	})
}

func (w *worker) create() error {
	c, err := w.newContainer(false)
	w.containers = append(w.containers, c)
	return err
}

// writeFile writes a file and syncs it and its directory; only then it counts.
func (w *worker) writeFile(c *object, dir string) error {
	name, body := w.name("file"), w.noise(100_000)
	e := effect{in: c, file: name, sum: digest.FromBytes(body)}
	return w.h.do("write "+name+" in "+c.name, e, func() error {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		_, err = f.Write(body)
		if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
			return err
		}
		d, err := os.Open(dir)
		if err != nil {
			return err
		}
		return errors.Join(d.Sync(), d.Close())
	})
}

func (w *worker) write() error {
	c := w.pick(w.containers)
	dir, err := w.s.Mount(w.ctx(), c.name)
	if err != nil {
		return err
	}
	for range 1 + w.chance.IntN(2) {
		if err := w.writeFile(c, dir); err != nil {
			return err
		}
	}
	return w.h.do("unmount "+c.name, effect{in: c}, func() error { return w.s.Unmount(w.ctx(), c.name) })
}

func (w *worker) commit() error {
	parents := slices.DeleteFunc(slices.Clone(w.containers), func(c *object) bool { return c.below != nil })
	if len(parents) == 0 { // a layer without a ChainID cannot be an image's
		return w.load()
	}
	c := w.pick(parents)
	im := &object{name: w.name("committed") + ":1", image: true}
	w.images = append(w.images, im)
	return w.h.do("commit "+c.name+" as "+im.name, effect{made: im}, func() error {
		_, _, err := w.s.Commit(w.ctx(), c.name, snapshot.CommitRequest{
			Config: func(snapshot.Info, snapshot.Image) ([]byte, error) { return []byte(im.name), nil },
			Refs:   []string{im.name},
		})
		return err
	})
}

// freezing is the layer that a container becomes.
func (w *worker) freezing(c *object) *object {
	w.containers = without(w.containers, c)
	l := &object{name: w.name("layer"), kind: snapshot.KindLayer, files: maps.Clone(c.files), was: c, below: c.below}
	w.layers = append(w.layers, l)
	return l
}

func (w *worker) freeze() error {
	c := w.pick(w.containers)
	l := w.freezing(c)
	return w.h.do("freeze "+c.name+" as "+l.name, effect{made: l, removed: c}, func() error {
		_, err := w.s.Freeze(w.ctx(), c.name, snapshot.FreezeRequest{Name: l.name})
		return err
	})
}

// freezeMounted has written what nobody has synced: a layer's content is durable before it is called a layer.
func (w *worker) freezeMounted() error {
	c := w.pick(w.containers)
	dir, err := w.s.Mount(w.ctx(), c.name)
	if err != nil {
		return err
	}
	name, body := w.name("file"), w.noise(100_000)
	if err := os.WriteFile(filepath.Join(dir, name), body, 0o600); err != nil {
		return err
	}
	l := w.freezing(c)
	e := effect{made: l, removed: c, in: l, file: name, sum: digest.FromBytes(body)}
	err = w.h.do("freeze the mounted "+c.name+" as "+l.name, e, func() error {
		_, err := w.s.Freeze(w.ctx(), c.name, snapshot.FreezeRequest{Name: l.name})
		return err
	})
	return errors.Join(err, w.s.Unmount(w.ctx(), l.name))
}

func (w *worker) fill() error {
	c, err := w.newContainer(false)
	if err != nil {
		return err
	}
	w.layers = append(w.layers, c)
	name, body := w.name("file"), w.noise(200_000)
	layer := tarOf(name, body)
	e := effect{filled: c, in: c, file: name, sum: digest.FromBytes(body)}
	return w.h.do("fill "+c.name, e, func() error {
		_, err := w.s.Fill(w.ctx(), c.name, snapshot.FillRequest{Tar: bytes.NewReader(layer)})
		return err
	})
}

// unpack goes the way of containerd's unpacker: what it mounts does not wait for the disk, and the commit of the layer does.
func (w *worker) unpack() error {
	c, err := w.newContainer(true)
	if err != nil {
		return err
	}
	ms, err := w.s.Mounts(w.ctx(), c.name)
	if err != nil {
		return err
	}
	if !slices.Contains(ms[0].Options, "barrier=0") {
		return fmt.Errorf("%s waits for the disk: %v", c.name, ms)
	}
	dir := filepath.Join(w.unpackIn, c.name)
	if err := errors.Join(os.Mkdir(dir, 0o700), mount.All(ms, dir)); err != nil {
		return err
	}
	name, body := w.name("file"), w.noise(200_000)
	err = os.WriteFile(filepath.Join(dir, name), body, 0o600)
	if err = errors.Join(err, mount.Unmount(dir), os.Remove(dir)); err != nil {
		return err
	}
	l := w.freezing(c)
	e := effect{made: l, removed: c, in: l, file: name, sum: digest.FromBytes(body)}
	return w.h.do("freeze the unpacked "+c.name+" as "+l.name, e, func() error {
		_, err := w.s.Freeze(w.ctx(), c.name, snapshot.FreezeRequest{Name: l.name})
		return err
	})
}

func (w *worker) load() error {
	im := &object{name: w.name("loaded") + ":1", image: true}
	w.images = append(w.images, im)
	var layers []snapshot.LayerSource
	for _, layer := range baseTars() {
		layers = append(layers, source(layer))
	}
	for range 1 + w.chance.IntN(2) {
		layer := source(tarOf(w.name("file"), w.noise(200_000)))
		layers = append(layers, layer)
		im.diffIDs = append(im.diffIDs, layer.DiffID)
	}
	return w.h.do("load "+im.name, effect{made: im}, func() error {
		_, err := w.s.Load(w.ctx(), snapshot.LoadRequest{Layers: layers, Config: []byte(im.name), Refs: []string{im.name}})
		return err
	})
}

func (w *worker) drop(o *object, f func() error) error {
	if o.below != nil {
		o.below.users--
	}
	return w.h.do("remove "+o.name, effect{removed: o}, f)
}

func (w *worker) removeContainer() error {
	c := w.pick(w.containers)
	w.containers = without(w.containers, c)
	return w.drop(c, func() error { return w.remove(c) })
}

func (w *worker) removeLayer() error {
	l := w.pick(slices.DeleteFunc(slices.Clone(w.layers), func(l *object) bool { return l.users > 0 }))
	w.layers = without(w.layers, l)
	return w.drop(l, func() error { return w.remove(l) })
}

// remove is one of the two ways: that which ends with the volume, and that which leaves it to the background.
func (w *worker) remove(o *object) error {
	if w.chance.IntN(2) == 0 {
		return w.s.Remove(w.ctx(), o.name)
	}
	return errors.Join(w.s.RemoveAll(w.ctx(), o.name)...)
}

func (w *worker) removeImage() error {
	im := w.pick(w.images)
	w.images = without(w.images, im)
	return w.drop(im, func() error { _, _, err := w.s.RemoveImage(w.ctx(), im.name, false); return err })
}

// tarOf is a layer with one file.
func tarOf(name string, body []byte) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(body)), ModTime: time.Unix(1_500_000_000, 0), Format: tar.FormatPAX})
	if err == nil {
		_, err = w.Write(body)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		panic(fmt.Sprintf("test data: %v", err))
	}
	return b.Bytes()
}

// baseTars are the layers below everything.
func baseTars() [][]byte {
	return [][]byte{
		tarOf("base-1", baseFile()),
		tarOf("base-2", bytes.Repeat([]byte("the one above it\n"), 4000)),
	}
}

func source(layer []byte) snapshot.LayerSource {
	return snapshot.LayerSource{
		DiffID: digest.FromBytes(layer),
		Open: func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(layer)), nil
		},
	}
}

func baseFile() []byte { return bytes.Repeat([]byte("the lowest layer\n"), 4000) }
