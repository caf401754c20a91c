package perf

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/btrfsvol"
	"blockstore.dev/blockstore/ioctl"
	"blockstore.dev/blockstore/snapshot/mount"
)

// Warm reads a file, so that nobody who is measured waits for the disk under it.
func Warm(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(io.Discard, f)
	return err
}

// Sparse makes a file that holds nothing yet.
func Sparse(file string, size int64) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Close())
}

// FileSystem makes a file system in a new file and mounts it at dir, on the same
// kind of loop device that blockstore makes for itself: direct I/O, and gone with
// its last user.
func FileSystem(ctx context.Context, u *Undo, kind, file, dir string, size int64) error {
	if err := Sparse(file, size); err != nil {
		return err
	}
	var err error
	if kind == "btrfs" {
		err = btrfsvol.Format(ctx, file, btrfsvol.FormatOptions{})
	} else {
		_, err = Output(ctx, "mkfs."+kind, "-q", file)
	}
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return err
	}
	loop, err := ioctl.AttachLoop(ctx, file, ioctl.LoopOptions{AutoClear: true})
	if err != nil {
		return err
	}
	if kind == "ext4" {
		if err := goAround(file, loop.Path(), dir); err != nil {
			return errors.Join(fmt.Errorf("writing the journal of %s once: %w", file, err), loop.Close())
		}
	}
	// ext4 would write its inode tables in the background, in somebody's round.
	options := map[string][]string{"ext4": {"noatime", "noinit_itable"}, "btrfs": {"noatime", "discard=async"}}[kind]
	err = mount.At(mount.Mount{Type: kind, Source: loop.Path(), Options: options}, dir)
	if err == nil {
		u.Add(dir, func() error { return UnmountAll(dir) })
	}
	return errors.Join(err, loop.Close())
}

// goAround has ext4's journal written to its end, as that of a disk that has been in use. The file below it has no written blocks there
// at first: the first fsync to come to each waited for the file's own file system to note that it is written, and whoever has written less
// before would wait more.
func goAround(file, device, dir string) error {
	journal, err := Allocated(file) // and little else
	if err != nil {
		return err
	}
	if err := mount.At(mount.Mount{Type: "ext4", Source: device, Options: []string{"noinit_itable", "data=journal"}}, dir); err != nil {
		return err
	}
	err = writeOnce(filepath.Join(dir, "once"), journal)
	return errors.Join(err, mount.Unmount(dir))
}

// writeOnce writes so many bytes into a file, a part at a time that is waited for, and removes it.
func writeOnce(name string, size int64) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	part := make([]byte, 1<<20)
	for at := int64(0); err == nil && at < size; at += int64(len(part)) {
		if _, err = f.WriteAt(part, at%(16<<20)); err == nil {
			err = unix.Fdatasync(int(f.Fd()))
		}
	}
	return errors.Join(err, f.Close(), os.Remove(name))
}

// UnmountAll unmounts dir and what others mounted below it.
func UnmountAll(dir string) error {
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

// RemoveDir removes a directory in which nothing may be mounted: what is mounted
// there is somebody's data.
func RemoveDir(dir string) error {
	below, err := mount.Below(dir)
	if err != nil {
		return err
	}
	if len(below) > 0 {
		return fmt.Errorf("%s is still mounted: %s stays", below[0].Target, dir)
	}
	return os.RemoveAll(dir)
}

// Trim discards what the file systems below dir have free, as fstrim(8) does: ext4, xfs
// and btrfs.
func Trim(dir string) error {
	below, err := mount.Below(dir)
	if err != nil {
		return err
	}
	done := map[[2]uint32]bool{}
	var errs []error
	for _, at := range below {
		id := [2]uint32{at.Major, at.Minor}
		if done[id] || !slices.Contains([]string{"ext4", "xfs", "btrfs"}, at.Type) {
			continue
		}
		done[id] = true
		f, err := os.Open(at.Target)
		if err == nil {
			_, err = ioctl.Trim(f, 0)
			err = errors.Join(err, f.Close())
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Allocated is what files take on their disk, holes left out, and what lies below them
// unless it is on another file system.
func Allocated(paths ...string) (int64, error) {
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
	return blocks * sector, nil
}

func isMount(dir string, dev uint64) bool {
	var up unix.Stat_t
	return unix.Lstat(filepath.Dir(dir), &up) == nil && up.Dev != dev
}

// Flush waits until everything that was written below dir is on disk.
func Flush(dir string) error {
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
