package main

import (
	"context"
	"os"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/perf"
	"blockstore.dev/blockstore/snapshot/mount"
)

// trim gives what file systems have free back to their files, so that the files
// hold what is in use. Where nothing can be trimmed nothing is given back: that
// is in the figure then.
func trim(ctx context.Context, dir string) error {
	unix.Sync()
	below, err := mount.Below(dir)
	if err != nil {
		return err
	}
	for _, e := range below {
		if e.Type != "btrfs" {
			continue
		}
		// Deleted subvolumes are freed in the background, where a sync of the
		// file system's own begins it.
		for _, verb := range []string{"filesystem", "subvolume"} {
			if _, err := perf.Output(ctx, "btrfs", verb, "sync", e.Target); err != nil {
				return err
			}
		}
		unix.Sync()
	}
	_ = perf.Trim(dir)
	unix.Sync()
	return nil
}

// dropCaches makes the kernel forget what it has read.
func dropCaches() error {
	unix.Sync()
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0)
}
