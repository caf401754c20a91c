package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"blockstore.dev/blockstore/internal/size"
	"blockstore.dev/blockstore/perf"
	"blockstore.dev/blockstore/perf/matrix"
)

// benchOptions are the flags of bench.
type benchOptions struct {
	matrix.Options
	size     string
	out      string
	noCounts bool
}

func (a *app) benchCommand() *cobra.Command {
	var o benchOptions
	cmd := a.command(spec{
		use:   "bench [--workloads W1,W5] [--peers NAME,...] [--rounds N] [--size SIZE] [--out FILE]",
		short: "measure this machine: blockstore beside overlay, copies, btrfs, device-mapper, LVM and ZFS",
		long: `Runs workloads on blockstore and on its rivals, in turns on one disk, and prints
medians with their quartiles, ratios with 95 % intervals, and beside the times what
was counted: programs started, ioctls, waits for the disk, the disk's writes, and
what containers take of the disk and layers of the metadata. No store is needed or
touched. What this kernel does not have is listed as not run; docs/performance.md says
what each row is and what is equal among the peers.

Everything lies in a new directory below --dir, which is gone at the end, after
Ctrl-C too; what was measured by then is told, and written to --out. The whole takes
long and up to 60 GB; --workloads, --peers, --rounds and --size take parts, --enough
and --fio-time less time.

Workloads: ` + join(matrix.WorkloadNames()) + `.
Peers: ` + join(matrix.PeerNames()) + `.`,
		example: "blockstore bench --workloads W5,W6 --rounds 3\nblockstore bench --peers overlay/ext4,overlay/xfs,blockstore/btrfs --out figures.json",
		run:     func(ctx context.Context, _ []string) error { return a.bench(ctx, o) },
	})
	f := cmd.Flags()
	f.StringSliceVar(&o.Workloads, "workloads", nil, "`W1,W5,...` (default: all)")
	f.StringSliceVar(&o.Peers, "peers", nil, "`NAME,...` (default: all that this kernel allows)")
	f.IntVar(&o.Rounds, "rounds", 0, "rounds that are recorded (default 10, or fewer, but 3, where those of one peer in a workload have taken --enough)")
	f.DurationVar(&o.Enough, "enough", 0, "see --rounds (default 30s)")
	f.StringVar(&o.size, "size", "1G", "`SIZE` of the largest file")
	f.IntVar(&o.Scale.Layers, "layers", 0, "most layers that are present (default 1000)")
	f.IntVar(&o.Scale.Operations, "operations", 0, "operations of each kind in a round (default 10)")
	f.IntVar(&o.Scale.Burst, "burst", 0, "containers made at once (default 100)")
	f.IntVar(&o.Scale.Files, "files", 0, "small files (default 20000)")
	f.DurationVar(&o.Scale.FioTime, "fio-time", 0, "how long fio's steady jobs run (default 10s)")
	f.IntVar(&o.Scale.FioRequests, "fio-requests", 0, "requests of fio's other jobs (default 1000)")
	f.StringVar(&o.Image, "image", "", "a real image in an OCI layout, `DIR:REF`; vagrant/realimage/make makes one")
	f.StringVar(&o.Dir, "dir", "", "`DIR`ectory on a disk's file system to work in (default: $BSTEST_DIR, $TMPDIR, /var/tmp)")
	f.BoolVar(&o.NoWarmUp, "no-warm-up", false, "no round before the recorded ones")
	f.BoolVar(&o.noCounts, "no-counts", false, "do not count system calls, which needs strace")
	f.StringVar(&o.out, "out", "", "write every sample as JSON into this `FILE` too")
	cmd.AddCommand(a.benchInsideCommand(), a.benchReportCommand(), a.benchCompareCommand(), a.benchGateCommand())
	return cmd
}

// benchInside is the verb that counts the calls of one peer, under strace.
const benchInside = "inside"

func (a *app) benchInsideCommand() *cobra.Command {
	cmd := a.command(spec{
		use: benchInside + " OPTIONS", short: "what bench runs under strace", min: 1, max: 1, example: "strace -f blockstore bench inside '{}'",
		run: func(ctx context.Context, args []string) error { return matrix.CountInside(ctx, args[0], a.stdout) },
	})
	cmd.Hidden = true
	return cmd
}

func (a *app) bench(ctx context.Context, o benchOptions) error {
	bytes, err := size.Parse(o.size)
	if err != nil {
		return usageError{fmt.Errorf("--size: %w", err)}
	}
	o.Scale.FileSize, o.Version = bytes, version
	if !o.noCounts {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		o.Counter = []string{self, "bench", benchInside}
	}
	finished := func(*perf.Report, string) {}
	if !a.json {
		shown := &benchProgress{w: a.stderr, terminal: isTerminal(a.stderr)}
		o.Watch, finished = shown.at, shown.finished
		defer shown.clear()
	}
	o.Finished = func(r *perf.Report, workload string) {
		_ = r.Keep(o.out) // what fails fails at the end, too, and is told
		finished(r, workload)
	}
	report, err := matrix.Run(ctx, o.Options)
	if report == nil {
		return err
	}
	return errors.Join(report.Deliver(a.stdout, a.json, o.out), err)
}

// benchProgress tells a waiting person how far it is: in one line of a terminal, or
// else in a line now and then.
type benchProgress struct {
	w        io.Writer
	terminal bool
	last     time.Time
}

const clearLine = "\r\x1b[K"

func (b *benchProgress) at(p matrix.Progress) {
	left := ""
	if p.Left > 0 {
		left = fmt.Sprintf(", about %s left", p.Left.Round(time.Second))
	}
	text := fmt.Sprintf("%d of %d%s: %s", p.Done, p.Total, left, p.Doing)
	switch {
	case b.terminal:
		fmt.Fprint(b.w, clearLine+clip(text, 100))
	case time.Since(b.last) >= lineAfter:
		b.last = time.Now()
		fmt.Fprintln(b.w, text)
	}
}

// finished shows a workload's rows as soon as they are there. The report has them
// again, with everything else.
func (b *benchProgress) finished(r *perf.Report, workload string) {
	b.clear()
	_ = r.Table(b.w, workload) // nobody to tell who does not see it
	fmt.Fprintln(b.w)
}

func (b *benchProgress) clear() {
	if b.terminal {
		fmt.Fprint(b.w, clearLine)
	}
}
