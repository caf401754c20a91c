package main

import (
	"context"
	"fmt"
	"io"
	"sort"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"blockstore.dev/blockstore/snapshot"
)

// imageOut is one image as images prints it with --json.
type imageOut struct {
	ID      string    `json:"id"`
	Refs    []string  `json:"refs"`
	Created time.Time `json:"created"`
	// Size is what its layers occupy; layers that it shares with other images are
	// counted in each.
	Size   int64    `json:"size"`
	Layers []string `json:"layers"`
}

func (a *app) imagesCommand() *cobra.Command {
	var tree, quiet bool
	cmd := a.command(spec{
		use:   "images [--tree] [--quiet]",
		short: "list images, or draw the tree of layers",
		long: `Lists images. SIZE is what an image's layers occupy in the store; what it shares
with other images is counted in each (du has the exclusive bytes). Docker's images
are named docker/NAME.

--tree draws all layers, each below its parent, with the names of images and the
containers that stand on it.`,
		example: "blockstore images\nblockstore images --tree\nblockstore images -q | xargs blockstore inspect",
		run: func(ctx context.Context, _ []string) error {
			if tree && quiet {
				return usagef("--tree and --quiet exclude each other")
			}
			return a.withStore(ctx, func(s *snapshot.Store) error {
				if tree {
					return a.imageTree(ctx, s)
				}
				return a.images(ctx, s, quiet)
			})
		},
	})
	cmd.Flags().BoolVar(&tree, "tree", false, "draw the tree of layers")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print ids only")
	return cmd
}

func (a *app) images(ctx context.Context, s *snapshot.Store, quiet bool) error {
	docker, err := viewDocker(ctx, s)
	if err != nil {
		return err
	}
	images, err := allImages(ctx, s, docker)
	if err != nil {
		return err
	}
	layers, err := layersByName(ctx, s)
	if err != nil {
		return err
	}
	// As docker: the newest first.
	sort.SliceStable(images, func(i, j int) bool { return images[i].Created.After(images[j].Created) })
	out := []imageOut{}
	for _, im := range images {
		out = append(out, imageOut{string(im.ID), orEmpty(im.Refs), im.Created, imageSize(im, layers), orEmpty(im.Layers)})
	}
	return a.emit(out, func(w io.Writer) {
		if quiet {
			for _, im := range out {
				fmt.Fprintln(w, short(im.ID))
			}
			return
		}
		table(w, []string{"REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"}, imageRows(out))
	})
}

func imageSize(im snapshot.Image, layers map[string]snapshot.Info) int64 {
	var n int64
	for _, l := range im.Layers {
		n += layers[l].Usage.Added
	}
	return n
}

// imageRows has one row for each name, as docker has.
func imageRows(images []imageOut) [][]string {
	var rows [][]string
	for _, im := range images {
		tail := []string{short(im.ID), ago(im.Created), amount(im.Size)}
		if len(im.Refs) == 0 {
			rows = append(rows, append([]string{"<none>", "<none>"}, tail...))
		}
		for _, r := range im.Refs {
			repo, tag := splitRef(r)
			rows = append(rows, append([]string{repo, tag}, tail...))
		}
	}
	return rows
}

// splitRef parts a name at its tag; a port of the registry is no tag.
func splitRef(ref string) (repo, tag string) {
	i := strings.LastIndexByte(ref, ':')
	if i < 0 || strings.Contains(ref[i:], "/") {
		return ref, "<none>"
	}
	return ref[:i], ref[i+1:]
}
