package ioctl

import "golang.org/x/sys/unix"

// A Name says what a request number means.
type Name struct {
	// Interface is whose request it is: "device-mapper", "btrfs", "zfs", "block" or "fs".
	Interface string
	// Request is the header's name of it.
	Request string
}

// Names are those of all requests that this package issues, by their numbers.
func Names() map[uintptr]Name {
	names := map[uintptr]Name{}
	for of, requests := range map[string]map[string]uintptr{
		"device-mapper": dmNames(), "btrfs": btrfsNames(), "zfs": zfsNames(), "block": blockNames(), "fs": fsNames(),
	} {
		for name, request := range requests {
			names[request] = Name{Interface: of, Request: name}
		}
	}
	return names
}

func dmNames() map[string]uintptr {
	names := map[string]uintptr{}
	for command, name := range []string{
		"DM_VERSION", "DM_REMOVE_ALL", "DM_LIST_DEVICES", "DM_DEV_CREATE", "DM_DEV_REMOVE", "DM_DEV_RENAME", "DM_DEV_SUSPEND",
		"DM_DEV_STATUS", "DM_DEV_WAIT", "DM_TABLE_LOAD", "DM_TABLE_CLEAR", "DM_TABLE_DEPS", "DM_TABLE_STATUS", "DM_LIST_VERSIONS",
		"DM_TARGET_MSG", "DM_DEV_SET_GEOMETRY", "DM_DEV_ARM_POLL", "DM_GET_TARGET_VERSION",
	} {
		names[name] = DMRequest(uint32(command))
	}
	return names
}

func btrfsNames() map[string]uintptr {
	return map[string]uintptr{
		"BTRFS_IOC_RESIZE": btrfsResize(), "BTRFS_IOC_SYNC": btrfsSync(), "BTRFS_IOC_TREE_SEARCH_V2": btrfsTreeSearchV2(),
		"BTRFS_IOC_INO_LOOKUP": btrfsInoLookup(), "BTRFS_IOC_SPACE_INFO": btrfsSpaceInfo(), "BTRFS_IOC_WAIT_SYNC": btrfsWaitSync(),
		"BTRFS_IOC_SNAP_CREATE_V2": btrfsSnapCreateV2(), "BTRFS_IOC_START_SYNC": btrfsStartSync(),
		"BTRFS_IOC_SUBVOL_CREATE_V2": btrfsSubvolCreateV2(), "BTRFS_IOC_SUBVOL_GETFLAGS": btrfsSubvolGetflags(),
		"BTRFS_IOC_SUBVOL_SETFLAGS": btrfsSubvolSetflags(), "BTRFS_IOC_DEV_INFO": btrfsDevInfo(), "BTRFS_IOC_FS_INFO": btrfsFsInfo(),
		"BTRFS_IOC_QUOTA_CTL": btrfsQuotaCtl(), "BTRFS_IOC_QGROUP_ASSIGN": btrfsQgroupAssign(),
		"BTRFS_IOC_QGROUP_CREATE": btrfsQgroupCreate(), "BTRFS_IOC_QGROUP_LIMIT": btrfsQgroupLimit(),
		"BTRFS_IOC_GET_DEV_STATS": btrfsGetDevStats(), "BTRFS_IOC_GET_FEATURES": btrfsGetFeatures(),
		"BTRFS_IOC_GET_SUPPORTED_FEATURES": btrfsSupportedFeatures(), "BTRFS_IOC_GET_SUBVOL_INFO": btrfsGetSubvolInfo(),
		"BTRFS_IOC_GET_SUBVOL_ROOTREF": btrfsGetSubvolRootref(), "BTRFS_IOC_SNAP_DESTROY_V2": btrfsSnapDestroyV2(),
		"BTRFS_IOC_SUBVOL_SYNC_WAIT": btrfsSubvolSyncWait(),
	}
}

func zfsNames() map[string]uintptr {
	return map[string]uintptr{
		"ZFS_IOC_POOL_CONFIGS": ZFS_IOC_POOL_CONFIGS, "ZFS_IOC_POOL_STATS": ZFS_IOC_POOL_STATS, "ZFS_IOC_OBJSET_STATS": ZFS_IOC_OBJSET_STATS,
		"ZFS_IOC_DATASET_LIST_NEXT": ZFS_IOC_DATASET_LIST_NEXT, "ZFS_IOC_SNAPSHOT_LIST_NEXT": ZFS_IOC_SNAPSHOT_LIST_NEXT,
		"ZFS_IOC_SET_PROP": ZFS_IOC_SET_PROP, "ZFS_IOC_CREATE": ZFS_IOC_CREATE, "ZFS_IOC_DESTROY": ZFS_IOC_DESTROY,
		"ZFS_IOC_ROLLBACK": ZFS_IOC_ROLLBACK, "ZFS_IOC_RENAME": ZFS_IOC_RENAME, "ZFS_IOC_PROMOTE": ZFS_IOC_PROMOTE,
		"ZFS_IOC_SNAPSHOT": ZFS_IOC_SNAPSHOT, "ZFS_IOC_POOL_GET_PROPS": ZFS_IOC_POOL_GET_PROPS, "ZFS_IOC_INHERIT_PROP": ZFS_IOC_INHERIT_PROP,
		"ZFS_IOC_HOLD": ZFS_IOC_HOLD, "ZFS_IOC_RELEASE": ZFS_IOC_RELEASE, "ZFS_IOC_GET_HOLDS": ZFS_IOC_GET_HOLDS,
		"ZFS_IOC_NEXT_OBJ": ZFS_IOC_NEXT_OBJ, "ZFS_IOC_DIFF": ZFS_IOC_DIFF, "ZFS_IOC_OBJ_TO_STATS": ZFS_IOC_OBJ_TO_STATS,
		"ZFS_IOC_SPACE_WRITTEN": ZFS_IOC_SPACE_WRITTEN, "ZFS_IOC_DESTROY_SNAPS": ZFS_IOC_DESTROY_SNAPS, "ZFS_IOC_SEND_NEW": ZFS_IOC_SEND_NEW,
		"ZFS_IOC_CLONE": ZFS_IOC_CLONE, "ZFS_IOC_RECV_NEW": ZFS_IOC_RECV_NEW, "ZFS_IOC_POOL_SYNC": ZFS_IOC_POOL_SYNC,
	}
}

func blockNames() map[string]uintptr {
	return map[string]uintptr{
		"BLKGETSIZE64": unix.BLKGETSIZE64, "BLKDISCARD": unix.BLKDISCARD, "BLKZEROOUT": unix.BLKZEROOUT, "BLKSSZGET": unix.BLKSSZGET,
		"BLKPBSZGET": unix.BLKPBSZGET, "BLKROGET": unix.BLKROGET, "BLKROSET": unix.BLKROSET, "BLKFLSBUF": unix.BLKFLSBUF,
	}
}

func fsNames() map[string]uintptr {
	return map[string]uintptr{
		"FIFREEZE": fiFreeze(), "FITHAW": fiThaw(), "FITRIM": fiTrim(), "FICLONE": fiClone(), "FICLONERANGE": fiCloneRange(),
		"FS_IOC_GETVERSION": fsIocGetversion(), "FS_IOC_GETFLAGS": fsIocGetflags(), "EXT4_IOC_RESIZE_FS": ext4IocResizeFs(),
		"EXT4_IOC_CHECKPOINT":   ext4IocCheckpoint(),
		"XFS_IOC_FSGEOMETRY_V1": xfsIocFsgeometryV1(), "XFS_IOC_FSGROWFSDATA": xfsIocFsgrowfsdata(),
	}
}
