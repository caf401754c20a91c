package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"blockstore.dev/blockstore/snapshot"
)

// Bounds of top.
const (
	topInterval = 5 * time.Second
	topLeast    = time.Second
)

// topSorts are what --sort takes.
func topSorts() []string { return []string{"io", "growth", "used", "name"} }

// topOptions are top's flags.
type topOptions struct {
	once     bool
	interval time.Duration
	sort     string
}

// topOut is what top prints with --json, once for each look after the first.
type topOut struct {
	Time time.Time `json:"time"`
	// Seconds is the time that rates are of.
	Seconds    float64         `json:"seconds"`
	Driver     string          `json:"driver"`
	Containers []topRow        `json:"containers"`
	Backing    snapshot.Status `json:"backing"`

	all       int  // containers, in use or not
	uncounted bool // nothing counts what one of them reads and writes
}

// topRow is a container in use. What is not known is absent.
type topRow struct {
	Name string `json:"name"`
	// Used is what it holds beyond its image, in bytes; Exact as in snapshot.Usage.
	Used   int64    `json:"used"`
	Exact  bool     `json:"exact"`
	Growth *float64 `json:"growthPerSecond,omitempty"`
	IO     *topIO   `json:"io,omitempty"`
}

// topIO are rates, and what counted them: "device", "dataset" (file reads and writes, caches included) or "cgroup".
type topIO struct {
	Source       string  `json:"source"`
	Reads        float64 `json:"readsPerSecond"`
	ReadBytes    float64 `json:"readBytesPerSecond"`
	Writes       float64 `json:"writesPerSecond"`
	WrittenBytes float64 `json:"writtenBytesPerSecond"`
}

func (a *app) topCommand() *cobra.Command {
	var o topOptions
	cmd := a.command(spec{
		use:   "top [--once] [--interval DURATION] [--sort KEY]",
		short: "show the containers in use with their space and their input and output",
		long: `Shows the containers that are in use, what each holds beyond its image and how fast
that grows, and what is read and written for it, until Ctrl-C.

On devicemapper input and output are those of the container's block device. On zfs
they are its dataset's: what programs read and wrote, whatever the cache answered. On
btrfs the kernel counts neither: they are those of the container's control group on
the store's disks, where it has one of its own (cgroup v2), else "-".

Space is as of the file system's or the pool's last commit. On btrfs each look has
what containers wrote written out, as "ps --size" does. Beside a server the server
looks; alone, the store is opened for each look and others can have it in between.`,
		example: "blockstore top\nblockstore top --once --sort growth\nblockstore --json top --interval 10s | jq .containers",
		run: func(ctx context.Context, _ []string) error {
			if o.interval < topLeast {
				return usagef("--interval %v: at least %v", o.interval, topLeast)
			}
			if !slices.Contains(topSorts(), o.sort) {
				return usagef("--sort %q: it must be one of %s", o.sort, join(topSorts()))
			}
			return a.top(ctx, o)
		},
	})
	cmd.Flags().BoolVar(&o.once, "once", false, "look for one interval, print that, and end")
	cmd.Flags().DurationVar(&o.interval, "interval", topInterval, "`DURATION` between two looks, such as 2s")
	cmd.Flags().StringVar(&o.sort, "sort", "io", "`KEY` to sort by, the most first: "+join(topSorts()))
	return cmd
}

// top looks until somebody ends it, which is no error.
func (a *app) top(ctx context.Context, o topOptions) error {
	onto := screen{on: isTerminal(a.stdout) && !a.json && !o.once}
	for before := (*topLook)(nil); ; {
		var now *topLook
		err := a.withStore(ctx, func(s *snapshot.Store) (err error) {
			now, err = look(ctx, s)
			return err
		})
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if before != nil {
			out := now.since(before)
			sortTop(out.Containers, o.sort)
			if err := a.emit(out, func(w io.Writer) { onto.write(w, a.stdout, func(w io.Writer) { writeTop(w, out) }) }); err != nil {
				return err
			}
			if o.once {
				return nil
			}
		}
		before = now
		if !a.pause(ctx, o.interval) {
			return nil
		}
	}
}

// pause waits, and says whether to go on: until Ctrl-C, and until the server that does the verb stops.
func (a *app) pause(ctx context.Context, d time.Duration) bool {
	var stopping <-chan struct{}
	if a.lent != nil {
		stopping = a.lent.stopping
	}
	wait := time.NewTimer(d)
	defer wait.Stop()
	select {
	case <-wait.C:
		return true
	case <-ctx.Done():
	case <-stopping:
	}
	return false
}

// topLook is what one look saw.
type topLook struct {
	at      time.Time
	driver  string
	backing snapshot.Status
	all     int // containers, in use or not
	rows    map[snapshot.VolumeID]topSeen
}

// topSeen is a container in use. Its id is not used twice, so that it is the same one at the next look.
type topSeen struct {
	title  string
	usage  snapshot.Usage
	device uint64
	source string
	io     snapshot.IO
}

func look(ctx context.Context, s *snapshot.Store) (*topLook, error) {
	d := s.Driver()
	meter, ok := d.(snapshot.Meter)
	if !ok {
		return nil, fmt.Errorf("the %s driver does not know what is in use: %w", d.Name(), snapshot.ErrNotSupported)
	}
	docker, err := viewDocker(ctx, s)
	if err != nil {
		return nil, err
	}
	list, err := containers(ctx, s)
	if err != nil {
		return nil, err
	}
	live, err := meter.Live(ctx)
	if err != nil {
		return nil, err
	}
	l := &topLook{at: time.Now(), driver: d.Name(), rows: map[snapshot.VolumeID]topSeen{}}
	var used []snapshot.Info
	for _, in := range list {
		if in.Kind != snapshot.KindContainer {
			continue
		}
		l.all++
		if _, ok := live[in.Volume.ID]; ok {
			used = append(used, in)
		}
	}
	if used, err = s.CountUsage(ctx, used); err != nil {
		return nil, err
	}
	if l.backing, err = d.Status(ctx); err != nil {
		return nil, err
	}
	l.backing.Rows = orEmpty(l.backing.Rows)
	counts := ioCounts(live)
	for _, in := range used {
		seen := topSeen{title: short(docker.title(in.Name)), usage: in.Usage, device: live[in.Volume.ID].Device}
		seen.source, seen.io = counts(in.Volume.ID)
		l.rows[in.Volume.ID] = seen
	}
	return l, nil
}

// ioCounts gives a function that finds what counts a volume's input and output, "" if nothing does. Processes are
// looked at only where the kernel does not count by volume.
func ioCounts(live map[snapshot.VolumeID]snapshot.Live) func(snapshot.VolumeID) (string, snapshot.IO) {
	var groups map[uint64][]string
	return func(id snapshot.VolumeID) (string, snapshot.IO) {
		l := live[id]
		switch {
		case l.IO != nil && l.IO.Files:
			return "dataset", *l.IO
		case l.IO != nil:
			return "device", *l.IO
		}
		if groups == nil {
			groups = cgroupsOf(processes(procDir))
		}
		var disks []uint64
		for _, d := range l.Disks {
			disks = append(disks, wholeDisk(blockDir, d))
		}
		if io, ok := cgroupIO(cgroupDir, groups[l.Device], disks); ok {
			return "cgroup", io
		}
		return "", snapshot.IO{}
	}
}

// since is what there is now, with rates where the look before saw the container too.
func (l *topLook) since(before *topLook) topOut {
	out := topOut{Time: l.at, Seconds: l.at.Sub(before.at).Seconds(), Driver: l.driver, Containers: []topRow{}, Backing: l.backing, all: l.all}
	for id, now := range l.rows {
		out.uncounted = out.uncounted || now.source == ""
		row := topRow{Name: now.title, Used: now.usage.Added, Exact: now.usage.Exact}
		if then, ok := before.rows[id]; ok {
			growth := float64(now.usage.Added-then.usage.Added) / out.Seconds
			row.Growth = &growth
			row.IO = rates(then, now, out.Seconds)
		}
		out.Containers = append(out.Containers, row)
	}
	return out
}

// rates is nil where nothing counts, or the counts began anew: the container was out of use in between, or its group is
// another.
func rates(then, now topSeen, seconds float64) *topIO {
	a, b := then.io, now.io
	if now.source == "" || then.source != now.source || then.device != now.device ||
		b.Reads < a.Reads || b.ReadBytes < a.ReadBytes || b.Writes < a.Writes || b.WrittenBytes < a.WrittenBytes {
		return nil
	}
	return &topIO{
		Source: now.source, Reads: float64(b.Reads-a.Reads) / seconds, ReadBytes: float64(b.ReadBytes-a.ReadBytes) / seconds,
		Writes: float64(b.Writes-a.Writes) / seconds, WrittenBytes: float64(b.WrittenBytes-a.WrittenBytes) / seconds,
	}
}

// sortTop puts the most first; what is not known is last, and names decide where nothing else does.
func sortTop(rows []topRow, by string) {
	value := func(r topRow) float64 {
		switch {
		case by == "used":
			return float64(r.Used)
		case by == "growth" && r.Growth != nil:
			return *r.Growth
		case by == "io" && r.IO != nil:
			return r.IO.ReadBytes + r.IO.WrittenBytes
		case by == "name":
			return 0
		}
		return math.Inf(-1)
	}
	slices.SortFunc(rows, func(a, b topRow) int {
		return cmp.Or(cmp.Compare(value(b), value(a)), cmp.Compare(a.Name, b.Name))
	})
}

func writeTop(w io.Writer, out topOut) {
	space := func(what string, s snapshot.Space) string {
		if s == (snapshot.Space{}) {
			return ""
		}
		return fmt.Sprintf(", %s %s%s", what, amount(s.Used), ofTotal(s.Total))
	}
	fmt.Fprintf(w, "%s  %s%s%s, %d of %d containers in use, rates of %.1f s\n", out.Time.Local().Format(time.TimeOnly), out.Driver,
		space("data", out.Backing.Data), space("metadata", out.Backing.Metadata), len(out.Containers), out.all, out.Seconds)
	if !out.Backing.Healthy {
		writeHealth(w, out.Backing)
	}
	var rows [][]string
	for _, r := range out.Containers {
		row := []string{r.Name, counted(r.Used, r.Exact), "-", "-", "-", "-", "-", "-"}
		if r.Growth != nil {
			row[2] = amount(int64(*r.Growth)) + "/s"
		}
		if r.IO != nil {
			row = append(row[:3], amount(int64(r.IO.ReadBytes))+"/s", amount(int64(r.IO.WrittenBytes))+"/s",
				fmt.Sprintf("%.1f/s", r.IO.Reads), fmt.Sprintf("%.1f/s", r.IO.Writes), r.IO.Source)
		}
		rows = append(rows, row)
	}
	table(w, []string{"NAME", "USED", "GROWTH", "READ", "WRITTEN", "READS", "WRITES", "COUNTED BY"}, rows)
	if out.uncounted {
		fmt.Fprintf(w, "- not counted: on %s the kernel counts a container's input and output only by a control group of its own.\n", out.Driver)
	}
}

// screen is a terminal that is written over, or any other output, to which tables are added.
type screen struct {
	on    bool
	begun bool
}

func (s *screen) write(w io.Writer, terminal any, text func(io.Writer)) {
	if !s.on {
		if s.begun {
			fmt.Fprintln(w)
		}
		s.begun = true
		text(w)
		return
	}
	var b strings.Builder
	text(&b)
	lines := strings.Split(strings.TrimRight(b.String(), "\n"), "\n")
	if height := heightOf(terminal); height > 1 && len(lines) > height-1 {
		left := len(lines) - (height - 2)
		lines = append(lines[:height-2], fmt.Sprintf("and %d lines more", left))
	}
	if !s.begun {
		fmt.Fprint(w, "\x1b[2J") // clear it once, then write over line by line: that does not flicker
		s.begun = true
	}
	fmt.Fprint(w, "\x1b[H")
	for _, line := range lines {
		fmt.Fprintf(w, "%s\x1b[K\n", line)
	}
	fmt.Fprint(w, "\x1b[J")
}

// heightOf is how many lines a terminal has, 0 if that is not known.
func heightOf(stream any) int {
	f, ok := stream.(*os.File)
	if !ok {
		return 0
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return 0
	}
	height := 0
	if err := raw.Control(func(fd uintptr) { _, height, _ = term.GetSize(int(fd)) }); err != nil {
		return 0
	}
	return height
}
