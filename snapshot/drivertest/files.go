package drivertest

import (
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

func syncfs(d *os.File) error { return unix.Syncfs(int(d.Fd())) }

// allocated sums the blocks of the files below dir, in its file system.
func allocated(e *env, dir string) int64 {
	e.t.Helper()
	var top unix.Stat_t
	e.ok(unix.Lstat(dir, &top))
	var sum int64
	e.ok(filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		if st.Dev != top.Dev {
			return fs.SkipDir
		}
		sum += st.Blocks * 512
		return nil
	}))
	return sum
}

// mtime is a modification time in nanoseconds.
func mtime(st unix.Stat_t) int64 { return st.Mtim.Nano() }
