package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"blockstore.dev/blockstore/perf"
)

// compare is the whole run. What was measured until an error, or until an interruption, comes with it.
func compare(ctx context.Context, o options) (report *perf.Report, err error) {
	var u perf.Undo
	defer func() {
		say("cleaning up")
		err = errors.Join(err, u.Run())
	}()
	dir, err := os.MkdirTemp(o.dir, "bstest-containerdbench-")
	if err != nil {
		return nil, err
	}
	u.Add(dir, func() error { return perf.RemoveDir(dir) })
	if report, err = newReport(o, dir); err != nil {
		return nil, err
	}
	if o.image != "" {
		say("decompressing the layers of %s", o.image)
		if o.tars, err = perf.LayerTars(o.image, dir); err != nil {
			return nil, err
		}
	}
	var peers []*peer
	for _, name := range o.snapshotters {
		say("making the sites of %s", name)
		p, err := startPeer(ctx, o, report, &u, dir, name)
		if err != nil {
			return nil, err
		}
		peers = append(peers, p)
	}
	err = rounds(ctx, o, report, peers)
	scales(o, report)
	if err == nil && !o.noCounts {
		err = counts(ctx, o, report, dir)
	}
	if err != nil {
		return report.Stopped(err)
	}
	return report, nil
}

// scales says which rows differ in their scale only.
func scales(o options, report *perf.Report) {
	at := func(name, series string, n int, of string) {
		for _, row := range report.Rows {
			if row.Name == name {
				row.Series, row.Scale, row.ScaleName = series, float64(n), of
			}
		}
	}
	for _, n := range o.layers {
		at(rowUnpack(n), "unpack", n, "layers")
	}
	for _, n := range o.crowds {
		at(rowCrowd(n), "prepare among others", n, "snapshots present")
	}
}

// rounds are the recorded ones and those before them.
func rounds(ctx context.Context, o options, report *perf.Report, peers []*peer) error {
	for i := range o.warmUp + o.rounds {
		for _, p := range peers {
			what := fmt.Sprintf("round %d of %s", i+1-o.warmUp, p.name)
			if p.o, p.quiet = o, i < o.warmUp; p.quiet {
				p.o, what = o.warm(), "warming up "+p.name
			}
			begin := time.Now()
			if err := p.round(ctx); err != nil {
				return fmt.Errorf("%s: %w", what, err)
			}
			say("%s took %s", what, time.Since(begin).Round(time.Second/10))
		}
		if err := report.Keep(o.out); err != nil {
			return err
		}
		peers = turned(peers)
	}
	return nil
}

// turned lets another begin: each peer meets every place in the order, and what the
// one before it left to do in the background.
func turned[T any](order []T) []T {
	order = slices.Clone(order)
	return append(order[1:], order[0])
}

func newReport(o options, dir string) (*perf.Report, error) {
	m, err := perf.ThisMachine(dir)
	if err != nil {
		return nil, err
	}
	if !o.noCounts {
		if err := perf.CanTrace(); err != nil {
			return nil, err
		}
	}
	r := &perf.Report{
		Title: "containerd's snapshotters " + m.Where(), Command: perf.CommandLine(), Begun: time.Now(), Machine: m,
		Against: []string{"overlayfs", overlayOnBtrfs, "native", "btrfs", "devmapper"}, Notes: notes(o), Quartiles: true,
		Versions: versions(), Environment: perf.Environment(),
	}
	if i := slices.IndexFunc(o.snapshotters, isOurs); i >= 0 {
		r.Subject = o.snapshotters[i]
		r.Targets = targets(o, r.Subject)
	}
	return r, nil
}

func isOurs(name string) bool { return strings.HasPrefix(name, ours) }

// version is set by the linker: -X main.version=VERSION.
var version = "(devel)"

// versions are those of the modules that took part.
func versions() map[string]string {
	found := map[string]string{}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return found
	}
	found["blockstore"], found["go"] = version, info.GoVersion
	for _, m := range info.Deps {
		switch name := filepath.Base(filepath.Dir(m.Path)); {
		case strings.HasSuffix(m.Path, "/containerd/v2"):
			found[name] = m.Version
		case strings.HasSuffix(m.Path, "/bbolt"):
			found["bbolt"] = m.Version
		}
	}
	return found
}

// targets are what we want to reach, and only said: those that this run can tell.
func targets(o options, subject string) []perf.Target {
	cell := func(row, column string) perf.Cell { return perf.Cell{Row: row, Column: column} }
	var all []perf.Target
	for _, row := range []string{rowPrepare, rowBoth} {
		all = append(all, perf.Target{
			Text: row + ": 20 times faster than devmapper",
			Cell: cell(row, subject), Of: cell(row, "devmapper"), AtMost: 1.0 / 20,
		})
	}
	rows := []string{rowRealImage}
	for _, n := range o.layers {
		rows = append(rows, rowUnpack(n))
	}
	for _, row := range rows {
		for _, peer := range []string{"overlayfs", overlayOnBtrfs} {
			all = append(all, perf.Target{
				Text: row + ": no slower than " + peer + " by more than 20 %",
				Cell: cell(row, subject), Of: cell(row, peer), AtMost: 1.2,
			})
		}
	}
	few, many := slices.Min(o.crowds), slices.Max(o.crowds)
	all = append(all, perf.Target{
		Text: fmt.Sprintf("prepare with %d snapshots present: no slower than with %d by more than 15 %%", many, few),
		Cell: cell(rowCrowd(many), subject), Of: cell(rowCrowd(few), subject), AtMost: 1.15,
	})
	return slices.DeleteFunc(all, func(t perf.Target) bool {
		return !slices.Contains(o.snapshotters, t.Of.Column) || t.Cell.Row == rowRealImage && o.image == ""
	})
}

func notes(o options) []string {
	return []string{
		"Durability is not equal. Every snapshotter's own database is written out with each change (bbolt). The files of a committed snapshot are on disk when ours and btrfs answer, and with devmapper since the unmount before; overlayfs and native leave them to the kernel. The row \"until all of it is on disk\" has a syncfs of the site's file system behind the unpacking. Created files are written with fsync each, as in containerd's benchmark; the real image is unpacked by containerd's applier, which waits for no file. Removal: ours and overlayfs enter it in remove and do its work in cleanup; native, btrfs and devmapper do the work in remove.",
		"blockstore's stores keep spare snapshots of layers that are used often, as its server does: the making is in the times only as far as the next operation waits for it, and in the counts if it falls between an operation's begin and end.",
		fmt.Sprintf("prepare, mounts, remove and \"prepare and commit\" are on a layer of ten files of 1 MiB; usage is of an active snapshot on a layer of %d files of 1 MiB in which one byte was changed; prepares at once and among others are on a layer with one small file. Layers to unpack are those of containerd's benchsuite: ten files of 1 MiB each, created, changed by four bytes, or removed. \"Among others\": on sites of their own with that many active snapshots.", o.usageFiles),
		"Counts are one operation's, of the whole process and the programs that it starts, as strace sees them. " + perf.CallsNote,
	}
}
