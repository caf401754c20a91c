package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/spf13/cobra"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/thinpool"
	"blockstore.dev/blockstore/thinpool/metadata"
)

// thinSource is what all of thin's verbs say of the metadata that they read.
const thinSource = `POOL-OR-FILE is an active pool's device-mapper name or device (LVM's ends in -tpool),
or a file or device that holds metadata. An active pool is read through a metadata
snapshot, which is held until the verb ends; while another program holds one it is
waited for.`

func (a *app) thinCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "thin",
		Short: "look into a thin pool's metadata: ls, dump, delta, check",
		Long: `Reads the metadata of any device-mapper thin pool, active or not, and changes nothing.
The output is that of thin-provisioning-tools' thin_ls, thin_dump, thin_delta; no store
is needed.

` + thinSource,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown verb %q: thin takes ls, dump, delta or check", args[0])
			}
			return usagef("thin takes ls, dump, delta or check")
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	cmd.AddCommand(a.thinLsCommand(), a.thinDumpCommand(), a.thinDeltaCommand(), a.thinCheckCommand())
	return cmd
}

// heldFlag adds thin-provisioning-tools' flag for the metadata snapshot.
func heldFlag(cmd *cobra.Command, o *thinpool.ReadOptions) {
	cmd.Flags().BoolVarP(&o.Held, "metadata-snap", "m", false, "read the metadata snapshot that a pool in a file held")
}

// withMetadata reads what a person named, and says how an error can be mended.
func (a *app) withMetadata(ctx context.Context, name string, o thinpool.ReadOptions, use func(*metadata.View) error) error {
	err := thinpool.ReadFrom(ctx, name, o, use)
	switch {
	case errors.Is(err, metadata.ErrCorrupt):
		return mendf(fmt.Errorf("%w: %w", err, snapshot.ErrCorrupt),
			"take the pool down, copy its metadata, and see thin_check(8) and thin_repair(8)")
	case errors.Is(err, metadata.ErrNotFormatted): // not what a store says of its own pool
		return mendf(fmt.Errorf("%w: %w", err, snapshot.ErrNotFound), "name a pool, or the file or device with its metadata")
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, metadata.ErrNotHeld), errors.Is(err, thinpool.ErrNotFound):
		return fmt.Errorf("%w: %w", err, snapshot.ErrNotFound)
	case errors.Is(err, thinpool.ErrBusy):
		return fmt.Errorf("%w: %w", err, snapshot.ErrBusy)
	case errors.Is(err, thinpool.ErrInvalid):
		return fmt.Errorf("%w: %w", err, snapshot.ErrInvalid)
	}
	return err
}

// thinPoolOut is what is said of the pool itself.
type thinPoolOut struct {
	Time           uint32 `json:"time"`
	TransactionID  uint64 `json:"transaction_id"`
	BlockSize      uint64 `json:"block_size"` // bytes
	DataBlocks     uint64 `json:"data_blocks"`
	MetadataBlocks uint64 `json:"metadata_blocks"`
	NeedsCheck     bool   `json:"needs_check"`
	// Snapshot says that a metadata snapshot was read.
	Snapshot bool `json:"metadata_snapshot"`
}

func thinPoolOf(v *metadata.View) thinPoolOut {
	sb := v.Superblock()
	return thinPoolOut{
		sb.Time, uint64(sb.TransactionID), sb.BlockSize.Bytes(), uint64(sb.DataBlocks), uint64(sb.MetadataBlocks),
		sb.NeedsCheck, v.Held(),
	}
}

func (a *app) thinDumpCommand() *cobra.Command {
	var source thinpool.ReadOptions
	var o metadata.DumpOptions
	var ids []uint
	cmd := a.command(spec{
		use:   "dump [--dev-id ID]... [--skip-mappings] [-m] POOL-OR-FILE",
		short: "write devices and mappings as XML, as thin_dump does",
		long: `Writes the thin devices and what they map, in the XML of thin_dump, which
thin_restore(8) reads.

` + thinSource,
		example: "blockstore thin dump vg-pool-tpool >pool.xml\nblockstore thin dump --dev-id 7 /var/tmp/metadata",
		min:     1, max: 1,
		run: func(ctx context.Context, args []string) error {
			for _, id := range ids {
				if id > uint(dm.MaxDeviceID) {
					return usagef("--dev-id %d: the highest is %d", id, dm.MaxDeviceID)
				}
				o.Devices = append(o.Devices, dm.DeviceID(id))
			}
			return a.withMetadata(ctx, args[0], source, func(v *metadata.View) error {
				if a.json {
					return dumpJSON(ctx, a.stdout, v, o)
				}
				return v.Dump(ctx, a.stdout, o)
			})
		},
	})
	heldFlag(cmd, &source)
	cmd.Flags().UintSliceVar(&ids, "dev-id", nil, "only the thin device of this `ID`; may be repeated")
	cmd.Flags().BoolVar(&o.SkipMappings, "skip-mappings", false, "devices only")
	return cmd
}

// dumpJSON writes one document bit by bit: a pool has more mappings than memory should hold.
func dumpJSON(ctx context.Context, out io.Writer, v *metadata.View, o metadata.DumpOptions) error {
	devices, err := dumpedDevices(ctx, v, o.Devices)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(out)
	one := func(lead string, value any) {
		b, _ := json.Marshal(value) // plain structs of numbers
		fmt.Fprintf(w, "%s%s", lead, b)
	}
	one(`{"pool":`, thinPoolOf(v))
	fmt.Fprint(w, `,"devices":[`)
	lead := "\n"
	for _, d := range devices {
		one(lead+`{"device":`, thinDeviceOf(d))
		fmt.Fprint(w, `,"mappings":[`)
		lead = ""
		for m, err := range mappingsUnless(ctx, v, d.ID, o.SkipMappings) {
			if err != nil {
				return err
			}
			one(lead, thinMapping{uint64(m.Begin), uint64(m.Data), uint64(m.Length), m.Time})
			lead = ","
		}
		fmt.Fprint(w, `]}`)
		lead = ",\n"
	}
	fmt.Fprintln(w, "]}")
	return w.Flush()
}

func dumpedDevices(ctx context.Context, v *metadata.View, ids []dm.DeviceID) ([]metadata.Device, error) {
	if len(ids) == 0 {
		return v.Devices(ctx)
	}
	var devices []metadata.Device
	for _, id := range ids {
		d, err := v.Device(ctx, id)
		if err != nil {
			return nil, err
		}
		devices = append(devices, d)
	}
	return devices, nil
}

func mappingsUnless(ctx context.Context, v *metadata.View, id dm.DeviceID, skip bool) func(func(metadata.Mapping, error) bool) {
	if skip {
		return func(func(metadata.Mapping, error) bool) {}
	}
	return v.Mappings(ctx, id)
}

type thinMapping struct {
	Begin  uint64 `json:"begin"`
	Data   uint64 `json:"data"`
	Length uint64 `json:"length"`
	Time   uint32 `json:"time"`
}

// thinDeltaOut is what thin delta prints with --json. All counts are blocks.
type thinDeltaOut struct {
	Pool    thinPoolOut  `json:"pool"`
	Left    uint32       `json:"left"`
	Right   uint32       `json:"right"`
	Changes []thinChange `json:"changes"`
}

type thinChange struct {
	Kind   string `json:"kind"`
	Begin  uint64 `json:"begin"`
	Length uint64 `json:"length"`
}

func (a *app) thinDeltaCommand() *cobra.Command {
	var source thinpool.ReadOptions
	var left, right uint32
	var same bool
	cmd := a.command(spec{
		use:   "delta --thin1 ID --thin2 ID [--same] [-m] POOL-OR-FILE",
		short: "show in which blocks two thin devices differ, as thin_delta does",
		long: `Compares what two thin devices map, and writes the differences in thin_delta's XML.
What both share as a whole is passed over unread, so that it takes time in what
changed; --same writes what is the same, too, and reads all of it.

` + thinSource,
		example: "blockstore thin delta --thin1 16 --thin2 17 vg-pool-tpool",
		min:     1, max: 1,
		run: func(ctx context.Context, args []string) error {
			o := metadata.DeltaOptions{Left: dm.DeviceID(left), Right: dm.DeviceID(right), Same: same}
			return a.withMetadata(ctx, args[0], source, func(v *metadata.View) error { return a.thinDelta(ctx, v, o) })
		},
	})
	heldFlag(cmd, &source)
	f := cmd.Flags()
	f.Uint32Var(&left, "thin1", 0, "the first thin device's `ID`")
	f.Uint32Var(&right, "thin2", 0, "the second thin device's `ID`")
	f.BoolVar(&same, "same", false, "write what is the same, too")
	cmd.MarkFlagsRequiredTogether("thin1", "thin2")
	_ = cmd.MarkFlagRequired("thin1") // it exists
	return cmd
}

func (a *app) thinDelta(ctx context.Context, v *metadata.View, o metadata.DeltaOptions) error {
	if !a.json {
		return v.DumpDelta(ctx, a.stdout, o)
	}
	out := thinDeltaOut{Pool: thinPoolOf(v), Left: uint32(o.Left), Right: uint32(o.Right), Changes: []thinChange{}}
	for c, err := range v.Delta(ctx, o) {
		if err != nil {
			return err
		}
		out.Changes = append(out.Changes, thinChange{c.Kind.String(), uint64(c.Begin), uint64(c.Length)})
	}
	return a.emit(out, nil)
}

// thinFinding is one of thin check's.
type thinFinding struct {
	Block uint64 `json:"block"`
	Text  string `json:"text"`
	Leak  bool   `json:"leak"`
}

// thinCheckOut is what thin check prints with --json.
type thinCheckOut struct {
	Pool     thinPoolOut   `json:"pool"`
	Findings []thinFinding `json:"findings"`
	// SpaceMaps says whether they were compared with what refers to blocks.
	SpaceMaps bool `json:"space_maps"`
}

func (a *app) thinCheckCommand() *cobra.Command {
	var source thinpool.ReadOptions
	var o metadata.CheckOptions
	cmd := a.command(spec{
		use:   "check [--skip-mappings] [-m] POOL-OR-FILE",
		short: "check that a thin pool's metadata fit together",
		long: `Reads all of the metadata: checksums, trees, whether details and mappings agree, and
whether the space maps count what there is. An active pool's space maps are left out,
since they move; take it down to have them checked. Findings end in exit code 6.

` + thinSource,
		example: "blockstore thin check /var/lib/blockstore/driver/metadata",
		min:     1, max: 1,
		run: func(ctx context.Context, args []string) error {
			return a.withMetadata(ctx, args[0], source, func(v *metadata.View) error { return a.thinCheck(ctx, v, o) })
		},
	})
	heldFlag(cmd, &source)
	cmd.Flags().BoolVar(&o.SkipMappings, "skip-mappings", false, "devices only: no mappings, no space maps")
	return cmd
}

func (a *app) thinCheck(ctx context.Context, v *metadata.View, o metadata.CheckOptions) error {
	findings, err := v.Check(ctx, o)
	if err != nil {
		return err
	}
	out := thinCheckOut{Pool: thinPoolOf(v), Findings: []thinFinding{}, SpaceMaps: !v.Held() && !o.SkipMappings}
	for _, f := range findings {
		out.Findings = append(out.Findings, thinFinding{uint64(f.Block), f.Text, f.Leak})
	}
	if err := a.emit(out, func(w io.Writer) { writeThinCheck(w, out) }); err != nil || len(findings) == 0 {
		return err
	}
	return fmt.Errorf("%w: %s", metadata.ErrCorrupt, plural(len(findings), "finding"))
}

func writeThinCheck(w io.Writer, out thinCheckOut) {
	fmt.Fprintf(w, "TRANSACTION_ID=%d\n", out.Pool.TransactionID)
	for _, f := range out.Findings {
		leak := ""
		if f.Leak {
			leak = " (space is lost, nothing else)"
		}
		fmt.Fprintf(w, "block %d: %s%s\n", f.Block, f.Text, leak)
	}
	verdict := "clean"
	if n := len(out.Findings); n > 0 {
		verdict = plural(n, "finding")
	}
	if !out.SpaceMaps {
		verdict += "; space maps were not looked at"
	}
	fmt.Fprintln(w, verdict)
}
