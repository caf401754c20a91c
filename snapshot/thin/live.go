package thin

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/snapshot"
)

var _ snapshot.Meter = (*driver)(nil)

// Live are the pool's active devices, with what the kernel counts for each block device.
func (d *driver) Live(ctx context.Context) (map[snapshot.VolumeID]snapshot.Live, error) {
	active, err := d.pool.Active(ctx)
	if err != nil {
		return nil, translate(err)
	}
	live := map[snapshot.VolumeID]snapshot.Live{}
	for _, a := range active {
		io, err := readStat(a.Number)
		if errors.Is(err, os.ErrNotExist) {
			continue // it has just gone
		}
		if err != nil {
			return nil, fmt.Errorf("reading what device %d did: %w", a.ID, err)
		}
		live[snapshot.VolumeID(a.ID)] = snapshot.Live{Device: unix.Mkdev(a.Number.Major, a.Number.Minor), IO: &io}
	}
	return live, nil
}

func readStat(n dm.Number) (snapshot.IO, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/stat", n.Major, n.Minor))
	if err != nil {
		return snapshot.IO{}, err
	}
	return parseStat(string(raw))
}

// parseStat reads a block device's stat (Documentation/block/stat.rst): reads, reads merged, sectors read, ticks, and the same of writes.
// Sectors are 512 bytes, whatever the device's are.
func parseStat(text string) (snapshot.IO, error) {
	fields := strings.Fields(text)
	if len(fields) < 8 {
		return snapshot.IO{}, fmt.Errorf("a device's stat %q: %d fields, not 8 or more", text, len(fields))
	}
	var n [8]uint64
	for i := range n {
		var err error
		if n[i], err = strconv.ParseUint(fields[i], 10, 64); err != nil {
			return snapshot.IO{}, fmt.Errorf("a device's stat, field %d: %w", i, err)
		}
	}
	return snapshot.IO{Reads: n[0], ReadBytes: n[2] * dm.SectorSize, Writes: n[4], WrittenBytes: n[6] * dm.SectorSize}, nil
}
