package main

import (
	"fmt"
	"slices"

	"blockstore.dev/blockstore/perf"
)

// The rows that have targets.
const (
	rowLoad      = "docker load of the real image"
	rowLoadAlone = "blockstore load of the real image"
	rowCreate    = "docker create, a container"
	rowColdWrite = "first write: four bytes, cold"
)

// targets are what we want to reach, and only said: those that this run can tell.
func targets(o options, subject string) []perf.Target {
	beside := func(text, row, rivalsRow, rival string, atMost float64) perf.Target {
		return perf.Target{Text: text, Cell: perf.Cell{Row: row, Column: subject}, Of: perf.Cell{Row: rivalsRow, Column: rival}, AtMost: atMost}
	}
	want := func(text, row, rival string, atMost float64) perf.Target {
		return beside(text, row, row, rival, atMost)
	}
	return slices.DeleteFunc([]perf.Target{
		beside("blockstore load of the real image: faster than docker load on overlay2", rowLoadAlone, rowLoad, "overlay2", 1),
		want("docker load of the real image: faster than on overlay2", rowLoad, "overlay2", 1),
		want("docker create: at most what overlay2 takes", rowCreate, "overlay2", 1),
		want("docker create: 20 times faster than devicemapper", rowCreate, "devicemapper", 1.0/20),
		want(fmt.Sprintf("first write into a file of %d MiB: 500 times faster than overlay2 (for 1 GiB)", o.fileSize>>20), rowColdWrite, "overlay2", 1.0/500),
	}, func(t perf.Target) bool { return !slices.Contains(o.drivers, t.Of.Column) })
}
