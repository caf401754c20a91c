package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/opencontainers/go-digest"

	"blockstore.dev/blockstore/image"
	"blockstore.dev/blockstore/snapshot"
)

// findImage finds an image by what a person typed: a name, whose tag may be
// missing, an id, or the beginning of one. canonical is the name as the store
// keeps it, or what was typed.
func findImage(ctx context.Context, s *snapshot.Store, ref string) (im snapshot.Image, canonical string, err error) {
	if name, err := image.Normalize(ref); err == nil {
		im, err := s.Image(ctx, name)
		if err == nil {
			return im, nameOrID(im, name, ref), nil
		}
		if !errors.Is(err, snapshot.ErrNotFound) {
			return im, "", err
		}
	}
	im, err = s.Image(ctx, ref)
	if errors.Is(err, snapshot.ErrNotFound) && strings.HasPrefix(ref, dockerPrefix) {
		if err := notDockersImage(ctx, s, ref); err != nil {
			return im, "", err
		}
	}
	if errors.Is(err, snapshot.ErrNotFound) {
		return im, "", mendf(fmt.Errorf("no image %q: %w", ref, snapshot.ErrNotFound), "see which there are with: blockstore images")
	}
	return im, ref, err
}

// nameOrID is name if the image has it, else what was typed (an id).
func nameOrID(im snapshot.Image, name, typed string) string {
	for _, r := range im.Refs {
		if r == name {
			return name
		}
	}
	return typed
}

// notDockersImage says that an image is Docker's, which has its own verbs for it.
func notDockersImage(ctx context.Context, s *snapshot.Store, ref string) error {
	v, err := viewDocker(ctx, s)
	if err != nil {
		return err
	}
	if _, ok := v.image(ref); ok {
		return mendf(fmt.Errorf("image %q is Docker's: %w", ref, snapshot.ErrNotSupported), "docker save, docker tag, docker rmi do what you want; inspect shows it here")
	}
	return nil
}

// findContainer finds a container (or view) by its name, or one of Docker's by
// docker/NAME. Its name in the store is in the answer.
func findContainer(ctx context.Context, s *snapshot.Store, name string) (snapshot.Info, error) {
	in, err := s.Stat(ctx, name)
	if typed, ok := strings.CutPrefix(name, dockerPrefix); ok && errors.Is(err, snapshot.ErrNotFound) {
		v, viewErr := viewDocker(ctx, s)
		if viewErr != nil {
			return in, viewErr
		}
		known, findErr := v.find(typed)
		if findErr == nil {
			in, err = s.Stat(ctx, known)
		} else if !errors.Is(findErr, snapshot.ErrNotFound) {
			return in, findErr
		}
	}
	if err == nil && in.Kind == snapshot.KindLayer || errors.Is(err, snapshot.ErrNotFound) {
		return in, mendf(fmt.Errorf("no container %q: %w", name, snapshot.ErrNotFound), "see which there are with: blockstore ps")
	}
	return in, err
}

// containerName is Docker's grammar. It keeps containers' names apart from those
// of layers, which have a colon.
var containerName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$`)

// imagesByID is for verbs that name the images of containers.
func imagesByID(ctx context.Context, s *snapshot.Store) (map[digest.Digest]snapshot.Image, error) {
	images, err := s.Images(ctx)
	if err != nil {
		return nil, err
	}
	by := map[digest.Digest]snapshot.Image{}
	for _, im := range images {
		by[im.ID] = im
	}
	return by, nil
}

// imageTitle is what an image is called in one word: a name, or its short id.
func imageTitle(im snapshot.Image) string {
	if len(im.Refs) > 0 {
		return im.Refs[0]
	}
	return short(string(im.ID))
}

// layersByName are all layers of the store.
func layersByName(ctx context.Context, s *snapshot.Store) (map[string]snapshot.Info, error) {
	list, err := s.List(ctx)
	if err != nil {
		return nil, err
	}
	by := map[string]snapshot.Info{}
	for _, in := range list {
		if in.Kind == snapshot.KindLayer {
			by[in.Name] = in
		}
	}
	return by, nil
}
