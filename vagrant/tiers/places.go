package main

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// places are where the host's tests put their files.
type places struct {
	disk string
	// short is t.TempDir's. Unix sockets lie in it, whose paths have 107 bytes at most.
	short string
}

func makePlaces() (p places, err error) {
	if p.disk, err = makePlace("bstest-"); err == nil {
		p.short, err = makePlace("bst")
	}
	return p, err
}

// makePlace makes one whose tests' directories lie far from each other on ext4, as the root's do (chattr +T): a new file is looked for
// a place in its directory's group, past each that was removed there in the last minutes (recently_deleted, fs/ext4/ialloc.c). Where
// all tests make and remove thousands of files in one group, each new file takes half a millisecond of a processor.
func makePlace(pattern string) (string, error) {
	dir, err := os.MkdirTemp(diskDir(), pattern)
	if err != nil {
		return dir, err
	}
	if err := os.Chmod(dir, 0o711); err != nil { // the root of a user namespace, who is none of the machine's, comes through
		return dir, err
	}
	f, err := os.Open(dir)
	if err != nil {
		return dir, err
	}
	defer f.Close()
	if flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS); err == nil { // other file systems have no such flag
		_ = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(flags|topDir))
	}
	return dir, nil
}

// topDir is FS_TOPDIR_FL of linux/fs.h.
const topDir = 0x00020000

// diskDir is where the tests' files go: on a disk, since loop devices on a
// tmpfs refuse direct I/O and /tmp may be one.
func diskDir() string {
	if dir := os.Getenv("BSTEST_DIR"); dir != "" {
		return dir
	}
	if dir := os.Getenv("TMPDIR"); dir != "" && !strings.HasPrefix(dir, "/tmp") {
		return dir
	}
	return "/var/tmp"
}
