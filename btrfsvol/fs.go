package btrfsvol

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/ioctl"
)

// Units.
type (
	// Bytes is a size in bytes.
	Bytes uint64
	// SubvolumeID is a subvolume's number, never used again within a file system.
	SubvolumeID uint64
	// TransactionID counts a file system's commits. An extent or inode carries the
	// one that made it.
	TransactionID uint64
)

// TopLevel is the subvolume that every btrfs file system begins as.
const TopLevel SubvolumeID = ioctl.BTRFS_FS_TREE_OBJECTID

// FS is a btrfs file system, seen from one of its directories. Its methods may be
// called concurrently, except Close.
type FS struct {
	dir  string
	fd   int
	fsid uuid.UUID
}

// Info describes a file system.
type Info struct {
	FSID       uuid.UUID
	Devices    int
	NodeSize   Bytes
	SectorSize Bytes
	Generation TransactionID // 0 before Linux 5.11
}

// Open opens the file system that the directory dir lies in. Paths given to the
// other calls are relative to dir. ErrNotBtrfs when it lies in another one.
func Open(dir string) (*FS, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, wrap(err, "open %s", dir)
	}
	fs := &FS{dir: dir, fd: fd}
	if err := fs.identify(); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return fs, nil
}

func (fs *FS) identify() error {
	var stat unix.Statfs_t
	if err := unix.Fstatfs(fs.fd, &stat); err != nil {
		return wrap(err, "statfs %s", fs.dir)
	}
	if stat.Type != unix.BTRFS_SUPER_MAGIC {
		return fmt.Errorf("%s: %w", fs.dir, ErrNotBtrfs)
	}
	info, err := fs.Info()
	fs.fsid = info.FSID
	return err
}

// Close gives the directory up.
func (fs *FS) Close() error { return unix.Close(fs.fd) }

// Dir is the directory given to Open, absolute.
func (fs *FS) Dir() string { return fs.dir }

// FSID is the file system's identity.
func (fs *FS) FSID() uuid.UUID { return fs.fsid }

// Info describes the file system.
func (fs *FS) Info() (Info, error) {
	args, err := ioctl.BtrfsFsInfo(fs.fd)
	if err != nil {
		return Info{}, wrap(err, "describe the file system of %s", fs.dir)
	}
	info := Info{
		FSID:       args.Fsid,
		Devices:    int(args.NumDevices),
		NodeSize:   Bytes(args.Nodesize),
		SectorSize: Bytes(args.Sectorsize),
	}
	if args.Flags&ioctl.BTRFS_FS_INFO_FLAG_GENERATION != 0 {
		info.Generation = TransactionID(args.Generation)
	}
	return info, nil
}

// Sync writes out all dirty data, commits it, and wakes the cleaner, so that what
// deleted subvolumes held is freed soon. Concurrent callers share a commit.
func (fs *FS) Sync() error {
	return wrap(ioctl.BtrfsSync(fs.fd), "sync %s", fs.dir)
}

// Commit commits the running transaction and waits for it. Unlike Sync it does not
// write out file data that has no extent yet.
func (fs *FS) Commit() error {
	transaction, err := ioctl.BtrfsStartSync(fs.fd)
	if err == nil {
		err = ioctl.BtrfsWaitSync(fs.fd, transaction)
	}
	return wrap(err, "commit %s", fs.dir)
}

// StartCommit starts a commit and does not wait for it. Like Commit it wakes the
// cleaner, and does not write out data that has no extent yet, so that it costs the
// caller nothing that others have written.
func (fs *FS) StartCommit() error {
	_, err := ioctl.BtrfsStartSync(fs.fd)
	return wrap(err, "start a commit of %s", fs.dir)
}

// sysfs is a file of the file system's directory in sysfs, Documentation/ABI and
// btrfs(5), "SYSFS INTERFACE".
func (fs *FS) sysfs(elements ...string) string {
	return filepath.Join(append([]string{"/sys/fs/btrfs", fs.fsid.String()}, elements...)...)
}

func readWord(path string) (string, error) {
	text, err := os.ReadFile(path)
	return strings.TrimSpace(string(text)), err
}

// openDir opens a directory beneath fs.dir.
func (fs *FS) openDir(path string) (int, error) {
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	if path == "" {
		path = "."
	}
	for {
		fd, err := unix.Openat2(fs.fd, path, &how)
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
}

// inDir calls act with the open parent directory of path and path's last element.
func (fs *FS) inDir(path string, act func(fd int, name string) error) error {
	dir, name := filepath.Split(filepath.Clean(path))
	if name == "" || name == "." || name == ".." {
		return unix.EINVAL
	}
	return fs.withDir(strings.TrimSuffix(dir, "/"), func(fd int) error { return act(fd, name) })
}

// withDir calls act with the open directory path.
func (fs *FS) withDir(path string, act func(fd int) error) error {
	fd, err := fs.openDir(path)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return act(fd)
}
