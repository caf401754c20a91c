package matrix

import (
	"fmt"
	"slices"

	"blockstore.dev/blockstore/perf"
	"blockstore.dev/blockstore/perf/peers"
)

// aim adds what we want to reach: as much of it as this run can tell.
func (b *bench) aim() {
	for _, ours := range []struct{ name, floor, plain string }{
		{peers.OursOnBtrfs, peers.FloorOfBtrfs, peers.PlainBtrfs},
		{peers.OursOnPool, peers.FloorOfPool, peers.PlainThin},
	} {
		if b.hasPeer(ours.name) {
			b.firstWriteTargets(ours.name)
			b.createTargets(ours.name, ours.floor)
		}
	}
}

func (b *bench) hasPeer(name string) bool {
	return slices.ContainsFunc(b.peers, func(p peers.Peer) bool { return p.Name == name })
}

// cell is a row's of a workload.
func cell(workload string, m measure, column string) perf.Cell {
	return perf.Cell{Row: workload + " " + m.name, Column: column}
}

// want adds a target if both of its cells were measured.
func (b *bench) want(text string, is, of perf.Cell, atMost float64) {
	if b.report.Has(is.Row) && b.report.Has(of.Row) && b.hasPeer(of.Column) {
		b.report.Targets = append(b.report.Targets, perf.Target{Text: is.Column + ": " + text, Cell: is, Of: of, AtMost: atMost})
	}
}

func (b *bench) firstWriteTargets(ours string) {
	sizes := b.o.Scale.sizes()
	least, most := rowFirstWrite(sizes[0]), rowFirstWrite(sizes[len(sizes)-1])
	const w = "W1"
	b.want("first write into the largest file: 500 times faster than overlay on ext4 (for 1 GiB)", cell(w, most, ours), cell(w, most, peers.OverlayOnExt4), 1.0/500)
	b.want("first write into the largest file: at most 1.2 times overlay on xfs", cell(w, most, ours), cell(w, most, peers.OverlayOnXFS), 1.2)
	b.want("first write: at most 1.2 times as long into the largest file as into the smallest", cell(w, most, ours), cell(w, least, ours), 1.2)
}

func (b *bench) createTargets(ours, floor string) {
	crowds := b.o.Scale.crowds()
	few, many := crowds[0], crowds[len(crowds)-1]
	b.want("create: at most 1.3 times the floor", cell("W5", rowCreate(few), ours), cell("W5", rowCreate(few), floor), 1.3)
	b.want(fmt.Sprintf("create: with %d layers at most 1.15 times as long as with %d", many, few),
		cell("W5", rowCreate(many), ours), cell("W5", rowCreate(few), ours), 1.15)
	workers := goroutines()
	n := b.o.Scale.Burst
	b.want(fmt.Sprintf("%d creates by %d goroutines: at most 1.3 times the floor's one after the other", n, workers[len(workers)-1]),
		cell("W6", rowBurst(n, workers[len(workers)-1]), ours), cell("W6", rowBurst(n, 1), floor), 1.3)
}
