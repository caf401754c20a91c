package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/ioctl"
	"blockstore.dev/blockstore/snapshot/mount"
)

// sparse makes a file that holds nothing yet.
func sparse(file string, size int64) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Close())
}

// fileSystem makes a file system in a new file and mounts it at dir, on the same
// kind of loop device that blockstore makes for itself: direct I/O, and gone with
// its last user.
func fileSystem(ctx context.Context, u *undo, kind, file, dir string, size int64) error {
	if err := sparse(file, size); err != nil {
		return err
	}
	if _, err := output(ctx, "mkfs."+kind, "-q", file); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return err
	}
	loop, err := ioctl.AttachLoop(ctx, file, ioctl.LoopOptions{AutoClear: true})
	if err != nil {
		return err
	}
	// ext4 would write its inode tables in the background, in somebody's round.
	options := map[string][]string{"ext4": {"noatime", "noinit_itable"}, "btrfs": {"noatime", "discard=async"}}[kind]
	err = mount.At(mount.Mount{Type: kind, Source: loop.Path(), Options: options}, dir)
	if err == nil {
		u.add(dir, func() error { return unmountAll(dir) })
	}
	return errors.Join(err, loop.Close())
}

// unmountAll unmounts dir and what others mounted below it.
func unmountAll(dir string) error {
	below, err := mount.Below(dir)
	if err != nil {
		return err
	}
	var errs []error
	for i := len(below) - 1; i >= 0; i-- {
		errs = append(errs, mount.Unmount(below[i].Target))
	}
	return errors.Join(errs...)
}

// remove removes a directory in which nothing may be mounted: what is mounted
// there is somebody's data.
func remove(dir string) error {
	below, err := mount.Below(dir)
	if err != nil {
		return err
	}
	if len(below) > 0 {
		return fmt.Errorf("%s is still mounted: %s stays", below[0].Target, dir)
	}
	return os.RemoveAll(dir)
}

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
				if _, err := output(ctx, "btrfs", verb, "sync", e.Target); err != nil {
					return err
				}
			}
			unix.Sync()
		}
		_, _ = output(ctx, "fstrim", e.Target)
	}
	unix.Sync()
	return nil
}

// flush waits until everything that was written below dir is on disk.
func flush(dir string) error {
	below, err := mount.Below(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, at := range append(below, mount.Entry{Target: dir}) {
		f, err := os.Open(at.Target)
		if err == nil {
			err = errors.Join(unix.Syncfs(int(f.Fd())), f.Close())
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// dropCaches makes the kernel forget what it has read.
func dropCaches() error {
	unix.Sync()
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0)
}
