package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"blockstore.dev/blockstore/snapshot"
)

// inspected is one object of inspect. Type says which of the others is set.
type inspected struct {
	Type      string          `json:"type"`
	Container *containerOut   `json:"container,omitempty"`
	Image     *inspectedImage `json:"image,omitempty"`
	Layer     *snapshot.Info  `json:"layer,omitempty"`
}

// inspectedImage is an image with its config as it came.
type inspectedImage struct {
	ID      string          `json:"id"`
	Refs    []string        `json:"refs"`
	Created time.Time       `json:"created"`
	Size    int64           `json:"size"`
	Config  json.RawMessage `json:"config"`
	Layers  []snapshot.Info `json:"layers"`
}

func (a *app) inspectCommand() *cobra.Command {
	return a.command(spec{
		use:   "inspect NAME|REF...",
		short: "show all that is known of containers, images and layers, as JSON",
		long: `Prints a JSON list with one object for each argument: a container's name, an image's
name or id, or a layer's full name. A container is looked for first. On devicemapper
"device" is the block device of a container that is in use.`,
		example: "blockstore inspect web\nblockstore inspect debian:12 | jq '.[0].image.config'",
		min:     1, max: -1,
		run: func(ctx context.Context, args []string) error {
			return a.withStore(ctx, func(s *snapshot.Store) error {
				out := []inspected{}
				var errs []error
				for _, arg := range args {
					one, err := inspectOne(ctx, s, arg)
					if err == nil {
						out = append(out, one)
					}
					errs = append(errs, err)
				}
				return errors.Join(append(errs, a.emitJSON(out))...)
			})
		},
	})
}

// emitJSON prints a value as JSON with or without --json.
func (a *app) emitJSON(value any) error {
	raw, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	_, err = a.stdout.Write(append(raw, '\n'))
	return err
}

func inspectOne(ctx context.Context, s *snapshot.Store, arg string) (inspected, error) {
	in, err := s.Stat(ctx, arg)
	switch {
	case err == nil && in.Kind == snapshot.KindLayer:
		in.Usage.Referenced, err = s.Referenced(ctx, in.Name)
		return inspected{Type: "layer", Layer: &in}, err
	case err == nil:
		return inspectContainer(ctx, s, in)
	case !errors.Is(err, snapshot.ErrNotFound):
		return inspected{}, err
	}
	if strings.HasPrefix(arg, dockerPrefix) {
		if one, err := inspectDockers(ctx, s, arg); !errors.Is(err, snapshot.ErrNotFound) {
			return one, err
		}
	}
	im, _, err := findImage(ctx, s, arg)
	if errors.Is(err, snapshot.ErrNotFound) {
		return inspected{}, mendf(fmt.Errorf("no container, image or layer %q: %w", arg, snapshot.ErrNotFound),
			"see which there are with: blockstore ps, blockstore images")
	}
	if err != nil {
		return inspected{}, err
	}
	return inspectImage(ctx, s, im)
}

func inspectContainer(ctx context.Context, s *snapshot.Store, in snapshot.Info) (inspected, error) {
	images, err := imagesByID(ctx, s)
	if err != nil {
		return inspected{}, err
	}
	if in.Kind == snapshot.KindContainer {
		if in.Usage, err = s.Usage(ctx, in.Name); err != nil {
			return inspected{}, err
		}
		if in.Usage.Referenced, err = s.Referenced(ctx, in.Name); err != nil {
			return inspected{}, err
		}
	}
	docker, err := viewDocker(ctx, s)
	if err != nil {
		return inspected{}, err
	}
	out := &containerOut{Info: in, ImageRefs: orEmpty(images[in.Image].Refs), Docker: docker.container(in.Name)}
	if d, ok := s.Driver().(snapshot.Devicer); ok {
		if out.Device, err = d.Device(ctx, in.Volume.ID); err != nil && !errors.Is(err, snapshot.ErrNotFound) {
			return inspected{}, err
		}
	}
	return inspected{Type: string(in.Kind), Container: out}, nil
}

// inspectDockers finds a container or image of Docker's.
func inspectDockers(ctx context.Context, s *snapshot.Store, arg string) (inspected, error) {
	in, err := findContainer(ctx, s, arg)
	if err == nil {
		return inspectContainer(ctx, s, in)
	}
	if !errors.Is(err, snapshot.ErrNotFound) {
		return inspected{}, err
	}
	docker, err := viewDocker(ctx, s)
	if err != nil {
		return inspected{}, err
	}
	im, ok := docker.image(arg)
	if !ok {
		return inspected{}, snapshot.ErrNotFound
	}
	return inspectImage(ctx, s, im)
}

func inspectImage(ctx context.Context, s *snapshot.Store, im snapshot.Image) (inspected, error) {
	out := &inspectedImage{
		ID: string(im.ID), Refs: orEmpty(im.Refs), Created: im.Created, Config: im.Config, Layers: []snapshot.Info{},
	}
	for _, name := range im.Layers {
		l, err := s.Stat(ctx, name)
		if err != nil {
			return inspected{}, err
		}
		out.Layers = append(out.Layers, l)
		out.Size += l.Usage.Added
	}
	var err error
	if out.Layers, err = s.CountReferenced(ctx, out.Layers); err != nil {
		return inspected{}, err
	}
	return inspected{Type: "image", Image: out}, nil
}
