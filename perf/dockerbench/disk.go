package main

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/perf"
	"blockstore.dev/blockstore/snapshot/mount"
)

// allocated is what files take on their disk, holes left out.
func allocated(paths ...string) (int64, error) {
	var blocks int64
	for _, p := range paths {
		err := filepath.WalkDir(p, func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			var st unix.Stat_t
			if err := unix.Lstat(name, &st); err != nil {
				return &os.PathError{Op: "lstat", Path: name, Err: err}
			}
			if d.IsDir() && name != p && isMount(name, st.Dev) {
				return fs.SkipDir
			}
			blocks += st.Blocks
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	return blocks * 512, nil
}

func isMount(dir string, dev uint64) bool {
	var up unix.Stat_t
	return unix.Lstat(filepath.Dir(dir), &up) == nil && up.Dev != dev
}

// trim gives what file systems have free back to their files, so that the files
// hold what is in use. Where nothing can be trimmed nothing is given back: that
// is in the figure then.
func trim(ctx context.Context, dir string) error {
	unix.Sync()
	below, err := mount.Below(dir)
	if err != nil {
		return err
	}
	done := map[[2]uint32]bool{}
	for _, e := range below {
		id := [2]uint32{e.Major, e.Minor}
		if done[id] || (e.Type != "ext4" && e.Type != "btrfs") {
			continue
		}
		done[id] = true
		if e.Type == "btrfs" {
			// Deleted subvolumes are freed in the background, where a sync of the
			// file system's own begins it.
			for _, verb := range []string{"filesystem", "subvolume"} {
				if _, err := perf.Output(ctx, "btrfs", verb, "sync", e.Target); err != nil {
					return err
				}
			}
			unix.Sync()
		}
		_, _ = perf.Output(ctx, "fstrim", e.Target)
	}
	unix.Sync()
	return nil
}

// dropCaches makes the kernel forget what it has read.
func dropCaches() error {
	unix.Sync()
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0)
}
