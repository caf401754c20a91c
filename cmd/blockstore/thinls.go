package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"blockstore.dev/blockstore/thinpool"
	"blockstore.dev/blockstore/thinpool/metadata"
)

// thinDevice is a thin device as thin ls and thin dump print it with --json. Counts are of blocks.
type thinDevice struct {
	ID            uint32 `json:"id"`
	Mapped        uint64 `json:"mapped"`
	TransactionID uint64 `json:"transaction_id"`
	Created       uint32 `json:"creation_time"`
	Snapshotted   uint32 `json:"snap_time"`
}

func thinDeviceOf(d metadata.Device) thinDevice {
	return thinDevice{uint32(d.ID), uint64(d.Mapped), uint64(d.TransactionID), d.Created, d.Snapshotted}
}

type thinUsage struct {
	thinDevice
	Exclusive uint64 `json:"exclusive"`
	Shared    uint64 `json:"shared"`
}

// thinLsOut is what thin ls prints with --json.
type thinLsOut struct {
	Pool    thinPoolOut `json:"pool"`
	Devices []thinUsage `json:"devices"`
	// Used is how many data blocks any device maps, Shared how many of them more than one does, each counted once.
	Used   uint64 `json:"used"`
	Shared uint64 `json:"shared"`
}

// thinColumns are thin_ls's, each with the number that it shows and how that is written.
func thinColumns() []thinColumn {
	blocks := func(n uint64, _ thinPoolOut) string { return fmt.Sprint(n) }
	sectors := func(n uint64, p thinPoolOut) string { return fmt.Sprint(n * p.BlockSize / 512) }
	bytes := func(n uint64, p thinPoolOut) string { return fmt.Sprint(n * p.BlockSize) }
	units := func(n uint64, p thinPoolOut) string { return diskUnits(n * p.BlockSize) }
	mapped := func(d thinUsage) uint64 { return d.Mapped }
	exclusive := func(d thinUsage) uint64 { return d.Exclusive }
	shared := func(d thinUsage) uint64 { return d.Shared }
	columns := []thinColumn{{"DEV", func(d thinUsage) uint64 { return uint64(d.ID) }, blocks}}
	for _, form := range []struct {
		suffix string
		write  func(uint64, thinPoolOut) string
	}{{"_BLOCKS", blocks}, {"_SECTORS", sectors}, {"_BYTES", bytes}, {"", units}} {
		columns = append(columns,
			thinColumn{"MAPPED" + form.suffix, mapped, form.write},
			thinColumn{"EXCLUSIVE" + form.suffix, exclusive, form.write},
			thinColumn{"SHARED" + form.suffix, shared, form.write})
	}
	return append(columns,
		thinColumn{"TRANSACTION", func(d thinUsage) uint64 { return d.TransactionID }, blocks},
		thinColumn{"CREATE_TIME", func(d thinUsage) uint64 { return uint64(d.Created) }, blocks},
		thinColumn{"SNAP_TIME", func(d thinUsage) uint64 { return uint64(d.Snapshotted) }, blocks})
}

type thinColumn struct {
	name  string
	value func(thinUsage) uint64
	write func(uint64, thinPoolOut) string
}

// diskUnits writes bytes as thin_ls does: whole numbers below 8192.
func diskUnits(n uint64) string {
	if n == 0 {
		return "0"
	}
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	i := 0
	for n >= 8192 && i+1 < len(units) {
		n, i = n/1024, i+1
	}
	return fmt.Sprint(n, units[i])
}

func (a *app) thinLsCommand() *cobra.Command {
	var source thinpool.ReadOptions
	var format string
	var noHeaders bool
	var names []string
	for _, c := range thinColumns() {
		names = append(names, c.name)
	}
	cmd := a.command(spec{
		use:   "ls [-o COLUMN,...] [--no-headers] [-m] POOL-OR-FILE",
		short: "list thin devices and what they occupy, as thin_ls does",
		long: `Lists the thin devices of a pool with what each maps, has alone (deleting it frees
that) and shares. Columns are ` + strings.Join(names, ", ") + `.

` + thinSource,
		example: "blockstore thin ls -o DEV,MAPPED,EXCLUSIVE vg-pool-tpool\nblockstore --json thin ls /var/tmp/metadata | jq .used",
		min:     1, max: 1,
		run: func(ctx context.Context, args []string) error {
			columns, err := pickColumns(format)
			if err != nil {
				return err
			}
			return a.withMetadata(ctx, args[0], source, func(v *metadata.View) error {
				out, err := thinLs(ctx, v)
				if err != nil {
					return err
				}
				return a.emit(out, func(w io.Writer) { writeThinLs(w, out, columns, !noHeaders) })
			})
		},
	})
	heldFlag(cmd, &source)
	cmd.Flags().StringVarP(&format, "format", "o", "DEV,MAPPED,CREATE_TIME,SNAP_TIME", "which `COLUMN`s, by commas")
	cmd.Flags().BoolVar(&noHeaders, "no-headers", false, "no line with the columns' names")
	return cmd
}

func pickColumns(format string) ([]thinColumn, error) {
	var picked []thinColumn
	all := thinColumns()
	for name := range strings.SplitSeq(format, ",") {
		i := slices.IndexFunc(all, func(c thinColumn) bool { return c.name == name })
		if i < 0 {
			return nil, usagef("--format: no column %q: see blockstore help thin ls", name)
		}
		picked = append(picked, all[i])
	}
	return picked, nil
}

func thinLs(ctx context.Context, v *metadata.View) (thinLsOut, error) {
	u, err := v.Usage(ctx)
	if err != nil {
		return thinLsOut{}, err
	}
	out := thinLsOut{Pool: thinPoolOf(v), Devices: []thinUsage{}, Used: uint64(u.Used), Shared: uint64(u.Shared)}
	for _, d := range u.Devices {
		out.Devices = append(out.Devices, thinUsage{thinDeviceOf(d.Device), uint64(d.Exclusive), uint64(d.Shared())})
	}
	return out, nil
}

// writeThinLs aligns columns to the right, with a space behind each.
func writeThinLs(w io.Writer, out thinLsOut, columns []thinColumn, header bool) {
	var rows [][]string
	if header {
		var row []string
		for _, c := range columns {
			row = append(row, c.name)
		}
		rows = append(rows, row)
	}
	for _, d := range out.Devices {
		var row []string
		for _, c := range columns {
			row = append(row, c.write(c.value(d), out.Pool))
		}
		rows = append(rows, row)
	}
	width := make([]int, len(columns))
	for _, row := range rows {
		for i, cell := range row {
			width[i] = max(width[i], len(cell))
		}
	}
	for _, row := range rows {
		for i, cell := range row {
			fmt.Fprintf(w, "%*s ", width[i], cell)
		}
		fmt.Fprintln(w)
	}
}
