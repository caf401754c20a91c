package perf

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// DiskCounts are what block devices have done since they appeared.
type DiskCounts struct {
	Reads, Writes, Flushes  uint64 // requests
	ReadBytes, WrittenBytes uint64
}

// CountDisks sums the counts of devices, named as in /sys/block. Source:
// the kernel's Documentation/block/stat.rst.
func CountDisks(devices []string) (DiskCounts, error) {
	var sum DiskCounts
	for _, name := range devices {
		text, err := os.ReadFile(filepath.Join("/sys/block", name, "stat"))
		if err != nil {
			return sum, err
		}
		c, err := parseDiskCounts(string(text))
		if err != nil {
			return sum, fmt.Errorf("counts of %s: %w", name, err)
		}
		sum.Reads, sum.ReadBytes = sum.Reads+c.Reads, sum.ReadBytes+c.ReadBytes
		sum.Writes, sum.WrittenBytes = sum.Writes+c.Writes, sum.WrittenBytes+c.WrittenBytes
		sum.Flushes += c.Flushes
	}
	return sum, nil
}

// sector is what stat counts in, whatever the device's own are.
const sector = 512

// parseDiskCounts reads a stat file. Kernels before 5.5 count no flushes.
func parseDiskCounts(text string) (DiskCounts, error) {
	fields := strings.Fields(text)
	if len(fields) < 11 {
		return DiskCounts{}, fmt.Errorf("%d fields where there must be 11 at least: %q", len(fields), text)
	}
	var n [16]uint64
	for i, field := range fields[:min(len(fields), len(n))] {
		var err error
		if n[i], err = strconv.ParseUint(field, 10, 64); err != nil {
			return DiskCounts{}, fmt.Errorf("field %d: %w", i+1, err)
		}
	}
	return DiskCounts{Reads: n[0], ReadBytes: n[2] * sector, Writes: n[4], WrittenBytes: n[6] * sector, Flushes: n[15]}, nil
}

// Since is what came after before.
func (c DiskCounts) Since(before DiskCounts) DiskCounts {
	return DiskCounts{
		Reads: c.Reads - before.Reads, Writes: c.Writes - before.Writes, Flushes: c.Flushes - before.Flushes,
		ReadBytes: c.ReadBytes - before.ReadBytes, WrittenBytes: c.WrittenBytes - before.WrittenBytes,
	}
}
