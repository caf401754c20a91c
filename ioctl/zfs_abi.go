package ioctl

// The requests of /dev/zfs, <sys/fs/zfs.h> (OpenZFS 2.x). They are bare numbers without a
// size in them.
const (
	ZFS_IOC_POOL_CONFIGS       = 0x5a04
	ZFS_IOC_POOL_STATS         = 0x5a05
	ZFS_IOC_OBJSET_STATS       = 0x5a12
	ZFS_IOC_DATASET_LIST_NEXT  = 0x5a14
	ZFS_IOC_SNAPSHOT_LIST_NEXT = 0x5a15
	ZFS_IOC_SET_PROP           = 0x5a16
	ZFS_IOC_CREATE             = 0x5a17
	ZFS_IOC_DESTROY            = 0x5a18
	ZFS_IOC_ROLLBACK           = 0x5a19
	ZFS_IOC_RENAME             = 0x5a1a
	ZFS_IOC_PROMOTE            = 0x5a22
	ZFS_IOC_SNAPSHOT           = 0x5a23
	ZFS_IOC_POOL_GET_PROPS     = 0x5a27
	ZFS_IOC_INHERIT_PROP       = 0x5a2b
	ZFS_IOC_HOLD               = 0x5a30
	ZFS_IOC_RELEASE            = 0x5a31
	ZFS_IOC_GET_HOLDS          = 0x5a32
	ZFS_IOC_NEXT_OBJ           = 0x5a35
	ZFS_IOC_DIFF               = 0x5a36
	ZFS_IOC_OBJ_TO_STATS       = 0x5a38
	ZFS_IOC_SPACE_WRITTEN      = 0x5a39
	ZFS_IOC_DESTROY_SNAPS      = 0x5a3b
	ZFS_IOC_SEND_NEW           = 0x5a40
	ZFS_IOC_CLONE              = 0x5a42
	ZFS_IOC_RECV_NEW           = 0x5a46
	ZFS_IOC_POOL_SYNC          = 0x5a47
)

// Errors of new-style requests beyond errno, zfs_errno_t of <sys/fs/zfs.h>. The kernel
// returns them in errno's place.
const (
	ZFS_ERR_IOC_CMD_UNAVAIL  = 1029
	ZFS_ERR_IOC_ARG_UNAVAIL  = 1030
	ZFS_ERR_IOC_ARG_REQUIRED = 1031
	ZFS_ERR_IOC_ARG_BADTYPE  = 1032
)

// Kinds of datasets, dmu_objset_type_t of <sys/fs/zfs.h>.
const (
	DMU_OST_ZFS  = 2
	DMU_OST_ZVOL = 3
)

// ZFSCmd is struct zfs_cmd of <sys/zfs_ioctl.h>. Its layout is the same in all
// releases from 2.0 to 2.4 but 2.3.1, which moved what lies behind Inject by 16
// bytes. Upstream asserts its size.
type ZFSCmd struct {
	Name          [4096]byte
	NvlistSrc     uint64
	NvlistSrcSize uint64
	NvlistDst     uint64
	NvlistDstSize uint64
	DstFilled     int32 // boolean_t
	_             int32
	History       uint64
	Value         [8192]byte
	String        [256]byte
	GUID          uint64
	NvlistConf    uint64
	ConfSize      uint64
	Cookie        uint64
	ObjsetType    uint64
	PermAction    uint64
	HistoryLen    uint64
	HistoryOff    uint64
	Obj           uint64
	Iflags        uint64
	Share         [32]byte // zfs_share_t
	ObjsetStats   ZFSObjsetStats
	BeginRecord   [304]byte // struct drr_begin
	Inject        [352]byte // zinject_record_t
	DeferDestroy  uint32
	Flags         uint32
	ActionHandle  uint64
	CleanupFd     int32
	Simple        uint8
	_             [3]uint8
	Sendobj       uint64
	Fromobj       uint64
	Createtxg     uint64
	Stat          ZFSStat
	Zoneid        uint64
}

// ZFSObjsetStats is dmu_objset_stats_t of <sys/dmu.h>.
type ZFSObjsetStats struct {
	NumClones    uint64
	CreationTxg  uint64
	GUID         uint64
	Type         uint32
	IsSnapshot   uint8
	Inconsistent uint8
	Redacted     uint8
	Origin       [256]byte
	_            uint8
}

// ZFSStat is zfs_stat_t of <sys/zfs_stat.h>.
type ZFSStat struct {
	Gen   uint64
	Mode  uint64
	Links uint64
	Ctime [2]uint64
}

// ZFSDiffRecord is dmu_diff_record_t of <sys/dmu.h>: what ZFS_IOC_DIFF writes to its pipe.
type ZFSDiffRecord struct {
	Type  uint64
	First uint64
	Last  uint64
}

// Values of ZFSDiffRecord.Type.
const (
	DDR_NONE  = 1
	DDR_INUSE = 2
	DDR_FREE  = 4
)

// ZFSBeginRecordSize is sizeof (dmu_replay_record_t), the first record of a stream, of
// <sys/zfs_ioctl.h>.
const ZFSBeginRecordSize = 312
