package drivertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot"
)

// operation is what is killed.
type operation struct {
	name string
	// before, if set, runs ahead of every child, on a closed store.
	before func(e *env)
	// passes, if set, is a step that must be among those killed at.
	passes string
	// do runs in the child, on an open store.
	do func(e *env) error
	// done tells in the parent whether it happened, and fails if it happened by half.
	done func(e *env) bool
	// undo takes it back, so that it can be done again.
	undo func(e *env)
}

const committedNote = "committed by a child"

// operations are all that change a store. Each begins with the store as prepare
// left it.
func operations() []operation {
	return []operation{
		{
			name: "Create",
			do: func(e *env) error {
				return second(e.s.Create(e.ctx(), "new", snapshot.CreateRequest{Parent: baseLayers()[1]}))
			},
			done: func(e *env) bool { return e.has("new") },
			undo: func(e *env) { e.remove("new") },
		},
		{
			name:   "CreateAtBlockEnd", // where further volume ids are reserved
			before: toBlockEnd,
			passes: "ids.reserved",
			do:     func(e *env) error { return second(e.s.Create(e.ctx(), "new", snapshot.CreateRequest{})) },
			done:   func(e *env) bool { return e.has("new") },
			undo:   func(e *env) { e.remove("new") },
		},
		{
			name: "CreateSpare", // which takes a volume that was made before
			do: func(e *env) error {
				e.spareOf(baseLayers()[1])
				return second(e.s.Create(e.ctx(), "new", snapshot.CreateRequest{Parent: baseLayers()[1]}))
			},
			passes: "create.spare",
			done:   func(e *env) bool { return e.has("new") },
			undo:   func(e *env) { e.remove("new"); e.reopen() },
		},
		{
			name: "Remove",
			do:   func(e *env) error { return e.s.Remove(e.ctx(), "spare") },
			done: func(e *env) bool { return !e.has("spare") },
			undo: func(e *env) { makeSpare(e) },
		},
		{
			name: "Load",
			do: func(e *env) error {
				return second(e.s.Load(e.ctx(), snapshot.LoadRequest{
					Layers: sources(simpleTar(1), simpleTar(7), simpleTar(8)), Config: []byte("loaded"), Refs: []string{"loaded:1"},
				}))
			},
			done: func(e *env) bool { return e.hasImage("loaded:1", simpleTar(1), simpleTar(7), simpleTar(8)) },
			undo: func(e *env) { e.removeImage("loaded:1") },
		},
		{
			name: "Commit",
			do:   crashCommit,
			done: func(e *env) bool { return e.hasCommitted() },
			undo: func(e *env) { e.removeImage("committed:1") },
		},
		{
			name: "FreezeParent",
			do: func(e *env) error {
				return second(e.s.Create(e.ctx(), "new", snapshot.CreateRequest{Parent: "spare", FreezeParent: true}))
			},
			done: func(e *env) bool { return e.has("new") },
			undo: func(e *env) { e.remove("new", "spare"); makeSpare(e) },
		},
		{
			name: "Freeze",
			do:   crashFreeze,
			done: func(e *env) bool { return e.isFrozen() },
			undo: func(e *env) { e.remove("frozen"); makeSpare(e) },
		},
		{
			name: "FreezeWithSpare", // which makes the next volume by the way, where the driver can
			do:   func(e *env) error { e.s.KeepSpares(); return crashFreeze(e) },
			done: func(e *env) bool { return e.isFrozen() },
			undo: func(e *env) { e.remove("frozen"); makeSpare(e); e.reopen() },
		},
		{
			name: "Drop",
			do: func(e *env) error {
				return errors.Join(e.s.Drop(e.ctx(), "spare"), e.s.Sweep(e.ctx()))
			},
			done: func(e *env) bool { return !e.has("spare") },
			undo: func(e *env) { makeSpare(e) },
		},
		{
			name: "Seal", // of a layer that was frozen
			before: func(e *env) {
				e.open()
				e.freezeSpare()
				e.close()
			},
			passes: "freeze.sealed",
			do:     func(e *env) error { e.freezeSpare(); e.tree("spare"); return nil },
			done:   func(e *env) bool { return e.has("new") && e.unmountLeft("spare") },
			undo:   func(e *env) { e.remove("new", "spare"); makeSpare(e) },
		},
		{
			name: "Fill", // which makes the next volume by the way, where the driver can
			do: func(e *env) error {
				e.s.KeepSpares()
				if e.has("spare") { // it may be filled already, or by half
					e.remove("spare")
				}
				e.create("spare", "")
				return second(e.s.Fill(e.ctx(), "spare", snapshot.FillRequest{Tar: bytes.NewReader(simpleTar(3))}))
			},
			done: func(e *env) bool { return e.isFilled("spare", simpleTar(3)) },
			undo: func(e *env) { e.remove("spare"); makeSpare(e); e.reopen() },
		},
		{
			name:   "Compare",
			do:     func(e *env) error { return crashCompare(e, false) },
			passes: "compare.tracked",
			done:   func(e *env) bool { return e.unmountLeft("kept") },
			undo:   func(*env) {},
		},
		{
			name:   "CompareInstant",
			do:     func(e *env) error { return crashCompare(e, true) },
			passes: "compare.volume",
			done:   func(e *env) bool { return e.unmountLeft("kept") },
			undo:   func(*env) {},
		},
		{
			name: "Discard",
			do: func(e *env) error {
				e.mount("spare")
				return e.s.Discard(e.ctx(), "spare")
			},
			done: func(e *env) bool { return !e.has("spare") || !e.unmountLeft("spare") },
			undo: func(e *env) { makeSpare(e) },
		},
		{
			name: "RemoveImage",
			do:   func(e *env) error { _, _, err := e.s.RemoveImage(e.ctx(), "going:1", false); return err },
			done: func(e *env) bool { return !e.hasImage("going:1", goingTars()...) },
			undo: func(e *env) { makeGoing(e) },
		},
		{
			name: "MountWriteUnmount",
			do: func(e *env) error {
				dir, err := e.s.Mount(e.ctx(), "kept")
				if err != nil {
					return err
				}
				if err := os.WriteFile(filepath.Join(dir, "by the child"), []byte("x"), 0o600); err != nil {
					return err
				}
				return e.s.Unmount(e.ctx(), "kept")
			},
			done: func(e *env) bool { return e.unmountLeft("kept") },
			undo: func(*env) {},
		},
		{
			name:   "Open", // of a store that needs recovery
			before: crashedMidway,
			do:     func(*env) error { return nil },
			done:   func(e *env) bool { return e.hasNot("loaded:1") && !e.has("spare") },
			undo: func(e *env) {
				if !e.has("spare") {
					makeSpare(e)
				}
			},
		},
		{
			name: "GC",
			do:   func(e *env) error { return second(e.s.GC(e.ctx())) },
			done: func(e *env) bool { return !e.has(looseLayer()) },
			undo: func(e *env) { makeLoose(e) },
		},
	}
}

// freezeSpare makes a container on "spare", unless that is done.
func (e *env) freezeSpare() {
	e.t.Helper()
	if !e.has("new") {
		e.onTop("new", "spare")
	}
}

// crashCompare compares a container that is mounted with the layer that it stands on.
func crashCompare(e *env, instant bool) error {
	e.mount("kept")
	in, err := e.s.Stat(e.ctx(), "kept")
	if err != nil {
		return err
	}
	c, err := e.s.Compare(e.ctx(), snapshot.CompareRequest{Name: "kept", Below: in.Parent, Instant: instant})
	if err != nil {
		return err
	}
	if err := c.Close(); err != nil {
		return err
	}
	return e.s.Unmount(e.ctx(), "kept")
}

func crashFreeze(e *env) error {
	return second(e.s.Freeze(e.ctx(), "spare", snapshot.FreezeRequest{Name: "frozen"}))
}

// isFrozen says whether crashFreeze was done; where it was not, the container is one still.
func (e *env) isFrozen() bool {
	if e.has("frozen") {
		return e.kind("frozen") == snapshot.KindLayer && !e.has("spare")
	}
	e.in("spare", func(dir string) { e.write(dir, "f", "f") })
	return false
}

// spareOf has the store make spares of a layer.
func (e *env) spareOf(layer string) {
	e.t.Helper()
	e.s.KeepSpares()
	for range 2 {
		if e.has("passing") { // an earlier child's
			e.remove("passing")
		}
		e.create("passing", layer)
		e.remove("passing")
	}
	waitFor(e.t, "spares", func() bool { return e.s.Spares().Ready > 0 })
}

// isFilled says whether a layer has a tar's content; what has it not is a
// container that can only be removed, or was not begun with.
func (e *env) isFilled(name string, layer []byte) bool {
	e.t.Helper()
	in, err := e.s.Stat(e.ctx(), name)
	if errors.Is(err, snapshot.ErrNotFound) || err == nil && in.Kind != snapshot.KindLayer {
		return false
	}
	e.ok(err)
	require.Equal(e.t, digest.FromBytes(layer), in.DiffID)
	e.in(name, func(dir string) { require.Equal(e.t, "of layer 3", e.read(dir, "layer-3")) })
	return true
}

func second[T any](_ T, err error) error { return err }

// toBlockEnd uses up the reserved volume ids, so that the next creation reserves
// further ones. A load that fails takes as many ids as it has layers.
func toBlockEnd(e *env) {
	e.t.Helper()
	e.open()
	for {
		in := e.create("filler", "")
		e.remove("filler")
		left := idBlock - int(in.Volume.ID+1-snapshot.FirstVolumeID)%idBlock
		if left == idBlock {
			break
		}
		if left > 8 {
			e.failedLoad(left - 4)
		}
	}
	e.close()
}

// idBlock is how many ids package snapshot reserves at once.
const idBlock = 128

// failedLoad tries to load n layers, of which the first cannot be read.
func (e *env) failedLoad(n int) {
	e.t.Helper()
	gone := errors.New("gone")
	var layers []snapshot.LayerSource
	for i := range n {
		layers = append(layers, snapshot.LayerSource{
			DiffID: digest.FromString(fmt.Sprint(i)),
			Open:   func(context.Context) (io.ReadCloser, error) { return nil, gone },
		})
	}
	_, err := e.s.Load(e.ctx(), snapshot.LoadRequest{Layers: layers})
	require.ErrorIs(e.t, err, gone)
}

// crashedMidway leaves a store with a half-made load and a half-done removal.
func crashedMidway(e *env) {
	e.t.Helper()
	_, died := e.childAt("Midway", "remove.committed")
	require.True(e.t, died)
}

// midway loads and, in the middle of that, removes.
func midway(e *env) error {
	layers := sources(simpleTar(1), simpleTar(7), simpleTar(8))
	open := layers[2].Open
	layers[2].Open = func(c context.Context) (io.ReadCloser, error) {
		if err := e.s.Remove(c, "spare"); err != nil {
			return nil, err
		}
		return open(c)
	}
	return second(e.s.Load(e.ctx(), snapshot.LoadRequest{Layers: layers}))
}

func crashCommit(e *env) error {
	_, _, err := e.s.Commit(e.ctx(), "kept", snapshot.CommitRequest{
		Config: func(snapshot.Info, snapshot.Image) ([]byte, error) { return []byte(committedNote), nil },
		Refs:   []string{"committed:1"},
	})
	return err
}

// prepared is what must be whole after every crash.
type prepared struct {
	layers map[string]digest.Digest
	tree   map[string]entry // of the container "kept"
}

func baseLayers() []string {
	names, err := snapshotChain(simpleTar(1), simpleTar(2))
	if err != nil {
		panic(err)
	}
	return names
}

func goingTars() [][]byte { return [][]byte{simpleTar(1), simpleTar(5), simpleTar(6)} }

func looseLayer() string {
	names, err := snapshotChain(simpleTar(4))
	if err != nil {
		panic(err)
	}
	return names[0]
}

func makeSpare(e *env) {
	e.t.Helper()
	e.create("spare", baseLayers()[0])
	e.in("spare", func(dir string) { e.write(dir, "f", "f") })
}

func makeGoing(e *env) { e.image("going", []string{"going:1"}, goingTars()...) }

func makeLoose(e *env) { e.load(simpleTar(4)) }

func prepare(e *env) prepared {
	e.t.Helper()
	im := e.image("base", []string{"base:1"}, simpleTar(1), simpleTar(2))
	require.Equal(e.t, baseLayers(), im.Layers)
	e.create("kept", im.Layers[1])
	e.in("kept", func(dir string) { manyFiles(e, dir, 5, 1); e.ok(os.Remove(at(dir, "layer-1"))) })
	makeSpare(e)
	makeGoing(e)
	makeLoose(e)
	p := prepared{layers: map[string]digest.Digest{}}
	all, err := e.s.List(e.ctx())
	e.ok(err)
	for _, in := range all {
		if in.Kind == snapshot.KindLayer && in.Name != looseLayer() {
			p.layers[in.Name] = in.DiffID
		}
	}
	p.tree = e.tree("kept")
	return p
}
