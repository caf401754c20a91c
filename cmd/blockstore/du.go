package main

import (
	"context"
	"fmt"
	"io"
	"sort"

	"github.com/spf13/cobra"

	"blockstore.dev/blockstore/snapshot"
)

// duRow is the space of one layer, image or container. Exclusive bytes would
// come back if it went and nothing else did; shared bytes are held by others too.
type duRow struct {
	Name      string `json:"name"`
	Exclusive int64  `json:"exclusive"`
	Shared    int64  `json:"shared"`
	// Exact is false where bytes were not counted, see snapshot.Usage.
	Exact bool `json:"exact"`
	// Images are the names of the images whose top layer it is.
	Images []string `json:"images,omitempty"`
}

// duOut is what du prints with --json.
type duOut struct {
	Layers     []duRow `json:"layers"`
	Images     []duRow `json:"images"`
	Containers []duRow `json:"containers"`
	// Total is what all layers and containers hold beyond the golden base.
	Total   int64          `json:"total"`
	Exact   bool           `json:"exact"`
	Backing snapshot.Space `json:"backing"`
}

func (a *app) duCommand() *cobra.Command {
	return a.command(spec{
		use:   "du [NAME|REF...]",
		short: "show exclusive and shared bytes of layers, images and containers",
		long: `Shows what each layer, image and container holds alone (EXCLUSIVE: what it adds to
the layers below it) and what it shares with others (SHARED). An image's exclusive
bytes are those of the layers that no other image or container's image needs.

With arguments it says how many bytes removing those containers and images together
would give back: the containers', and those of the layers that nothing else needs then.

On devicemapper the bytes are counted in the pool's blocks. Layers that an older version
made have no exact count of their own: such amounts are marked with "~".`,
		example: "blockstore du\nblockstore du web debian:12\nblockstore --json du | jq .total",
		max:     -1,
		run: func(ctx context.Context, args []string) error {
			return a.withStore(ctx, func(s *snapshot.Store) error {
				if len(args) > 0 {
					return a.duFreed(ctx, s, args)
				}
				out, err := du(ctx, s)
				if err != nil {
					return err
				}
				docker, err := viewDocker(ctx, s)
				if err != nil {
					return err
				}
				return a.emit(out, func(w io.Writer) { writeDU(w, out, docker) })
			})
		},
	})
}

func du(ctx context.Context, s *snapshot.Store) (duOut, error) {
	have, err := holdingsOf(ctx, s)
	if err != nil {
		return duOut{}, err
	}
	list, err := s.CountUsage(ctx, have.list)
	if err == nil {
		list, err = s.CountReferenced(ctx, list)
	}
	if err != nil {
		return duOut{}, err
	}
	st, err := s.Driver().Status(ctx)
	if err != nil {
		return duOut{}, err
	}
	out := countSpace(list, have.images)
	out.Backing = st.Data
	return out, nil
}

// countSpace is the arithmetic of du.
func countSpace(list []snapshot.Info, images []snapshot.Image) duOut {
	out := duOut{Layers: []duRow{}, Images: []duRow{}, Containers: []duRow{}, Exact: true}
	tops := map[string][]string{}
	users := map[string]int{}
	for _, im := range images {
		for _, l := range im.Layers {
			users[l]++
		}
		if n := len(im.Layers); n > 0 {
			tops[im.Layers[n-1]] = append(tops[im.Layers[n-1]], imageNames(im)...)
		}
	}
	usage := map[string]snapshot.Usage{}
	for _, in := range list {
		if in.Kind == snapshot.KindView { // which owns no volume
			continue
		}
		u := in.Usage
		usage[in.Name] = u
		row := duRow{in.Name, u.Added, max(0, u.Referenced-u.Added), u.Exact, tops[in.Name]}
		out.Total += u.Added
		out.Exact = out.Exact && u.Exact
		if in.Kind == snapshot.KindLayer {
			out.Layers = append(out.Layers, row)
		} else {
			out.Containers = append(out.Containers, row)
		}
	}
	for _, im := range images {
		row := duRow{Name: imageTitle(im), Exact: true}
		for _, l := range im.Layers {
			row.Exact = row.Exact && usage[l].Exact
			if users[l] == 1 {
				row.Exclusive += usage[l].Added
			} else {
				row.Shared += usage[l].Added
			}
		}
		out.Images = append(out.Images, row)
	}
	for _, rows := range [][]duRow{out.Layers, out.Images, out.Containers} {
		sort.SliceStable(rows, func(i, j int) bool { return rows[i].Exclusive > rows[j].Exclusive })
	}
	return out
}

func writeDU(w io.Writer, out duOut, docker dockerView) {
	section := func(what string, rows []duRow) {
		var lines [][]string
		for _, r := range rows {
			var names []string
			for _, i := range r.Images {
				names = append(names, short(i))
			}
			lines = append(lines, []string{short(docker.title(r.Name)), counted(r.Exclusive, r.Exact), counted(r.Shared, r.Exact), join(names)})
		}
		if what == "LAYER" {
			table(w, []string{what, "EXCLUSIVE", "SHARED", "IMAGES"}, lines)
		} else {
			table(w, []string{what, "EXCLUSIVE", "SHARED"}, lines)
		}
		fmt.Fprintln(w)
	}
	section("LAYER", out.Layers)
	section("IMAGE", out.Images)
	section("CONTAINER", out.Containers)
	fmt.Fprintf(w, "Total: %s held by layers and containers; %s used on the backing store%s\n",
		counted(out.Total, out.Exact), amount(out.Backing.Used), ofTotal(out.Backing.Total))
	if !out.Exact {
		fmt.Fprintln(w, "~ not counted: what overwrites shared blocks in place is not in these amounts.")
	}
}

func ofTotal(total int64) string {
	if total == 0 {
		return ""
	}
	return " of " + amount(total)
}
