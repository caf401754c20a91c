package main

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot"
)

// Where the kernel shows processes, control groups (cgroups(7), version 2) and block devices.
const (
	procDir   = "/proc"
	cgroupDir = "/sys/fs/cgroup"
	blockDir  = "/sys/dev/block"
)

// process is what is asked of one: where its root directory lies, and its control group.
type process struct {
	device uint64
	cgroup string
}

// processes looks at all of them, best effort: they come and go.
func processes(proc string) []process {
	dirs, _ := filepath.Glob(filepath.Join(proc, "[0-9]*")) // the pattern is well formed
	var all []process
	for _, dir := range dirs {
		raw, err := os.ReadFile(filepath.Join(dir, "cgroup"))
		if err != nil {
			continue
		}
		var st unix.Stat_t
		if unix.Stat(filepath.Join(dir, "root")+"/", &st) != nil {
			continue // the kernel's own threads, and who has just ended
		}
		for line := range strings.Lines(string(raw)) {
			if group, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
				all = append(all, process{device: st.Dev, cgroup: group})
			}
		}
	}
	return all
}

// cgroupsOf finds the control groups in which, and below which, there is nobody but those whose root directory lies on one
// device, for each device. Of a group and one below it, it gives the upper one, which counts for both.
func cgroupsOf(all []process) map[uint64][]string {
	inhabitants := map[string]map[uint64]bool{} // of a group and those below it: their devices
	for _, p := range all {
		for g := path.Clean(p.cgroup); ; g = path.Dir(g) {
			if inhabitants[g] == nil {
				inhabitants[g] = map[uint64]bool{}
			}
			inhabitants[g][p.device] = true
			if g == "/" || g == "." {
				break
			}
		}
	}
	of := map[uint64][]string{}
	for _, p := range all {
		if g := path.Clean(p.cgroup); g != "/" && len(inhabitants[g]) == 1 {
			of[p.device] = append(of[p.device], g)
		}
	}
	for device, groups := range of {
		slices.Sort(groups) // a group is before those below it
		var upper []string
		for _, g := range groups {
			if !slices.ContainsFunc(upper, func(u string) bool { return g == u || strings.HasPrefix(g, u+"/") }) {
				upper = append(upper, g)
			}
		}
		of[device] = upper
	}
	return of
}

// wholeDisk is the disk that a partition is of: only those are counted in io.stat. Others are themselves.
func wholeDisk(sys string, device uint64) uint64 {
	dir, err := filepath.EvalSymlinks(filepath.Join(sys, fmt.Sprintf("%d:%d", unix.Major(device), unix.Minor(device))))
	if err != nil {
		return device
	}
	if _, err := os.Stat(filepath.Join(dir, "partition")); err != nil {
		return device
	}
	raw, err := os.ReadFile(filepath.Join(filepath.Dir(dir), "dev"))
	if disk, ok := parseDevice(strings.TrimSpace(string(raw))); ok && err == nil {
		return disk
	}
	return device
}

// parseDevice reads MAJOR:MINOR.
func parseDevice(text string) (uint64, bool) {
	major, minor, _ := strings.Cut(text, ":")
	ma, err := strconv.ParseUint(major, 10, 32)
	mi, err2 := strconv.ParseUint(minor, 10, 32)
	return unix.Mkdev(uint32(ma), uint32(mi)), err == nil && err2 == nil
}

// cgroupIO adds up what groups did on the disks. False where the kernel does not count for one of them.
func cgroupIO(root string, groups []string, disks []uint64) (io snapshot.IO, ok bool) {
	for _, g := range groups {
		raw, err := os.ReadFile(filepath.Join(root, path.Clean("/"+g), "io.stat"))
		if err != nil {
			return snapshot.IO{}, false
		}
		addIOStat(&io, string(raw), disks)
	}
	return io, len(groups) > 0
}

// addIOStat reads io.stat (Documentation/admin-guide/cgroup-v2.rst): a line for each disk, "8:0 rbytes=1 wbytes=2 rios=3 wios=4 ...".
// Keys that are not known, and a disk without any, are passed over: the kernel adds some.
func addIOStat(io *snapshot.IO, text string, disks []uint64) {
	to := map[string]*uint64{"rbytes": &io.ReadBytes, "wbytes": &io.WrittenBytes, "rios": &io.Reads, "wios": &io.Writes}
	for line := range strings.Lines(text) {
		device, counts, _ := strings.Cut(strings.TrimSpace(line), " ")
		if n, ok := parseDevice(device); !ok || !slices.Contains(disks, n) {
			continue
		}
		for _, field := range strings.Fields(counts) {
			key, value, _ := strings.Cut(field, "=")
			if n, err := strconv.ParseUint(value, 10, 64); err == nil && to[key] != nil {
				*to[key] += n
			}
		}
	}
}
