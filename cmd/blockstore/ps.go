package main

import (
	"context"
	"fmt"
	"io"
	"sort"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"blockstore.dev/blockstore/snapshot"
)

// containerOut is a container as ps and inspect print it with --json.
type containerOut struct {
	snapshot.Info
	// ImageRefs are the names of its image.
	ImageRefs []string `json:"imageRefs"`
	// Docker is set where it is one of Docker's.
	Docker *dockerContainer `json:"docker,omitempty"`
	// Device is its block device, where it has one and that is active. Only inspect
	// tells.
	Device string `json:"device,omitempty"`
}

func (a *app) psCommand() *cobra.Command {
	var size, quiet bool
	cmd := a.command(spec{
		use:   "ps [--size] [--quiet]",
		short: "list containers",
		long: `Lists containers, the newest first. LIMIT bounds a container's tree; --size adds
what each holds beyond its image ("~" where that is not counted exactly). Docker's
containers are named docker/NAME, containerd's containerd/PLUGIN/KEY.`,
		example: "blockstore ps\nblockstore ps -s\nblockstore ps -q | xargs blockstore rm",
		run: func(ctx context.Context, _ []string) error {
			return a.withStore(ctx, func(s *snapshot.Store) error { return a.ps(ctx, s, size, quiet) })
		},
	})
	cmd.Flags().BoolVarP(&size, "size", "s", false, "count what each container occupies")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print names only")
	return cmd
}

func (a *app) ps(ctx context.Context, s *snapshot.Store, size, quiet bool) error {
	list, err := containers(ctx, s)
	if err != nil {
		return err
	}
	images, err := imagesByID(ctx, s)
	if err != nil {
		return err
	}
	docker, err := viewDocker(ctx, s)
	if err != nil {
		return err
	}
	if size {
		if list, err = s.CountUsage(ctx, list); err == nil && a.json { // the table does not show what they refer to
			list, err = s.CountReferenced(ctx, list)
		}
		if err != nil {
			return err
		}
	}
	out := []containerOut{}
	for _, in := range list {
		out = append(out, containerOut{Info: in, ImageRefs: orEmpty(images[in.Image].Refs), Docker: docker.container(in.Name)})
	}
	return a.emit(out, func(w io.Writer) { writeContainers(w, out, docker, size, quiet) })
}

func writeContainers(w io.Writer, list []containerOut, docker dockerView, size, quiet bool) {
	if quiet {
		for _, c := range list {
			fmt.Fprintln(w, docker.title(c.Name))
		}
		return
	}
	header := []string{"NAME", "IMAGE", "CREATED", "LIMIT", "MOUNTED"}
	if size {
		header = append(header, "SIZE")
	}
	var rows [][]string
	for _, c := range list {
		image := titleOf(c.ImageRefs, c.Image)
		if c.Docker != nil {
			image = orDash(c.Docker.Image)
		}
		row := []string{short(docker.title(c.Name)), image, ago(c.Created), limit(c.Volume.Size), orDash(c.Mounted)}
		if size {
			row = append(row, counted(c.Usage.Added, c.Usage.Exact))
		}
		rows = append(rows, row)
	}
	table(w, header, rows)
}

func titleOf(refs []string, id digest.Digest) string {
	if len(refs) > 0 {
		return refs[0]
	}
	return orDash(short(string(id)))
}

// containers are all containers and views, the newest first.
func containers(ctx context.Context, s *snapshot.Store) ([]snapshot.Info, error) {
	list, err := s.List(ctx)
	if err != nil {
		return nil, err
	}
	var out []snapshot.Info
	for _, in := range list {
		if in.Kind != snapshot.KindLayer {
			out = append(out, in)
		}
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].Created.After(out[j].Created) })
	return out, nil
}
