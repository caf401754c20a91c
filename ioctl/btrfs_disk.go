package ioctl

import (
	"encoding/binary"
	"fmt"
)

// Items of btrfs's trees as they lie on disk, <linux/btrfs_tree.h>: packed and
// little-endian, read by offset. Decoders accept longer items than they know,
// for the format grows at the end, and refuse shorter ones.

// BTRFS_ROOT_SUBVOL_RDONLY is the read-only bit of BtrfsRootItem.Flags.
const BTRFS_ROOT_SUBVOL_RDONLY = 1 << 0

// Offsets in struct btrfs_root_item. Items written before Linux 3.6 end before
// generation_v2; items whose generation_v2 is not generation were written by such
// a kernel later, and what follows is not valid.
const (
	rootItemGeneration   = 160
	rootItemLastSnapshot = 200
	rootItemFlags        = 208
	rootItemRefs         = 216
	rootItemGenerationV2 = 239
	rootItemUUID         = 247
	rootItemParentUUID   = 263
	rootItemCtransid     = 295
	rootItemOtransid     = 303
	rootItemCtime        = 327
	rootItemOtime        = 339
	rootItemSize         = 439
)

// BtrfsRootItem is the part of struct btrfs_root_item that this module uses.
type BtrfsRootItem struct {
	Generation   uint64
	LastSnapshot uint64
	Flags        uint64
	Refs         uint32 // 0: destroyed, and not cleaned up yet
	UUID         [BTRFS_UUID_SIZE]byte
	ParentUUID   [BTRFS_UUID_SIZE]byte
	Ctransid     uint64
	Otransid     uint64
	CtimeSec     uint64
	CtimeNsec    uint32
	OtimeSec     uint64
	OtimeNsec    uint32
}

// DecodeBtrfsRootItem reads a ROOT_ITEM.
func DecodeBtrfsRootItem(data []byte) (BtrfsRootItem, error) {
	if len(data) < rootItemGenerationV2 {
		return BtrfsRootItem{}, shortItem("root item", len(data), rootItemGenerationV2)
	}
	item := BtrfsRootItem{
		Generation:   le64(data, rootItemGeneration),
		LastSnapshot: le64(data, rootItemLastSnapshot),
		Flags:        le64(data, rootItemFlags),
		Refs:         le32(data, rootItemRefs),
	}
	if len(data) < rootItemSize || le64(data, rootItemGenerationV2) != item.Generation {
		return item, nil
	}
	copy(item.UUID[:], data[rootItemUUID:])
	copy(item.ParentUUID[:], data[rootItemParentUUID:])
	item.Ctransid = le64(data, rootItemCtransid)
	item.Otransid = le64(data, rootItemOtransid)
	item.CtimeSec = le64(data, rootItemCtime)
	item.CtimeNsec = le32(data, rootItemCtime+8)
	item.OtimeSec = le64(data, rootItemOtime)
	item.OtimeNsec = le32(data, rootItemOtime+8)
	return item, nil
}

// Offsets in struct btrfs_root_ref, which a name follows.
const (
	rootRefDirid    = 0
	rootRefSequence = 8
	rootRefNameLen  = 16
	rootRefSize     = 18
)

// BtrfsRootRef is struct btrfs_root_ref with its name, a ROOT_REF or ROOT_BACKREF.
type BtrfsRootRef struct {
	Dirid    uint64
	Sequence uint64
	Name     string
}

// DecodeBtrfsRootRef reads one.
func DecodeBtrfsRootRef(data []byte) (BtrfsRootRef, error) {
	if len(data) < rootRefSize {
		return BtrfsRootRef{}, shortItem("root reference", len(data), rootRefSize)
	}
	end := rootRefSize + int(le16(data, rootRefNameLen))
	if len(data) < end {
		return BtrfsRootRef{}, shortItem("root reference", len(data), end)
	}
	return BtrfsRootRef{
		Dirid:    le64(data, rootRefDirid),
		Sequence: le64(data, rootRefSequence),
		Name:     string(data[rootRefSize:end]),
	}, nil
}

// Offsets in struct btrfs_inode_item.
const (
	inodeItemGeneration = 0
	inodeItemTransid    = 8
	inodeItemSize       = 16
	inodeItemNbytes     = 24
	inodeItemNlink      = 40
	inodeItemMode       = 52
	inodeItemBytes      = 160
)

// BtrfsInodeItem is the part of struct btrfs_inode_item that this module uses.
type BtrfsInodeItem struct {
	Generation uint64
	Transid    uint64
	Size       uint64
	Nbytes     uint64
	Nlink      uint32
	Mode       uint32
}

// DecodeBtrfsInodeItem reads an INODE_ITEM.
func DecodeBtrfsInodeItem(data []byte) (BtrfsInodeItem, error) {
	if len(data) < inodeItemBytes {
		return BtrfsInodeItem{}, shortItem("inode item", len(data), inodeItemBytes)
	}
	return BtrfsInodeItem{
		Generation: le64(data, inodeItemGeneration),
		Transid:    le64(data, inodeItemTransid),
		Size:       le64(data, inodeItemSize),
		Nbytes:     le64(data, inodeItemNbytes),
		Nlink:      le32(data, inodeItemNlink),
		Mode:       le32(data, inodeItemMode),
	}, nil
}

// Offsets in struct btrfs_dir_item, which a name and, for an xattr, its value
// follow. An item may hold several of them one after the other: names whose hash
// is the same.
const (
	dirItemLocation = 0
	dirItemTransid  = 17
	dirItemDataLen  = 25
	dirItemNameLen  = 27
	dirItemType     = 29
	dirItemSize     = 30
)

// BtrfsDirItem is struct btrfs_dir_item with its name: a DIR_ITEM, DIR_INDEX or
// XATTR_ITEM.
type BtrfsDirItem struct {
	Objectid uint64 // of the key that it points to: an inode number
	KeyType  uint8  // INODE_ITEM, or ROOT_ITEM for a subvolume
	Transid  uint64
	Type     uint8
	Name     string
}

// DecodeBtrfsDirItems reads the one or more entries of an item.
func DecodeBtrfsDirItems(data []byte) ([]BtrfsDirItem, error) {
	var items []BtrfsDirItem
	for len(data) > 0 {
		if len(data) < dirItemSize {
			return nil, shortItem("directory item", len(data), dirItemSize)
		}
		name := dirItemSize + int(le16(data, dirItemNameLen))
		end := name + int(le16(data, dirItemDataLen))
		if len(data) < end {
			return nil, shortItem("directory item", len(data), end)
		}
		items = append(items, BtrfsDirItem{
			Objectid: le64(data, dirItemLocation),
			KeyType:  data[dirItemLocation+8],
			Transid:  le64(data, dirItemTransid),
			Type:     data[dirItemType],
			Name:     string(data[dirItemSize:name]),
		})
		data = data[end:]
	}
	return items, nil
}

// Offsets in struct btrfs_inode_ref and btrfs_inode_extref, which a name follows. An
// item may hold several, one after the other.
const (
	inodeRefNameLen = 8
	inodeRefSize    = 10

	inodeExtrefParent  = 0
	inodeExtrefNameLen = 16
	inodeExtrefSize    = 18
)

// BtrfsInodeName is one name of an inode.
type BtrfsInodeName struct {
	Parent uint64 // the directory's inode
	Name   string
}

// DecodeBtrfsInodeRefs reads an INODE_REF; parent is its key's offset.
func DecodeBtrfsInodeRefs(parent uint64, data []byte) ([]BtrfsInodeName, error) {
	return decodeNames(data, inodeRefSize, inodeRefNameLen, func([]byte) uint64 { return parent })
}

// DecodeBtrfsInodeExtrefs reads an INODE_EXTREF.
func DecodeBtrfsInodeExtrefs(data []byte) ([]BtrfsInodeName, error) {
	return decodeNames(data, inodeExtrefSize, inodeExtrefNameLen, func(ref []byte) uint64 { return le64(ref, inodeExtrefParent) })
}

func decodeNames(data []byte, size, length int, parent func([]byte) uint64) ([]BtrfsInodeName, error) {
	var names []BtrfsInodeName
	for len(data) > 0 {
		if len(data) < size {
			return nil, shortItem("inode reference", len(data), size)
		}
		end := size + int(le16(data, length))
		if len(data) < end {
			return nil, shortItem("inode reference", len(data), end)
		}
		names = append(names, BtrfsInodeName{Parent: parent(data), Name: string(data[size:end])})
		data = data[end:]
	}
	return names, nil
}

// Offsets in struct btrfs_file_extent_item. An inline extent's data begins where
// the others have disk_bytenr.
const (
	fileExtentGeneration   = 0
	fileExtentRAMBytes     = 8
	fileExtentCompression  = 16
	fileExtentType         = 20
	fileExtentDiskBytenr   = 21
	fileExtentDiskNumBytes = 29
	fileExtentOffset       = 37
	fileExtentNumBytes     = 45
	fileExtentSize         = 53
)

// BtrfsFileExtent is struct btrfs_file_extent_item. DiskBytenr 0 is a hole.
type BtrfsFileExtent struct {
	Generation   uint64
	RAMBytes     uint64
	Compression  uint8
	Type         uint8
	Inline       int // bytes of an inline extent's data as stored
	DiskBytenr   uint64
	DiskNumBytes uint64
	Offset       uint64
	NumBytes     uint64
}

// DecodeBtrfsFileExtent reads an EXTENT_DATA.
func DecodeBtrfsFileExtent(data []byte) (BtrfsFileExtent, error) {
	if len(data) < fileExtentDiskBytenr {
		return BtrfsFileExtent{}, shortItem("file extent", len(data), fileExtentDiskBytenr)
	}
	extent := BtrfsFileExtent{
		Generation:  le64(data, fileExtentGeneration),
		RAMBytes:    le64(data, fileExtentRAMBytes),
		Compression: data[fileExtentCompression],
		Type:        data[fileExtentType],
	}
	if extent.Type == BTRFS_FILE_EXTENT_INLINE {
		extent.Inline = len(data) - fileExtentDiskBytenr
		return extent, nil
	}
	if extent.Type > BTRFS_FILE_EXTENT_PREALLOC {
		return BtrfsFileExtent{}, fmt.Errorf("btrfs file extent: unknown type %d", extent.Type)
	}
	if len(data) < fileExtentSize {
		return BtrfsFileExtent{}, shortItem("file extent", len(data), fileExtentSize)
	}
	extent.DiskBytenr = le64(data, fileExtentDiskBytenr)
	extent.DiskNumBytes = le64(data, fileExtentDiskNumBytes)
	extent.Offset = le64(data, fileExtentOffset)
	extent.NumBytes = le64(data, fileExtentNumBytes)
	return extent, nil
}

func shortItem(what string, have, want int) error {
	return fmt.Errorf("btrfs %s: %d bytes, at least %d expected", what, have, want)
}

func le16(data []byte, at int) uint16 { return binary.LittleEndian.Uint16(data[at:]) }
func le32(data []byte, at int) uint32 { return binary.LittleEndian.Uint32(data[at:]) }
func le64(data []byte, at int) uint64 { return binary.LittleEndian.Uint64(data[at:]) }
