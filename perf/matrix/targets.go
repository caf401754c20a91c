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
		{peers.OursOnZFS, peers.FloorOfZFS, peers.PlainZFS},
	} {
		if b.hasPeer(ours.name) {
			b.firstWriteTargets(ours.name)
			b.createTargets(ours.name, ours.floor)
			b.want("an image's layers: at most 1.15 times tar -x into a plain file system", cell("W4", rowUnpack(), ours.name), cell("W4", rowUnpack(), ours.plain), 1.15)
			steady, _ := rowSteady("randwrite-1")
			// Of rates more is better: the other's must not be more than a little above ours.
			b.want("4 KiB random writes, steady: at least 0.95 of the plain file system's rate", cell("W14", steady, ours.plain), cell("W14", steady, ours.name), 1/0.95)
			b.want("a durable write beside removals: at most twice what it takes alone, 99th percentile",
				cell("W9", rowVictim(true), ours.name), cell("W9", rowVictim(false), ours.name), 2)
			b.removalTargets(ours.name)
			b.spaceTargets(ours.name)
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

// want adds a target if both of its cells were measured, and are two. Its text names whose it is.
func (b *bench) want(text string, is, of perf.Cell, atMost float64) {
	if is != of && b.report.Has(is.Row) && b.report.Has(of.Row) && b.hasPeer(of.Column) {
		b.report.Targets = append(b.report.Targets, perf.Target{Text: b.whose(is, of) + ": " + text, Cell: is, Of: of, AtMost: atMost})
	}
}

// wantAtMost adds a target in the row's own unit if it was measured.
func (b *bench) wantAtMost(text string, is perf.Cell, most float64) {
	if b.report.Has(is.Row) {
		b.report.Targets = append(b.report.Targets, perf.Target{Text: is.Column + ": " + text, Cell: is, AtMost: most})
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

// whose is our peer among two cells.
func (b *bench) whose(is, of perf.Cell) string {
	if (peers.Peer{Name: is.Column}).Ours() {
		return is.Column
	}
	return of.Column
}

// removalTargets are against those that people use; what a floor does is no rival's.
func (b *bench) removalTargets(ours string) {
	m := rowRemove(b.o.Scale.Layers, true)
	for _, rival := range []string{peers.OverlayOnExt4, "lvm", "zfs"} {
		b.want(fmt.Sprintf("%s: 20 times faster than %s", m.name, rival), cell("W9", m, ours), cell("W9", m, rival), 1.0/20)
	}
}

// spaceTargets are of what is counted in bytes.
func (b *bench) spaceTargets(ours string) {
	size := b.o.Scale.FileSize
	b.want(fmt.Sprintf("space after four bytes into a file of %d MiB: 1,000 times less than overlay on ext4 (for 1 GiB)", size/mebibyte),
		cell("W10", rowFourBytes(size), ours), cell("W10", rowFourBytes(size), peers.OverlayOnExt4), 1.0/1000)
	b.wantAtMost("held by the disk after a container was removed: at most 1 MiB", cell("W10", rowLeft(), ours), mebibyte)
	b.wantAtMost("held by the disk after an upgraded container was removed: at most 1 MiB", cell("W10", rowUpgradeLeft(), ours), mebibyte)
	if ours == peers.OursOnPool {
		b.wantAtMost("metadata of a block: at most 25 bytes", cell("W11", rowMapped(), ours), 25)
		crowds := b.o.Scale.emptyCrowds()
		most := crowds[len(crowds)-1]
		b.wantAtMost("metadata of an empty layer: at most 8 KiB", cell("W11", rowEmptyLayer(most), ours), 8<<10)
	}
	for _, n := range b.o.Scale.emptyCrowds() {
		b.wantAtMost(fmt.Sprintf("our catalog for a layer, with %d layers: at most 1 KiB", n), cell("W11", rowCatalog(n), ours), 1<<10)
	}
	crowds := b.o.Scale.crowds()
	few, many := crowds[0], crowds[len(crowds)-1]
	b.want(fmt.Sprintf("close and open again: with %d layers at most twice as long as with %d", many, few),
		cell("W13", rowReopen(many), ours), cell("W13", rowReopen(few), ours), 2)
}
