package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"blockstore.dev/blockstore/graphdriver"
	"blockstore.dev/blockstore/graphdriver/dockerroot"
	"blockstore.dev/blockstore/snapshot"
)

// dockerPrefix is before what people are shown and type of Docker's: docker/web is
// the container that Docker calls web, docker/debian:12 its image.
const dockerPrefix = "docker/"

// dockerView is the store's part that Docker has, in Docker's own names. It is empty
// where no dockerd was served.
type dockerView struct {
	inv    dockerroot.Inventory
	titles map[string]string // by the store's name
	// containers are what Docker knows of its containers, by the store's names of their snapshots.
	containers map[string]*dockerContainer
	// images are Docker's as if they were the store's.
	images []snapshot.Image
}

func viewDocker(ctx context.Context, s *snapshot.Store) (dockerView, error) {
	inv, err := graphdriver.Inventory(ctx, s)
	if err != nil {
		return dockerView{}, err
	}
	v := dockerView{inv: inv, titles: map[string]string{}, containers: map[string]*dockerContainer{}}
	for _, c := range inv.Containers {
		v.containers[graphdriver.Name(c.Layer)] = &dockerContainer{ID: c.ID, Name: c.Name, Image: c.Image}
		v.titles[graphdriver.Name(c.Layer)] = dockerPrefix + containerTitle(c)
		v.titles[graphdriver.Name(c.Init)] = dockerPrefix + containerTitle(c) + "-init"
	}
	for _, im := range inv.Images {
		out := snapshot.Image{ID: im.ID, Config: im.Config, Created: im.Created}
		for _, ref := range im.Refs {
			out.Refs = append(out.Refs, dockerPrefix+ref)
		}
		for _, id := range im.Layers {
			if id != "" {
				out.Layers = append(out.Layers, graphdriver.Name(id))
			}
		}
		v.images = append(v.images, out)
	}
	return v, nil
}

func containerTitle(c dockerroot.Container) string {
	if c.Name != "" {
		return c.Name
	}
	return c.ID[:min(len(c.ID), 12)]
}

// title is what people are shown for a snapshot's name.
func (v dockerView) title(name string) string {
	if t := v.titles[name]; t != "" {
		return t
	}
	return name
}

// container is what Docker knows of a container's snapshot, nil for others.
func (v dockerView) container(name string) *dockerContainer { return v.containers[name] }

// dockerContainer is a container as Docker knows it, in JSON.
type dockerContainer struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Image string `json:"image"`
}

// find resolves what a person typed after docker/: a container's name, or the
// beginning of its id. It returns the store's name.
func (v dockerView) find(typed string) (string, error) {
	var found []string
	for _, c := range v.inv.Containers {
		if c.Name == typed {
			return graphdriver.Name(c.Layer), nil
		}
		if len(typed) >= 4 && strings.HasPrefix(c.ID, typed) {
			found = append(found, graphdriver.Name(c.Layer))
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return "", fmt.Errorf("no container of Docker's is called %q: %w", typed, snapshot.ErrNotFound)
	}
	return "", fmt.Errorf("%q is the beginning of %d of Docker's containers' ids; give more digits: %w", typed, len(found), snapshot.ErrInvalid)
}

// image finds one of Docker's images by docker/NAME:TAG.
func (v dockerView) image(typed string) (snapshot.Image, bool) {
	if slash, colon := strings.LastIndexByte(typed, '/'), strings.LastIndexByte(typed, ':'); colon < slash {
		typed += ":latest"
	}
	i := slices.IndexFunc(v.images, func(im snapshot.Image) bool { return slices.Contains(im.Refs, typed) })
	if i < 0 {
		return snapshot.Image{}, false
	}
	return v.images[i], true
}

// images are the store's images and Docker's.
func allImages(ctx context.Context, s *snapshot.Store, v dockerView) ([]snapshot.Image, error) {
	images, err := s.Images(ctx)
	return append(images, v.images...), err
}
