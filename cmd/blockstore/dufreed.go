package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"blockstore.dev/blockstore/snapshot"
)

// freedOut is what du with arguments prints with --json.
type freedOut struct {
	// Freed is how many bytes removing all of it gives back.
	Freed int64 `json:"freed"`
	Exact bool  `json:"exact"`
	// Layers and Containers are what goes.
	Layers     []string `json:"layers"`
	Containers []string `json:"containers"`
}

// duFreed says what removing containers and images would give back.
func (a *app) duFreed(ctx context.Context, s *snapshot.Store, args []string) error {
	have, err := holdingsOf(ctx, s)
	if err != nil {
		return err
	}
	g := going{gone: map[string]bool{}, images: map[string]bool{}}
	for _, arg := range args {
		if err := g.add(ctx, s, have.docker, arg); err != nil {
			return err
		}
	}
	g.layers(have.list, have.images)
	out, err := freed(ctx, s, have.list, g)
	if err != nil {
		return err
	}
	return a.emit(out, func(w io.Writer) {
		fmt.Fprintf(w, "%s would come back: %s, %s\n", counted(out.Freed, out.Exact), plural(len(out.Containers), "container"), plural(len(out.Layers), "layer"))
	})
}

// going is what would be removed: snapshots by name, images by id.
type going struct{ gone, images map[string]bool }

// add takes a container or an image, whichever is called so.
func (g going) add(ctx context.Context, s *snapshot.Store, docker dockerView, arg string) error {
	in, err := findContainer(ctx, s, arg)
	if err == nil {
		g.gone[in.Name] = true
		return nil
	}
	if !errors.Is(err, snapshot.ErrNotFound) {
		return err
	}
	if im, ok := docker.image(arg); ok {
		g.images[string(im.ID)] = true
		return nil
	}
	im, _, err := findImage(ctx, s, arg)
	if errors.Is(err, snapshot.ErrNotFound) {
		return mendf(fmt.Errorf("no container or image %q: %w", arg, snapshot.ErrNotFound),
			"see which there are with: blockstore ps, blockstore images")
	}
	g.images[string(im.ID)] = err == nil
	return err
}

// layers adds those that nothing which stays needs. Only layers of the images that go are looked at.
func (g going) layers(list []snapshot.Info, images []snapshot.Image) {
	candidate, needed := map[string]bool{}, map[string]bool{}
	for _, im := range images {
		in := needed
		if g.images[string(im.ID)] {
			in = candidate
		}
		for _, l := range im.Layers {
			in[l] = true
		}
	}
	parent := map[string]string{}
	for _, in := range list {
		parent[in.Name] = in.Parent
	}
	for _, in := range list {
		if candidate[in.Name] || g.gone[in.Name] {
			continue
		}
		needed[in.Name] = true
	}
	for name := range needed { // and all that lies below what stays
		for p := parent[name]; p != ""; p = parent[p] {
			delete(candidate, p)
		}
		delete(candidate, name)
	}
	for l := range candidate {
		g.gone[l] = true
	}
}

// freed counts: by the driver where it can tell, else by what each adds to the layers below, which is the same as long
// as all of them were made of layers.
func freed(ctx context.Context, s *snapshot.Store, list []snapshot.Info, g going) (freedOut, error) {
	out := freedOut{Exact: true, Layers: []string{}, Containers: []string{}}
	list = slices.DeleteFunc(list, func(in snapshot.Info) bool { return !g.gone[in.Name] })
	list, err := s.CountUsage(ctx, list)
	if err != nil {
		return out, err
	}
	var ids []snapshot.VolumeID
	var added int64
	for _, in := range list {
		if in.Kind == snapshot.KindLayer {
			out.Layers = append(out.Layers, in.Name)
		} else {
			out.Containers = append(out.Containers, in.Name)
		}
		if in.Kind == snapshot.KindView {
			continue // owns no volume
		}
		ids = append(ids, in.Volume.ID)
		added += in.Usage.Added
		out.Exact = out.Exact && in.Usage.Exact
	}
	accountant, ok := s.Driver().(snapshot.Accountant)
	if !ok {
		out.Freed = added
		return out, nil
	}
	out.Freed, err = accountant.Freed(ctx, ids...)
	out.Exact = true
	return out, err
}
