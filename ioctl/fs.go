package ioctl

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Requests to a mounted file system: Linux, include/uapi/linux/fs.h, for
// ext4 include/uapi/linux/ext4.h, for xfs fs/xfs/libxfs/xfs_fs.h.
//
// FS_IOC_GETFLAGS and GETVERSION are declared with a long and carry an int.

func fiFreeze() uintptr           { return IOWR[int32]('X', 119) }
func fiThaw() uintptr             { return IOWR[int32]('X', 120) }
func fiTrim() uintptr             { return IOWR[FstrimRange]('X', 121) }
func fiClone() uintptr            { return IOW[int32](0x94, 9) }
func fiCloneRange() uintptr       { return IOW[FileCloneRange](0x94, 13) }
func fsIocGetversion() uintptr    { return IOR[uintptr]('v', 1) }
func fsIocGetflags() uintptr      { return IOR[uintptr]('f', 1) }
func ext4IocResizeFs() uintptr    { return IOW[uint64]('f', 16) }
func ext4IocCheckpoint() uintptr  { return IOW[uint32]('f', 43) }
func xfsIocFsgeometryV1() uintptr { return IOR[XFSGeometry]('X', 100) }
func xfsIocFsgrowfsdata() uintptr { return IOW[XFSGrowfsData]('X', 110) }

// Bits of FS_IOC_GETFLAGS.
const (
	FS_SYNC_FL      = 0x00000008
	FS_IMMUTABLE_FL = 0x00000010
	FS_APPEND_FL    = 0x00000020
	FS_NODUMP_FL    = 0x00000040
	FS_NOATIME_FL   = 0x00000080
	FS_NOCOW_FL     = 0x00800000
)

// FstrimRange is struct fstrim_range, in bytes.
type FstrimRange struct {
	Start  uint64
	Len    uint64
	Minlen uint64
}

// FileCloneRange is struct file_clone_range.
type FileCloneRange struct {
	SrcFd      int64
	SrcOffset  uint64
	SrcLength  uint64
	DestOffset uint64
}

// XFSGrowfsData is xfs_growfs_data_t: the data device's new size in file system
// blocks and the highest share of it that inodes may take, in percent.
type XFSGrowfsData struct {
	Newblocks uint64
	Imaxpct   uint32
	_         uint32
}

// XFSGeometry is struct xfs_fsop_geom_v1. Sizes are in blocks of Blocksize bytes.
type XFSGeometry struct {
	Blocksize    uint32
	Rtextsize    uint32
	Agblocks     uint32
	Agcount      uint32
	Logblocks    uint32
	Sectsize     uint32
	Inodesize    uint32
	Imaxpct      uint32
	Datablocks   uint64
	Rtblocks     uint64
	Rtextents    uint64
	Logstart     uint64
	UUID         [16]byte
	Sunit        uint32
	Swidth       uint32
	Version      int32
	Flags        uint32
	Logsectsize  uint32
	Rtsectsize   uint32
	Dirblocksize uint32
	_            uint32
}

// Freeze stops all writing to the file system that f lies in and brings its disk
// to a clean state, until Thaw. EBUSY when it is frozen already, EOPNOTSUPP when
// it cannot be.
func Freeze(f *os.File) error { return fsCall(f, fiFreeze(), nil) }

// Thaw lets writers go on. EINVAL when the file system is not frozen.
func Thaw(f *os.File) error { return fsCall(f, fiThaw(), nil) }

// Trim discards the free space of the file system that f lies in, for free
// extents of at least minimum bytes, and returns how many bytes it discarded.
// EOPNOTSUPP when the device cannot discard.
func Trim(f *os.File, minimum uint64) (uint64, error) {
	r := FstrimRange{Len: ^uint64(0), Minlen: minimum}
	err := fsCall(f, fiTrim(), unsafe.Pointer(&r))
	return r.Len, err
}

// Clone makes destination's content source's, sharing the blocks. EOPNOTSUPP or
// EINVAL where the file system cannot, EXDEV between two file systems.
func Clone(destination, source *os.File) error {
	_, err := callValue(int(destination.Fd()), fiClone(), source.Fd())
	return err
}

// CloneRange shares a range of blocks: r.SrcFd is set from source.
func CloneRange(destination, source *os.File, r FileCloneRange) error {
	r.SrcFd = int64(source.Fd())
	return fsCall(destination, fiCloneRange(), unsafe.Pointer(&r))
}

// InodeGeneration reads the generation of an inode, which tells two files apart
// that had the same inode number one after the other.
func InodeGeneration(f *os.File) (uint32, error) {
	var words [2]uint32
	err := fsCall(f, fsIocGetversion(), unsafe.Pointer(&words))
	return words[0], err
}

// InodeFlags reads an inode's flags (chattr): FS_IMMUTABLE_FL and the others.
func InodeFlags(f *os.File) (uint32, error) {
	var words [2]uint32
	err := fsCall(f, fsIocGetflags(), unsafe.Pointer(&words))
	return words[0], err
}

// GrowExt4 grows the mounted ext4 that f lies in to a number of its blocks. It takes
// CAP_SYS_RESOURCE: EPERM without.
func GrowExt4(f *os.File, blocks uint64) error {
	return fsCall(f, ext4IocResizeFs(), unsafe.Pointer(&blocks))
}

// CheckpointExt4 commits the journal of the mounted ext4 that f lies in and writes what is in it to its place, so that the device
// has the metadata of all that was done before. Who changes metadata waits meanwhile. ENOTTY before Linux 5.14, ENODEV without a
// journal.
func CheckpointExt4(f *os.File) error {
	var flags uint32
	return fsCall(f, ext4IocCheckpoint(), unsafe.Pointer(&flags))
}

// GrowXFS grows the mounted xfs that f lies in to a number of its blocks.
func GrowXFS(f *os.File, blocks uint64) error {
	geometry, err := GetXFSGeometry(f)
	if err != nil {
		return err
	}
	// The request sets the inodes' share too: give back what it is.
	size := XFSGrowfsData{Newblocks: blocks, Imaxpct: geometry.Imaxpct}
	return fsCall(f, xfsIocFsgrowfsdata(), unsafe.Pointer(&size))
}

// GetXFSGeometry describes the xfs that f lies in.
func GetXFSGeometry(f *os.File) (*XFSGeometry, error) {
	var geometry XFSGeometry
	err := fsCall(f, xfsIocFsgeometryV1(), unsafe.Pointer(&geometry))
	return &geometry, err
}

func fsCall(f *os.File, request uintptr, argument unsafe.Pointer) error {
	for {
		_, err := call(int(f.Fd()), request, argument)
		if err != unix.EINTR {
			return err
		}
	}
}
