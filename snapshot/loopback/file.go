package loopback

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot"
)

// Sizes of files in bytes. Where none is asked for it is the lesser of mostByDefault and
// three quarters of what the file system below has free: a sparse file that outgrows that
// turns into write errors below a file system that thinks it has room.
const (
	mostByDefault = 100 << 30
	least         = 256 << 20
)

// leastHostFree is what the file system below must have free for new volumes, in bytes.
const leastHostFree = 64 << 20

// Size is how large a store's file in dir is made, if asked bytes were asked for; 0 is no
// wish. ErrInvalid for too few, ErrNoSpace where dir's file system has no room.
func Size(dir string, asked int64) (int64, error) {
	if asked != 0 {
		if asked < least {
			return 0, fmt.Errorf("%w: a loopback file of %s: it takes %s at least", snapshot.ErrInvalid,
				humanize.IBytes(uint64(max(asked, 0))), humanize.IBytes(least))
		}
		return asked, nil
	}
	free, err := freeBelow(dir)
	if err != nil {
		return 0, err
	}
	const align = 1 << 20
	size := min(mostByDefault, free/4*3) / align * align
	if size < least {
		return 0, fmt.Errorf("%w below %s for a loopback file: free some, or give another root", snapshot.ErrNoSpace, dir)
	}
	return size, nil
}

// File is the path of a store's file.
type File string

// Space is what the file system below the file has free, and what the file occupies there,
// in bytes.
func (f File) Space() (free, occupied int64, err error) {
	var stat unix.Stat_t
	if err := unix.Stat(string(f), &stat); err != nil {
		return 0, 0, &os.PathError{Op: "stat", Path: string(f), Err: err}
	}
	free, err = freeBelow(filepath.Dir(string(f)))
	return free, stat.Blocks * 512, err
}

// Room is ErrNoSpace with the way out when the file system below the file is full: a write
// that it cannot take is an I/O error to whoever uses the file as a disk.
func (f File) Room() error {
	free, err := freeBelow(filepath.Dir(string(f)))
	if err == nil && free < leastHostFree {
		err = fmt.Errorf("%w: %s left for the loopback file %s: free some on its file system",
			snapshot.ErrNoSpace, humanize.IBytes(uint64(max(free, 0))), f)
	}
	return err
}

func freeBelow(dir string) (int64, error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return int64(stat.Bavail) * stat.Bsize, nil
}
