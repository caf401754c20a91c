package matrix

import (
	"context"
	"fmt"
	"os/exec"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"blockstore.dev/blockstore/perf"
	"blockstore.dev/blockstore/perf/peers"
)

// begin chooses what runs, and makes the report.
func (b *bench) begin(ctx context.Context) error {
	m, err := perf.ThisMachine(b.dir)
	if err != nil {
		return err
	}
	b.report = &perf.Report{
		Title: "Side by side " + m.Where(), Command: perf.CommandLine(), Begun: time.Now(), Machine: m,
		Quartiles: true, Intervals: true, Environment: perf.Environment(), Notes: notes(),
	}
	if err := b.chooseWorkloads(); err != nil {
		return err
	}
	if err := b.choosePeers(ctx); err != nil {
		return err
	}
	var ours []string
	for _, p := range b.peers {
		if p.Ours() {
			ours = append(ours, strings.TrimPrefix(p.Name, peers.Ours))
		}
	}
	if len(ours) == 1 { // a page may have several such reports
		b.report.Title += ", " + ours[0]
	}
	b.report.Versions = versions(ctx, b.o.Version)
	b.compareWith()
	b.progress = progress{watch: b.o.Watch, begun: time.Now(), now: time.Now}
	for _, w := range b.workloads {
		b.progress.total += len(b.takePart(w)) * (b.mostRounds(w) + 2)
	}
	return nil
}

func (b *bench) chooseWorkloads() error {
	for _, w := range workloads() {
		asked := slices.Contains(b.o.Workloads, w.name)
		if len(b.o.Workloads) > 0 && !asked {
			continue
		}
		lacks := w.lacking()
		switch {
		case lacks != nil && asked:
			return fmt.Errorf("%s cannot run: %w", w.name, lacks)
		case lacks != nil:
			b.report.NotRun = append(b.report.NotRun, perf.NotRun{Workload: w.name, Reason: lacks.Error()})
			continue
		}
		b.workloads = append(b.workloads, w)
		b.report.Workloads = append(b.report.Workloads, perf.Workload{Name: w.name, Title: w.title})
	}
	for _, name := range b.o.Workloads {
		if !slices.Contains(WorkloadNames(), name) {
			return fmt.Errorf("--workloads: %q is none of %s", name, listed(WorkloadNames()))
		}
	}
	return nil
}

// WorkloadNames are those that there are, in the order in which they run.
func WorkloadNames() []string {
	var names []string
	for _, w := range workloads() {
		names = append(names, w.name)
	}
	return names
}

// PeerNames are those that there are, in the order of columns.
func PeerNames() []string {
	var names []string
	for _, p := range peers.All() {
		names = append(names, p.Name)
	}
	return names
}

func (b *bench) choosePeers(ctx context.Context) error {
	names := b.o.Peers
	if len(names) == 0 {
		names = PeerNames()
	}
	all, err := peers.Named(names)
	if err != nil {
		return fmt.Errorf("--peers: %w", err)
	}
	for _, p := range all {
		lacks := p.Lacking(ctx)
		switch {
		case lacks != nil && len(b.o.Peers) > 0:
			return fmt.Errorf("%s cannot take part: %w", p.Name, lacks)
		case lacks != nil:
			b.report.NotRun = append(b.report.NotRun, perf.NotRun{Column: p.Name, Reason: lacks.Error()})
			continue
		}
		b.peers = append(b.peers, p)
		b.report.Columns = append(b.report.Columns, perf.Column{Name: p.Name, Note: p.Note})
	}
	return nil
}

// compareWith says which ratios are shown: ours against everybody else's.
func (b *bench) compareWith() {
	for _, p := range b.peers {
		ours := strings.HasPrefix(p.Name, peers.Ours)
		if ours && b.report.Subject == "" {
			b.report.Subject = p.Name
		}
		if !ours {
			b.report.Against = append(b.report.Against, p.Name)
		}
	}
}

// versions are those of the programs that may take part, as they say them.
func versions(ctx context.Context, own string) map[string]string {
	found := map[string]string{}
	for name, args := range map[string][]string{
		"fio": {"--version"}, "cp": {"--version"}, "btrfs": {"--version"}, "mkfs.xfs": {"-V"}, "lvm": {"version"}, "strace": {"--version"}, "tar": {"--version"},
		"dpkg": {"--version"}, "zfs": {"version"},
	} {
		if _, err := exec.LookPath(name); err != nil {
			continue
		}
		if said, err := perf.Output(ctx, name, args...); err == nil {
			line, _, _ := strings.Cut(said, "\n")
			found[name] = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "LVM version:"))
		}
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		found["go"] = info.GoVersion
	}
	if own != "" {
		found["blockstore"] = own
	}
	return found
}

func notes() []string {
	return []string{
		"Durability is not equal everywhere. A layer is on disk with every peer before anything is measured on it, and what a workload writes is written out where its row says so. A container that was just created is on disk with blockstore, btrfs's ioctl and command line, LVM and thin pools; with overlay, cp and file systems it is left to the kernel.",
		"A floor keeps no records: nothing tells after a crash what its volumes were. blockstore's time has one commit of its catalog more in it, which waits for the disk.",
		"blockstore's stores keep spare snapshots of layers that are used often, as its server does.",
	}
}
