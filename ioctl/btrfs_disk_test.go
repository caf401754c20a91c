package ioctl

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBtrfsDiskItems(t *testing.T) {
	table := abiTable{headers: []string{"linux/btrfs.h", "linux/btrfs_tree.h"}, numbers: map[string]uint64{
		"BTRFS_ROOT_SUBVOL_RDONLY": BTRFS_ROOT_SUBVOL_RDONLY,
		// The probe's offsets of the nested parts.
		"offsetof(struct btrfs_dir_item, location) + offsetof(struct btrfs_disk_key, type)": dirItemLocation + 8,
	}}
	for item, fields := range map[string]map[string]uint64{
		"btrfs_root_item": {
			"generation": rootItemGeneration, "last_snapshot": rootItemLastSnapshot, "flags": rootItemFlags,
			"refs": rootItemRefs, "generation_v2": rootItemGenerationV2, "uuid": rootItemUUID,
			"parent_uuid": rootItemParentUUID, "ctransid": rootItemCtransid, "otransid": rootItemOtransid, "ctime": rootItemCtime, "otime": rootItemOtime, "": rootItemSize,
		},
		"btrfs_root_ref": {
			"dirid": rootRefDirid, "sequence": rootRefSequence, "name_len": rootRefNameLen, "": rootRefSize,
		},
		"btrfs_inode_item": {
			"generation": inodeItemGeneration, "transid": inodeItemTransid, "size": inodeItemSize,
			"nbytes": inodeItemNbytes, "nlink": inodeItemNlink, "mode": inodeItemMode, "": inodeItemBytes,
		},
		"btrfs_dir_item": {
			"location": dirItemLocation, "transid": dirItemTransid, "data_len": dirItemDataLen,
			"name_len": dirItemNameLen, "type": dirItemType, "": dirItemSize,
		},
		"btrfs_inode_ref": {"name_len": inodeRefNameLen, "": inodeRefSize},
		"btrfs_inode_extref": {
			"parent_objectid": inodeExtrefParent, "name_len": inodeExtrefNameLen, "name": inodeExtrefSize,
		},
		"btrfs_file_extent_item": {
			"generation": fileExtentGeneration, "ram_bytes": fileExtentRAMBytes, "compression": fileExtentCompression,
			"type": fileExtentType, "disk_bytenr": fileExtentDiskBytenr, "disk_num_bytes": fileExtentDiskNumBytes,
			"offset": fileExtentOffset, "num_bytes": fileExtentNumBytes, "": fileExtentSize,
		},
	} {
		for field, offset := range fields {
			if field == "" {
				// The root item has grown a reserved end, which is part of it.
				table.numbers["sizeof(struct "+item+")"] = offset
				continue
			}
			table.numbers["offsetof(struct "+item+", "+field+")"] = offset
		}
	}
	table.check(t)
}

func FuzzDecodeBtrfsItems(f *testing.F) {
	f.Add(make([]byte, rootItemSize))
	f.Add(append(make([]byte, rootRefSize), "name"...))
	f.Add([]byte{})
	inline := make([]byte, fileExtentDiskBytenr+5)
	f.Add(inline)
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = DecodeBtrfsRootItem(data)
		_, _ = DecodeBtrfsInodeItem(data)
		if ref, err := DecodeBtrfsRootRef(data); err == nil {
			require.LessOrEqual(t, rootRefSize+len(ref.Name), len(data))
		}
		if items, err := DecodeBtrfsDirItems(data); err == nil {
			require.LessOrEqual(t, len(items)*dirItemSize, len(data))
		}
		if names, err := DecodeBtrfsInodeRefs(256, data); err == nil {
			require.LessOrEqual(t, len(names)*inodeRefSize, len(data))
		}
		if names, err := DecodeBtrfsInodeExtrefs(data); err == nil {
			require.LessOrEqual(t, len(names)*inodeExtrefSize, len(data))
		}
		if extent, err := DecodeBtrfsFileExtent(data); err == nil {
			require.LessOrEqual(t, extent.Inline, len(data))
		}
	})
}
