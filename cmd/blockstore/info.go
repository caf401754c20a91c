package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"blockstore.dev/blockstore/snapshot"
)

func (a *app) infoCommand() *cobra.Command {
	return a.command(spec{
		use:   "info",
		short: "show the driver, its backing store, space and health",
		long: `Shows the state of the store: health first, then the rows that docker info shows
for the driver, and more. Reading it writes nothing.`,
		example: "blockstore info\nblockstore --json info | jq .backing.healthy",
		run: func(ctx context.Context, _ []string) error {
			return a.withStore(ctx, func(s *snapshot.Store) error {
				st, err := s.Status(ctx)
				if err != nil {
					return err
				}
				st.Backing.Rows = orEmpty(st.Backing.Rows)
				return a.emit(st, func(w io.Writer) { writeInfo(w, st) })
			})
		},
	})
}

func writeInfo(w io.Writer, st snapshot.StoreStatus) {
	row := func(label, format string, args ...any) {
		fmt.Fprintf(w, "%s: %s\n", label, fmt.Sprintf(format, args...))
	}
	writeHealth(w, st.Backing)
	row("Storage Driver", "%s", st.Driver)
	row("Chosen", "%s", orDash(st.Chosen))
	row("Root Dir", "%s", st.Root)
	row("Store ID", "%s", st.StoreID)
	row("Made", "%s", st.Created.Format(time.RFC3339))
	row("Base Size", "%s", limit(st.BaseSize))
	row("Images", "%d", st.Images)
	row("Layers", "%d", st.Layers)
	row("Containers", "%d", st.Containers)
	if st.Views > 0 {
		row("Views", "%d", st.Views)
	}
	writeBacking(w, st.Backing)
}

func writeHealth(w io.Writer, b snapshot.Status) {
	if b.Healthy {
		fmt.Fprintln(w, "Health: ok")
		return
	}
	fmt.Fprintf(w, "Health: NEEDS ATTENTION: %s\n", orDash(b.Problem))
}

// writeBacking writes the driver's own rows. The space is told first, unless the
// rows tell it.
func writeBacking(w io.Writer, b snapshot.Status) {
	writeSpace(w, "Data Space", b.Data, b.Rows)
	writeSpace(w, "Metadata Space", b.Metadata, b.Rows)
	for _, r := range b.Rows {
		fmt.Fprintf(w, "%s: %s\n", r.Label, r.Value)
	}
}

func writeSpace(w io.Writer, label string, s snapshot.Space, rows []snapshot.Row) {
	for _, r := range rows {
		if r.Label == label+" Used" {
			return
		}
	}
	if s.Total == 0 && s.Used == 0 {
		return
	}
	fmt.Fprintf(w, "%s Used: %s\n", label, amount(s.Used))
	if s.Total > 0 {
		fmt.Fprintf(w, "%s Total: %s\n", label, amount(s.Total))
		fmt.Fprintf(w, "%s Available: %s (%s used)\n", label, amount(s.Total-s.Used), percent(s.Used, s.Total))
	}
}
