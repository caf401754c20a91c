package ioctl

// Types of the btrfs ioctl interface, as <linux/btrfs.h> declares them. Ioctl
// structs and search headers are in the host's byte order; the items that a
// tree search returns are disk structures (<linux/btrfs_tree.h>), packed and
// little-endian, and are read by the package that interprets them.

// BTRFS_IOCTL_MAGIC is the interface's magic.
const BTRFS_IOCTL_MAGIC = 0x94

// Sizes of the fixed arrays.
const (
	BTRFS_UUID_SIZE              = 16
	BTRFS_VOL_NAME_MAX           = 255
	BTRFS_PATH_NAME_MAX          = 4087
	BTRFS_SUBVOL_NAME_MAX        = 4039
	BTRFS_DEVICE_PATH_NAME_MAX   = 1024
	BTRFS_INO_LOOKUP_PATH_MAX    = 4080
	BTRFS_MAX_ROOTREF_BUFFER_NUM = 255
	BTRFS_DEV_STAT_VALUES_MAX    = 5
)

// Flags of BtrfsVolArgsV2 and of SUBVOL_GETFLAGS and SETFLAGS.
const (
	BTRFS_SUBVOL_RDONLY         = 1 << 1
	BTRFS_SUBVOL_QGROUP_INHERIT = 1 << 2
	BTRFS_DEVICE_SPEC_BY_ID     = 1 << 3
	BTRFS_SUBVOL_SPEC_BY_ID     = 1 << 4
)

// Flags of BtrfsQgroupLimit.
const (
	BTRFS_QGROUP_LIMIT_MAX_RFER = 1 << 0
	BTRFS_QGROUP_LIMIT_MAX_EXCL = 1 << 1
)

// Commands of QUOTA_CTL. Simple quotas came with Linux 6.7.
const (
	BTRFS_QUOTA_CTL_ENABLE              = 1
	BTRFS_QUOTA_CTL_DISABLE             = 2
	BTRFS_QUOTA_CTL_ENABLE_SIMPLE_QUOTA = 4
)

// Flags of FS_INFO, set on the way in to ask for the fields.
const (
	BTRFS_FS_INFO_FLAG_CSUM_INFO     = 1 << 0
	BTRFS_FS_INFO_FLAG_GENERATION    = 1 << 1
	BTRFS_FS_INFO_FLAG_METADATA_UUID = 1 << 2
)

// Incompat feature bits that this module asks about.
const (
	BTRFS_FEATURE_INCOMPAT_MIXED_GROUPS = 1 << 2
	BTRFS_FEATURE_INCOMPAT_SIMPLE_QUOTA = 1 << 16
)

// Block group types and the global reserve's mark in SPACE_INFO.
const (
	BTRFS_BLOCK_GROUP_DATA      = 1 << 0
	BTRFS_BLOCK_GROUP_SYSTEM    = 1 << 1
	BTRFS_BLOCK_GROUP_METADATA  = 1 << 2
	BTRFS_BLOCK_GROUP_DUP       = 1 << 5
	BTRFS_SPACE_INFO_GLOBAL_RSV = 1 << 49
)

// Trees, fixed object ids and key types of <linux/btrfs_tree.h>.
const (
	BTRFS_ROOT_TREE_OBJECTID  = 1
	BTRFS_FS_TREE_OBJECTID    = 5
	BTRFS_QUOTA_TREE_OBJECTID = 8
	BTRFS_FIRST_FREE_OBJECTID = 256
	BTRFS_LAST_FREE_OBJECTID  = 1<<64 - 256

	BTRFS_INODE_ITEM_KEY      = 1
	BTRFS_INODE_REF_KEY       = 12
	BTRFS_INODE_EXTREF_KEY    = 13
	BTRFS_XATTR_ITEM_KEY      = 24
	BTRFS_DIR_ITEM_KEY        = 84
	BTRFS_DIR_INDEX_KEY       = 96
	BTRFS_EXTENT_DATA_KEY     = 108
	BTRFS_ROOT_ITEM_KEY       = 132
	BTRFS_ROOT_BACKREF_KEY    = 144
	BTRFS_ROOT_REF_KEY        = 156
	BTRFS_QGROUP_STATUS_KEY   = 240
	BTRFS_QGROUP_INFO_KEY     = 242
	BTRFS_QGROUP_LIMIT_KEY    = 244
	BTRFS_QGROUP_RELATION_KEY = 246
)

// Types of a file extent item.
const (
	BTRFS_FILE_EXTENT_INLINE   = 0
	BTRFS_FILE_EXTENT_REG      = 1
	BTRFS_FILE_EXTENT_PREALLOC = 2
)

// Modes of SUBVOL_SYNC_WAIT (Linux 6.13).
const (
	BTRFS_SUBVOL_SYNC_WAIT_FOR_ONE    = 0
	BTRFS_SUBVOL_SYNC_WAIT_FOR_QUEUED = 1
	BTRFS_SUBVOL_SYNC_COUNT           = 2
	BTRFS_SUBVOL_SYNC_PEEK_FIRST      = 3
	BTRFS_SUBVOL_SYNC_PEEK_LAST       = 4
)

// BtrfsVolArgs is struct btrfs_ioctl_vol_args.
type BtrfsVolArgs struct {
	Fd   int64
	Name [BTRFS_PATH_NAME_MAX + 1]byte
}

// BtrfsVolArgsV2 is struct btrfs_ioctl_vol_args_v2. Name's first eight bytes
// are also the subvolume id when Flags has BTRFS_SUBVOL_SPEC_BY_ID.
type BtrfsVolArgsV2 struct {
	Fd            int64
	Transid       uint64
	Flags         uint64
	Size          uint64
	QgroupInherit uint64 // a pointer
	_             [2]uint64
	Name          [BTRFS_SUBVOL_NAME_MAX + 1]byte
}

// BtrfsQgroupLimit is struct btrfs_qgroup_limit.
type BtrfsQgroupLimit struct {
	Flags   uint64
	MaxRfer uint64
	MaxExcl uint64
	RsvRfer uint64
	RsvExcl uint64
}

// BtrfsQgroupInherit is struct btrfs_qgroup_inherit without its flexible array.
type BtrfsQgroupInherit struct {
	Flags         uint64
	NumQgroups    uint64
	NumRefCopies  uint64
	NumExclCopies uint64
	Lim           BtrfsQgroupLimit
}

// BtrfsQgroupLimitArgs is struct btrfs_ioctl_qgroup_limit_args.
type BtrfsQgroupLimitArgs struct {
	Qgroupid uint64
	Lim      BtrfsQgroupLimit
}

// BtrfsQgroupAssignArgs is struct btrfs_ioctl_qgroup_assign_args.
type BtrfsQgroupAssignArgs struct {
	Assign uint64
	Src    uint64
	Dst    uint64
}

// BtrfsQgroupCreateArgs is struct btrfs_ioctl_qgroup_create_args.
type BtrfsQgroupCreateArgs struct {
	Create   uint64
	Qgroupid uint64
}

// BtrfsQuotaCtlArgs is struct btrfs_ioctl_quota_ctl_args.
type BtrfsQuotaCtlArgs struct {
	Cmd    uint64
	Status uint64
}

// BtrfsTimespec is struct btrfs_ioctl_timespec.
type BtrfsTimespec struct {
	Sec  uint64
	Nsec uint32
	_    uint32
}

// BtrfsSubvolInfo is struct btrfs_ioctl_get_subvol_info_args.
type BtrfsSubvolInfo struct {
	Treeid       uint64
	Name         [BTRFS_VOL_NAME_MAX + 1]byte
	ParentID     uint64
	Dirid        uint64
	Generation   uint64
	Flags        uint64
	UUID         [BTRFS_UUID_SIZE]byte
	ParentUUID   [BTRFS_UUID_SIZE]byte
	ReceivedUUID [BTRFS_UUID_SIZE]byte
	Ctransid     uint64
	Otransid     uint64
	Stransid     uint64
	Rtransid     uint64
	Ctime        BtrfsTimespec
	Otime        BtrfsTimespec
	Stime        BtrfsTimespec
	Rtime        BtrfsTimespec
	Reserved     [8]uint64
}

// BtrfsRootref is one entry of BtrfsSubvolRootrefArgs.
type BtrfsRootref struct {
	Treeid uint64
	Dirid  uint64
}

// BtrfsSubvolRootrefArgs is struct btrfs_ioctl_get_subvol_rootref_args.
type BtrfsSubvolRootrefArgs struct {
	MinTreeid uint64
	Rootref   [BTRFS_MAX_ROOTREF_BUFFER_NUM]BtrfsRootref
	NumItems  uint8
	_         [7]uint8
}

// BtrfsInoLookupArgs is struct btrfs_ioctl_ino_lookup_args.
type BtrfsInoLookupArgs struct {
	Treeid   uint64
	Objectid uint64
	Name     [BTRFS_INO_LOOKUP_PATH_MAX]byte
}

// BtrfsSearchKey is struct btrfs_ioctl_search_key: one range of the ordered
// space of keys (objectid, type, offset), not three independent filters.
type BtrfsSearchKey struct {
	TreeID      uint64
	MinObjectid uint64
	MaxObjectid uint64
	MinOffset   uint64
	MaxOffset   uint64
	MinTransid  uint64
	MaxTransid  uint64
	MinType     uint32
	MaxType     uint32
	NrItems     uint32
	_           uint32
	_           [4]uint64
}

// BtrfsSearchHeader is struct btrfs_ioctl_search_header.
type BtrfsSearchHeader struct {
	Transid  uint64
	Objectid uint64
	Offset   uint64
	Type     uint32
	Len      uint32
}

// BtrfsSearchArgsV2 is struct btrfs_ioctl_search_args_v2 without its flexible
// array.
type BtrfsSearchArgsV2 struct {
	Key     BtrfsSearchKey
	BufSize uint64
}

// BtrfsSubvolWait is struct btrfs_ioctl_subvol_wait (Linux 6.13).
type BtrfsSubvolWait struct {
	Subvolid uint64
	Mode     uint32
	Count    uint32
}

// BtrfsFsInfoArgs is struct btrfs_ioctl_fs_info_args.
type BtrfsFsInfoArgs struct {
	MaxID          uint64
	NumDevices     uint64
	Fsid           [BTRFS_UUID_SIZE]byte
	Nodesize       uint32
	Sectorsize     uint32
	CloneAlignment uint32
	CsumType       uint16
	CsumSize       uint16
	Flags          uint64
	Generation     uint64
	MetadataUUID   [BTRFS_UUID_SIZE]byte
	Reserved       [944]uint8
}

// BtrfsDevInfoArgs is struct btrfs_ioctl_dev_info_args.
type BtrfsDevInfoArgs struct {
	Devid      uint64
	UUID       [BTRFS_UUID_SIZE]byte
	BytesUsed  uint64
	TotalBytes uint64
	Unused     [379]uint64
	Path       [BTRFS_DEVICE_PATH_NAME_MAX]byte
}

// BtrfsSpaceInfo is struct btrfs_ioctl_space_info.
type BtrfsSpaceInfo struct {
	Flags      uint64
	TotalBytes uint64
	UsedBytes  uint64
}

// BtrfsSpaceArgs is struct btrfs_ioctl_space_args without its flexible array.
type BtrfsSpaceArgs struct {
	SpaceSlots  uint64
	TotalSpaces uint64
}

// BtrfsDevStats is struct btrfs_ioctl_get_dev_stats: errors of writing,
// reading, flushing, corruption and generation, in this order.
type BtrfsDevStats struct {
	Devid   uint64
	NrItems uint64
	Flags   uint64
	Values  [BTRFS_DEV_STAT_VALUES_MAX]uint64
	Unused  [128 - 2 - BTRFS_DEV_STAT_VALUES_MAX]uint64
}

// BtrfsFeatureFlags is struct btrfs_ioctl_feature_flags.
type BtrfsFeatureFlags struct {
	CompatFlags   uint64
	CompatRoFlags uint64
	IncompatFlags uint64
}
