package zfs

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot"
)

var _ snapshot.Meter = (*driver)(nil)

// kstats is where the module shows what it counts; below it is a directory for each pool.
const kstats = "/proc/spl/kstat/zfs"

// Live are the volumes that are mounted here, with what ZFS counts for each dataset: calls to read and write files,
// whatever its cache answers.
func (d *driver) Live(context.Context) (map[snapshot.VolumeID]snapshot.Live, error) {
	uses, err := d.root.uses()
	if err != nil {
		return nil, err
	}
	pool, _, _ := strings.Cut(string(d.root), "/")
	counted := objsets(filepath.Join(kstats, pool))
	live := map[snapshot.VolumeID]snapshot.Live{}
	for _, e := range uses {
		id, ok := d.root.volumeID(e.Source)
		if !ok {
			continue
		}
		l := snapshot.Live{Device: unix.Mkdev(e.Major, e.Minor)}
		if io, ok := counted[e.Source]; ok {
			l.IO = &io
		}
		live[id] = l
	}
	return live, nil
}

// objsets are the counts of a pool's mounted datasets by their names. What cannot be read, as on a module that does not
// count, is left out.
func objsets(dir string) map[string]snapshot.IO {
	all := map[string]snapshot.IO{}
	files, _ := filepath.Glob(filepath.Join(dir, "objset-*")) // the pattern is well formed
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			continue // unmounted meanwhile
		}
		if name, io, err := parseObjset(string(raw)); err == nil {
			all[name] = io
		}
	}
	return all
}

// parseObjset reads a dataset's kstat (zfs_dataset_kstats in module/zfs/dataset_kstats.c): below two lines of header, lines of a
// name, a type and a value.
func parseObjset(text string) (dataset string, io snapshot.IO, err error) {
	io.Files = true
	missing := map[string]*uint64{"reads": &io.Reads, "nread": &io.ReadBytes, "writes": &io.Writes, "nwritten": &io.WrittenBytes}
	for line := range strings.Lines(text) {
		// A dataset's name may hold spaces, and nothing else does.
		field, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		_, value, _ := strings.Cut(strings.TrimSpace(rest), " ")
		value = strings.TrimSpace(value)
		if field == "dataset_name" {
			dataset = value
		}
		if to := missing[field]; to != nil {
			if *to, err = strconv.ParseUint(value, 10, 64); err != nil {
				return "", snapshot.IO{}, fmt.Errorf("a dataset's kstat, %s: %w", field, err)
			}
			delete(missing, field)
		}
	}
	if dataset == "" || len(missing) > 0 {
		return "", snapshot.IO{}, fmt.Errorf("a dataset's kstat %q: it lacks its name or a count", text)
	}
	return dataset, io, nil
}
