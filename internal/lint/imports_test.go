package lint

import (
	"fmt"
	"strings"
)

// room is a package, or a family of packages below one directory, with its
// floor. Imports run downward: from a higher floor to a lower one, or within a
// room.
type room struct {
	dir    string
	floor  int
	barred []string // rooms on lower floors that it must not know either
}

// kernel are the rooms that speak to the kernel.
func kernel() []string { return []string{"ioctl", "dm", "btrfsvol", "zfsds", "thinpool"} }

// drivers are the rooms that only the shells may know.
func drivers() []string { return []string{"snapshot/thin", "snapshot/btrfs", "snapshot/zfs"} }

// house is the table of ARCHITECTURE.md. The longest directory wins.
func house() []room {
	doors := append(kernel(), drivers()...)
	return []room{
		{dir: "cmd", floor: 7, barred: []string{"ioctl"}},
		{dir: "perf", floor: 6},
		{dir: "perf/containerdbench", floor: 7}, // it runs our snapshotter in its own process
		{dir: "image", floor: 6, barred: doors},
		{dir: "metrics", floor: 6, barred: drivers()},
		{dir: "graphdriver/dockerroot", floor: 5},
		{dir: "graphdriver", floor: 6, barred: doors},
		{dir: "snapshotter", floor: 6, barred: doors},
		{dir: "snapshot/thin", floor: 5},
		{dir: "snapshot/btrfs", floor: 5},
		{dir: "snapshot/zfs", floor: 5},
		{dir: "snapshot", floor: 4},
		{dir: "thinpool", floor: 3},
		{dir: "dm", floor: 2},
		{dir: "btrfsvol", floor: 2},
		{dir: "zfsds", floor: 2},
		{dir: "ioctl", floor: 1},
		{dir: "internal/durable", floor: 1},
		{dir: "internal/size", floor: 1},
		{dir: "internal/systrace", floor: 1},
		// Outside the house: they look in, and nobody looks at them.
		{dir: "vagrant", floor: 8},
		{dir: "e2e", floor: 8},
		{dir: "faults", floor: 8},
		{dir: "internal/lint", floor: 8},
	}
}

func roomOf(dir string) (room, bool) {
	var found room
	for _, r := range house() {
		if (dir == r.dir || strings.HasPrefix(dir, r.dir+"/")) && len(r.dir) > len(found.dir) {
			found = r
		}
	}
	return found, found.dir != ""
}

// importOrder holds the floors. Tests may look up, as a store's test needs a
// driver, but not at what is outside the house.
func importOrder(t *tree) []string {
	var findings []string
	for _, f := range t.files {
		here, ok := roomOf(f.dir)
		if !ok {
			findings = append(findings, fmt.Sprintf("%s: directory %s has no floor: give it one in internal/lint's table and in ARCHITECTURE.md's", f.path, f.dir))
			continue
		}
		for imported, node := range f.imports() {
			dir, ok := strings.CutPrefix(imported, t.module+"/")
			if !ok {
				continue
			}
			there, _ := roomOf(dir)
			if why := forbidden(here, there, f.test); why != "" {
				findings = append(findings, fmt.Sprintf("%s: %s imports %s: %s", f.position(node), f.dir, dir, why))
			}
		}
	}
	return findings
}

// forbidden says why one room may not import another, or nothing.
func forbidden(here, there room, test bool) string {
	if here.dir == there.dir {
		return ""
	}
	if there.floor == 8 {
		return "nothing imports what looks at the house from outside; move what both need down"
	}
	if test {
		return ""
	}
	if there.floor >= here.floor {
		return fmt.Sprintf("imports run downward, and floor %d is not above floor %d; declare an interface here and let a shell bring both together", here.floor, there.floor)
	}
	for _, b := range here.barred {
		if there.dir == b {
			return fmt.Sprintf("%s knows nothing of %s; ask the store for what it needs", here.dir, b)
		}
	}
	return ""
}
