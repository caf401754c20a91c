package main

import (
	"context"
	"io"
	"sort"
	"strings"

	"blockstore.dev/blockstore/snapshot"
)

// treeNode is a layer, container or view with what stands on it, as
// `images --tree --json` prints it.
type treeNode struct {
	Kind snapshot.SnapshotKind `json:"kind"`
	Name string                `json:"name"`
	// DiffID is a layer's.
	DiffID string `json:"diffID,omitempty"`
	// Added is what it holds beyond its parent, in bytes; -1 where nobody counted.
	Added int64 `json:"added"`
	Exact bool  `json:"exact"`
	// Images are the names (or ids) of the images whose top layer it is.
	Images   []string    `json:"images,omitempty"`
	Children []*treeNode `json:"children,omitempty"`
}

func (a *app) imageTree(ctx context.Context, s *snapshot.Store) error {
	have, err := holdingsOf(ctx, s)
	if err != nil {
		return err
	}
	list, err := s.CountUsage(ctx, have.list)
	if err != nil {
		return err
	}
	roots := buildTree(list, have.images)
	return a.emit(roots, func(w io.Writer) {
		drawTree(w, []string{"LAYER", "ADDED", "IMAGES"}, treeLeaves(roots, have.docker))
	})
}

// buildTree hangs every snapshot below its parent. Layers come before containers,
// and each in the order of their names' images, so that the same store always
// looks the same.
func buildTree(list []snapshot.Info, images []snapshot.Image) []*treeNode {
	nodes := map[string]*treeNode{}
	for _, in := range list {
		n := &treeNode{Kind: in.Kind, Name: in.Name, DiffID: string(in.DiffID), Added: in.Usage.Added, Exact: in.Usage.Exact}
		if in.Kind == snapshot.KindView { // owns no volume
			n.Added, n.Exact = 0, true
		}
		nodes[in.Name] = n
	}
	for _, im := range images {
		if len(im.Layers) == 0 {
			continue
		}
		if n := nodes[im.Layers[len(im.Layers)-1]]; n != nil {
			n.Images = append(n.Images, imageNames(im)...)
		}
	}
	roots := []*treeNode{}
	for _, in := range list {
		if p := nodes[in.Parent]; in.Parent != "" && p != nil {
			p.Children = append(p.Children, nodes[in.Name])
		} else {
			roots = append(roots, nodes[in.Name])
		}
	}
	sortNodes(roots)
	return roots
}

func imageNames(im snapshot.Image) []string {
	if len(im.Refs) > 0 {
		return im.Refs
	}
	return []string{string(im.ID)}
}

func sortNodes(ns []*treeNode) {
	sort.Slice(ns, func(i, j int) bool {
		if ns[i].Kind != ns[j].Kind {
			return ns[i].Kind == snapshot.KindLayer || ns[j].Kind == snapshot.KindView
		}
		return ns[i].Name < ns[j].Name
	})
	for _, n := range ns {
		sort.Strings(n.Images)
		sortNodes(n.Children)
	}
}

func treeLeaves(ns []*treeNode, docker dockerView) []*leaf {
	var out []*leaf
	for _, n := range ns {
		label := short(docker.title(n.Name))
		if n.Kind != snapshot.KindLayer {
			label = string(n.Kind) + " " + label
		}
		var names []string
		for _, i := range n.Images {
			names = append(names, short(i))
		}
		out = append(out, &leaf{
			columns: []string{label, counted(n.Added, n.Exact), strings.Join(names, ", ")},
			below:   treeLeaves(n.Children, docker),
		})
	}
	return out
}

// counted is an amount; one that is not exact is marked with "~".
func counted(n int64, exact bool) string {
	if !exact {
		return "~" + amount(n)
	}
	return amount(n)
}
