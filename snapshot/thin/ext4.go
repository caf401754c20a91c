package thin

import (
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot"
)

// The superblock, group descriptors and inodes of ext4, little-endian (Linux, Documentation/filesystems/ext4: super.rst,
// group_descr.rst, inodes.rst).
const (
	ext4SuperAt = 1024

	// In the superblock.
	ext4Inodes, ext4FirstBlock, ext4LogBlock                 = 0x0, 0x14, 0x18
	ext4GroupInodes, ext4Written, ext4Magic, ext4InodeSize   = 0x28, 0x30, 0x38, 0x58
	ext4Incompat, ext4ROCompat, ext4UUID, ext4DescriptorSize = 0x60, 0x64, 0x68, 0xfe
	ext4WrittenHigh                                          = 0x274

	// Features.
	ext4Recover, ext4MetaBG, ext4Has64Bit = 0x4, 0x10, 0x80 // incompatible
	ext4GDTSums, ext4MetadataSums         = 0x10, 0x400     // read-only compatible

	// In a group's descriptor.
	ext4Table, ext4Flags, ext4Unused, ext4TableHigh, ext4UnusedHigh = 0x8, 0x12, 0x1c, 0x28, 0x32
	ext4InodesUninitialised                                         = 0x1
	ext4SmallDescriptor                                             = 32

	// In an inode.
	ext4ChangeTime, ext4Links, ext4ExtraSize, ext4ChangeTimeExtra = 0xc, 0x1a, 0x80, 0x84
	ext4SmallInode                                                = 128
)

// ext4MostGroups is more than a file system of 16 TiB has with the groups that mkfs makes, in descriptors of some MiB.
const ext4MostGroups = 1 << 18

// ext4FS is the layout of an ext4. The kernel has mounted it, and so checked what it consists of; it
// may be a stranger's all the same.
type ext4FS struct {
	r io.ReaderAt

	uuid      [16]byte
	inodes    uint32
	perGroup  uint32
	inodeSize int64
	blockSize int64

	firstBlock       uint32
	descriptorSize   int
	incompat, compat uint32

	written time.Time // the superblock, in whole seconds: when it was frozen or unmounted last, if it is not dirty
}

// inodeGroup is one of its groups' inodes.
type inodeGroup struct {
	table int64 // where they lie, in bytes
	used  int64 // those behind were never used, and what lies there is nothing
}

// openExt4 reads the superblock.
func openExt4(r io.ReaderAt) (*ext4FS, error) {
	sb := aligned(fsBlock)
	if _, err := r.ReadAt(sb, 0); err != nil {
		return nil, fmt.Errorf("reading ext4 superblock: %w", err)
	}
	sb = sb[ext4SuperAt:]
	le := binary.LittleEndian
	if le.Uint16(sb[ext4Magic:]) != unix.EXT4_SUPER_MAGIC {
		return nil, fmt.Errorf("volume holds no ext4: %w", snapshot.ErrCorrupt)
	}
	fs := &ext4FS{
		r: r, inodes: le.Uint32(sb[ext4Inodes:]), perGroup: le.Uint32(sb[ext4GroupInodes:]),
		inodeSize: int64(le.Uint16(sb[ext4InodeSize:])), firstBlock: le.Uint32(sb[ext4FirstBlock:]),
		incompat: le.Uint32(sb[ext4Incompat:]), compat: le.Uint32(sb[ext4ROCompat:]), descriptorSize: ext4SmallDescriptor,
	}
	copy(fs.uuid[:], sb[ext4UUID:])
	fs.written = time.Unix(int64(sb[ext4WrittenHigh])<<32|int64(le.Uint32(sb[ext4Written:])), 0)
	if fs.incompat&ext4Has64Bit != 0 {
		fs.descriptorSize = int(le.Uint16(sb[ext4DescriptorSize:]))
	}
	logBlock := le.Uint32(sb[ext4LogBlock:])
	if logBlock > 6 || fs.perGroup == 0 || fs.inodes == 0 || fs.inodes%fs.perGroup != 0 ||
		fs.inodeSize < ext4SmallInode || fs.inodeSize > 1<<16 || fs.inodeSize&(fs.inodeSize-1) != 0 ||
		fs.descriptorSize < ext4SmallDescriptor || fs.descriptorSize > fsBlock {
		return nil, fmt.Errorf("the superblock of ext4 makes no sense: %w", snapshot.ErrCorrupt)
	}
	fs.blockSize = 1024 << logBlock
	return fs, nil
}

// dirty: it has a journal to replay.
func (fs *ext4FS) dirty() bool { return fs.incompat&ext4Recover != 0 }

// like says that both are laid out alike, but for their sizes.
func (fs *ext4FS) like(other *ext4FS) bool {
	return fs.uuid == other.uuid && fs.perGroup == other.perGroup && fs.inodeSize == other.inodeSize && fs.blockSize == other.blockSize
}

// groups reads the group descriptors.
func (fs *ext4FS) groups() ([]inodeGroup, error) {
	if fs.incompat&ext4MetaBG != 0 { // the descriptors lie about
		return nil, fmt.Errorf("ext4 has meta_bg: %w", snapshot.ErrNotSupported)
	}
	n := fs.inodes / fs.perGroup
	if n > ext4MostGroups {
		return nil, fmt.Errorf("ext4 has %d groups: %w", n, snapshot.ErrNotSupported)
	}
	groups := make([]inodeGroup, n)
	raw := aligned(len(groups) * fs.descriptorSize)
	if _, err := fs.r.ReadAt(raw, (int64(fs.firstBlock)+1)*fs.blockSize); err != nil {
		return nil, fmt.Errorf("reading ext4 group descriptors: %w", err)
	}
	le := binary.LittleEndian
	for i := range groups {
		d := raw[i*fs.descriptorSize:][:fs.descriptorSize]
		block, unused := int64(le.Uint32(d[ext4Table:])), int64(le.Uint16(d[ext4Unused:]))
		if fs.descriptorSize > ext4UnusedHigh {
			block |= int64(le.Uint32(d[ext4TableHigh:])) << 32
			unused |= int64(le.Uint16(d[ext4UnusedHigh:])) << 16
		}
		g := inodeGroup{table: block * fs.blockSize, used: int64(fs.perGroup)}
		if fs.compat&(ext4GDTSums|ext4MetadataSums) != 0 {
			g.used -= min(unused, g.used)
			if le.Uint16(d[ext4Flags:])&ext4InodesUninitialised != 0 {
				g.used = 0
			}
		}
		if block < 0 || g.table < 0 {
			return nil, fmt.Errorf("an inode table of ext4 begins at block %d: %w", block, snapshot.ErrCorrupt)
		}
		groups[i] = g
	}
	return groups, nil
}

// ext4Inode is an inode as it lies on the disk.
type ext4Inode []byte

// linked: it has a name.
func (n ext4Inode) linked() bool { return binary.LittleEndian.Uint16(n[ext4Links:]) > 0 }

// changed is its change time.
func (n ext4Inode) changed() time.Time {
	le := binary.LittleEndian
	seconds, nanoseconds := int64(int32(le.Uint32(n[ext4ChangeTime:]))), int64(0)
	if len(n) > ext4SmallInode && int(le.Uint16(n[ext4ExtraSize:])) >= ext4ChangeTimeExtra+4-ext4SmallInode {
		extra := le.Uint32(n[ext4ChangeTimeExtra:])
		seconds += int64(extra&3) << 32
		nanoseconds = int64(extra >> 2)
	}
	return time.Unix(seconds, nanoseconds)
}

// aligned is a buffer for at least n bytes that direct I/O takes: allocations of that size begin at a page.
func aligned(n int) []byte {
	n = (n + fsBlock - 1) &^ (fsBlock - 1)
	return make([]byte, max(n, directBuffer))[:n]
}
