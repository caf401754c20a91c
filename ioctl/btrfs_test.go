package ioctl

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBtrfsABI(t *testing.T) {
	abiTable{
		headers: []string{"linux/btrfs.h", "linux/btrfs_tree.h"},
		structs: []abiStruct{
			{c: "struct btrfs_ioctl_vol_args", goType: BtrfsVolArgs{}},
			{c: "struct btrfs_ioctl_vol_args_v2", goType: BtrfsVolArgsV2{}},
			{c: "struct btrfs_qgroup_limit", goType: BtrfsQgroupLimit{}},
			{c: "struct btrfs_qgroup_inherit", goType: BtrfsQgroupInherit{}},
			{c: "struct btrfs_ioctl_qgroup_limit_args", goType: BtrfsQgroupLimitArgs{}},
			{c: "struct btrfs_ioctl_qgroup_assign_args", goType: BtrfsQgroupAssignArgs{}},
			{c: "struct btrfs_ioctl_qgroup_create_args", goType: BtrfsQgroupCreateArgs{}},
			{c: "struct btrfs_ioctl_quota_ctl_args", goType: BtrfsQuotaCtlArgs{}},
			{c: "struct btrfs_ioctl_timespec", goType: BtrfsTimespec{}},
			{c: "struct btrfs_ioctl_get_subvol_info_args", goType: BtrfsSubvolInfo{}, fields: map[string]string{
				"ParentID": "parent_id", "UUID": "uuid", "ParentUUID": "parent_uuid", "ReceivedUUID": "received_uuid",
			}},
			{c: "struct btrfs_ioctl_get_subvol_rootref_args", goType: BtrfsSubvolRootrefArgs{}},
			{c: "struct btrfs_ioctl_ino_lookup_args", goType: BtrfsInoLookupArgs{}},
			{c: "struct btrfs_ioctl_search_key", goType: BtrfsSearchKey{}, fields: map[string]string{"TreeID": "tree_id"}},
			{c: "struct btrfs_ioctl_search_header", goType: BtrfsSearchHeader{}},
			{c: "struct btrfs_ioctl_search_args_v2", goType: BtrfsSearchArgsV2{}},
			{c: "struct btrfs_ioctl_subvol_wait", goType: BtrfsSubvolWait{}, newer: "BTRFS_IOC_SUBVOL_SYNC_WAIT"},
			{c: "struct btrfs_ioctl_fs_info_args", goType: BtrfsFsInfoArgs{}, fields: map[string]string{
				"MaxID": "max_id", "MetadataUUID": "metadata_uuid",
			}},
			// From Linux 6.3 on the reserved words of dev_info begin with the fsid.
			{c: "struct btrfs_ioctl_dev_info_args", goType: BtrfsDevInfoArgs{}, fields: map[string]string{"UUID": "uuid", "Unused": ""}},
			{c: "struct btrfs_ioctl_space_info", goType: BtrfsSpaceInfo{}},
			{c: "struct btrfs_ioctl_space_args", goType: BtrfsSpaceArgs{}},
			{c: "struct btrfs_ioctl_get_dev_stats", goType: BtrfsDevStats{}},
			{c: "struct btrfs_ioctl_feature_flags", goType: BtrfsFeatureFlags{}},
		},
		numbers: btrfsNumbers(),
		newer: map[string]uint64{
			"BTRFS_IOC_SUBVOL_SYNC_WAIT":          uint64(btrfsSubvolSyncWait()),
			"BTRFS_FEATURE_INCOMPAT_SIMPLE_QUOTA": BTRFS_FEATURE_INCOMPAT_SIMPLE_QUOTA,
			"BTRFS_QUOTA_CTL_ENABLE_SIMPLE_QUOTA": BTRFS_QUOTA_CTL_ENABLE_SIMPLE_QUOTA,
			"BTRFS_SUBVOL_SYNC_WAIT_FOR_ONE":      BTRFS_SUBVOL_SYNC_WAIT_FOR_ONE,
			"BTRFS_SUBVOL_SYNC_WAIT_FOR_QUEUED":   BTRFS_SUBVOL_SYNC_WAIT_FOR_QUEUED,
			"BTRFS_SUBVOL_SYNC_COUNT":             BTRFS_SUBVOL_SYNC_COUNT,
			"BTRFS_SUBVOL_SYNC_PEEK_FIRST":        BTRFS_SUBVOL_SYNC_PEEK_FIRST,
			"BTRFS_SUBVOL_SYNC_PEEK_LAST":         BTRFS_SUBVOL_SYNC_PEEK_LAST,
		},
	}.check(t)
	// What the installed headers may be too old for, from the interface's definition.
	require.EqualValues(t, 0x40109441, btrfsSubvolSyncWait())
}

func btrfsNumbers() map[string]uint64 {
	numbers := map[string]uint64{
		"BTRFS_IOCTL_MAGIC": BTRFS_IOCTL_MAGIC, "BTRFS_UUID_SIZE": BTRFS_UUID_SIZE, "BTRFS_VOL_NAME_MAX": BTRFS_VOL_NAME_MAX,
		"BTRFS_PATH_NAME_MAX": BTRFS_PATH_NAME_MAX, "BTRFS_SUBVOL_NAME_MAX": BTRFS_SUBVOL_NAME_MAX,
		"BTRFS_DEVICE_PATH_NAME_MAX": BTRFS_DEVICE_PATH_NAME_MAX, "BTRFS_INO_LOOKUP_PATH_MAX": BTRFS_INO_LOOKUP_PATH_MAX,
		"BTRFS_MAX_ROOTREF_BUFFER_NUM": BTRFS_MAX_ROOTREF_BUFFER_NUM, "BTRFS_DEV_STAT_VALUES_MAX": BTRFS_DEV_STAT_VALUES_MAX,
		"BTRFS_SUBVOL_RDONLY": BTRFS_SUBVOL_RDONLY, "BTRFS_SUBVOL_QGROUP_INHERIT": BTRFS_SUBVOL_QGROUP_INHERIT,
		"BTRFS_DEVICE_SPEC_BY_ID": BTRFS_DEVICE_SPEC_BY_ID, "BTRFS_SUBVOL_SPEC_BY_ID": BTRFS_SUBVOL_SPEC_BY_ID,
		"BTRFS_QGROUP_LIMIT_MAX_RFER": BTRFS_QGROUP_LIMIT_MAX_RFER, "BTRFS_QGROUP_LIMIT_MAX_EXCL": BTRFS_QGROUP_LIMIT_MAX_EXCL,
		"BTRFS_QUOTA_CTL_ENABLE": BTRFS_QUOTA_CTL_ENABLE, "BTRFS_QUOTA_CTL_DISABLE": BTRFS_QUOTA_CTL_DISABLE,
		"BTRFS_FS_INFO_FLAG_CSUM_INFO":        BTRFS_FS_INFO_FLAG_CSUM_INFO,
		"BTRFS_FS_INFO_FLAG_GENERATION":       BTRFS_FS_INFO_FLAG_GENERATION,
		"BTRFS_FS_INFO_FLAG_METADATA_UUID":    BTRFS_FS_INFO_FLAG_METADATA_UUID,
		"BTRFS_FEATURE_INCOMPAT_MIXED_GROUPS": BTRFS_FEATURE_INCOMPAT_MIXED_GROUPS,
		"BTRFS_BLOCK_GROUP_DATA":              BTRFS_BLOCK_GROUP_DATA, "BTRFS_BLOCK_GROUP_SYSTEM": BTRFS_BLOCK_GROUP_SYSTEM,
		"BTRFS_BLOCK_GROUP_METADATA": BTRFS_BLOCK_GROUP_METADATA, "BTRFS_BLOCK_GROUP_DUP": BTRFS_BLOCK_GROUP_DUP,
		"BTRFS_SPACE_INFO_GLOBAL_RSV": BTRFS_SPACE_INFO_GLOBAL_RSV,
		"BTRFS_ROOT_TREE_OBJECTID":    BTRFS_ROOT_TREE_OBJECTID, "BTRFS_FS_TREE_OBJECTID": BTRFS_FS_TREE_OBJECTID,
		"BTRFS_QUOTA_TREE_OBJECTID": BTRFS_QUOTA_TREE_OBJECTID, "BTRFS_FIRST_FREE_OBJECTID": BTRFS_FIRST_FREE_OBJECTID,
		"BTRFS_LAST_FREE_OBJECTID": BTRFS_LAST_FREE_OBJECTID,
		"BTRFS_INODE_ITEM_KEY":     BTRFS_INODE_ITEM_KEY, "BTRFS_INODE_REF_KEY": BTRFS_INODE_REF_KEY,
		"BTRFS_INODE_EXTREF_KEY": BTRFS_INODE_EXTREF_KEY, "BTRFS_XATTR_ITEM_KEY": BTRFS_XATTR_ITEM_KEY,
		"BTRFS_DIR_ITEM_KEY": BTRFS_DIR_ITEM_KEY, "BTRFS_DIR_INDEX_KEY": BTRFS_DIR_INDEX_KEY,
		"BTRFS_EXTENT_DATA_KEY": BTRFS_EXTENT_DATA_KEY, "BTRFS_ROOT_ITEM_KEY": BTRFS_ROOT_ITEM_KEY,
		"BTRFS_ROOT_BACKREF_KEY": BTRFS_ROOT_BACKREF_KEY, "BTRFS_ROOT_REF_KEY": BTRFS_ROOT_REF_KEY,
		"BTRFS_QGROUP_STATUS_KEY": BTRFS_QGROUP_STATUS_KEY, "BTRFS_QGROUP_INFO_KEY": BTRFS_QGROUP_INFO_KEY,
		"BTRFS_QGROUP_LIMIT_KEY": BTRFS_QGROUP_LIMIT_KEY, "BTRFS_QGROUP_RELATION_KEY": BTRFS_QGROUP_RELATION_KEY,
		"BTRFS_FILE_EXTENT_INLINE": BTRFS_FILE_EXTENT_INLINE, "BTRFS_FILE_EXTENT_REG": BTRFS_FILE_EXTENT_REG,
		"BTRFS_FILE_EXTENT_PREALLOC": BTRFS_FILE_EXTENT_PREALLOC,
	}
	for name, request := range map[string]uintptr{
		"RESIZE": btrfsResize(), "SYNC": btrfsSync(), "TREE_SEARCH_V2": btrfsTreeSearchV2(), "INO_LOOKUP": btrfsInoLookup(),
		"SPACE_INFO": btrfsSpaceInfo(), "WAIT_SYNC": btrfsWaitSync(), "SNAP_CREATE_V2": btrfsSnapCreateV2(),
		"START_SYNC": btrfsStartSync(), "SUBVOL_CREATE_V2": btrfsSubvolCreateV2(), "SUBVOL_GETFLAGS": btrfsSubvolGetflags(),
		"SUBVOL_SETFLAGS": btrfsSubvolSetflags(), "DEV_INFO": btrfsDevInfo(), "FS_INFO": btrfsFsInfo(),
		"QUOTA_CTL": btrfsQuotaCtl(), "QGROUP_ASSIGN": btrfsQgroupAssign(),
		"QGROUP_CREATE": btrfsQgroupCreate(), "QGROUP_LIMIT": btrfsQgroupLimit(), "GET_DEV_STATS": btrfsGetDevStats(),
		"GET_FEATURES": btrfsGetFeatures(), "GET_SUBVOL_INFO": btrfsGetSubvolInfo(), "GET_SUBVOL_ROOTREF": btrfsGetSubvolRootref(),
		"SNAP_DESTROY_V2": btrfsSnapDestroyV2(), "GET_SUPPORTED_FEATURES": btrfsSupportedFeatures(),
	} {
		numbers["BTRFS_IOC_"+name] = uint64(request)
	}
	return numbers
}

func FuzzParseBtrfsSearchItems(f *testing.F) {
	two := make([]byte, 2*32+5)
	binary.NativeEndian.PutUint64(two[8:], 256)
	binary.NativeEndian.PutUint32(two[24:], BTRFS_INODE_ITEM_KEY)
	binary.NativeEndian.PutUint32(two[28:], 5)
	f.Add(two, uint32(2))
	f.Add(two[:40], uint32(2))
	f.Add([]byte{}, uint32(1<<31))
	f.Fuzz(func(t *testing.T, data []byte, count uint32) {
		items, err := ParseBtrfsSearchItems(data, count)
		if err != nil {
			return
		}
		require.Len(t, items, int(count))
		total := 0
		for _, item := range items {
			require.Len(t, item.Data, int(item.Len))
			total += 32 + len(item.Data)
		}
		require.LessOrEqual(t, total, len(data))
	})
}
