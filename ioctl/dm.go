package ioctl

import "unsafe"

// Device-mapper, linux/dm-ioctl.h (interface 4.48.0).

// DM_IOCTL is the interface's magic.
const DM_IOCTL = 0xfd

// Lengths of the fixed strings, NUL included.
const (
	DM_MAX_TYPE_NAME = 16
	DM_NAME_LEN      = 128
	DM_UUID_LEN      = 129
)

// The commands: number of the request, without direction and size.
const (
	DM_VERSION_CMD = iota
	DM_REMOVE_ALL_CMD
	DM_LIST_DEVICES_CMD
	DM_DEV_CREATE_CMD
	DM_DEV_REMOVE_CMD
	DM_DEV_RENAME_CMD
	DM_DEV_SUSPEND_CMD
	DM_DEV_STATUS_CMD
	DM_DEV_WAIT_CMD
	DM_TABLE_LOAD_CMD
	DM_TABLE_CLEAR_CMD
	DM_TABLE_DEPS_CMD
	DM_TABLE_STATUS_CMD
	DM_LIST_VERSIONS_CMD
	DM_TARGET_MSG_CMD
	DM_DEV_SET_GEOMETRY_CMD
	DM_DEV_ARM_POLL_CMD
	DM_GET_TARGET_VERSION_CMD
)

// Bits of DMIoctl.Flags.
const (
	DM_READONLY_FLAG             = 1 << 0
	DM_SUSPEND_FLAG              = 1 << 1
	DM_PERSISTENT_DEV_FLAG       = 1 << 3
	DM_STATUS_TABLE_FLAG         = 1 << 4
	DM_ACTIVE_PRESENT_FLAG       = 1 << 5
	DM_INACTIVE_PRESENT_FLAG     = 1 << 6
	DM_BUFFER_FULL_FLAG          = 1 << 8
	DM_SKIP_BDGET_FLAG           = 1 << 9
	DM_SKIP_LOCKFS_FLAG          = 1 << 10
	DM_NOFLUSH_FLAG              = 1 << 11
	DM_QUERY_INACTIVE_TABLE_FLAG = 1 << 12
	DM_UEVENT_GENERATED_FLAG     = 1 << 13
	DM_UUID_FLAG                 = 1 << 14
	DM_SECURE_DATA_FLAG          = 1 << 15
	DM_DATA_OUT_FLAG             = 1 << 16
	DM_DEFERRED_REMOVE           = 1 << 17
	DM_INTERNAL_SUSPEND_FLAG     = 1 << 18
	DM_IMA_MEASUREMENT_FLAG      = 1 << 19
)

// Bits of DMNameListTail.Flags.
const (
	DM_NAME_LIST_FLAG_HAS_UUID         = 1
	DM_NAME_LIST_FLAG_DOESNT_HAVE_UUID = 2
)

// DMIoctl is struct dm_ioctl, the header of every request and reply.
type DMIoctl struct {
	Version     [3]uint32
	DataSize    uint32 // of the whole buffer, this header included
	DataStart   uint32 // offset of the payload from the header's start
	TargetCount uint32
	OpenCount   int32
	Flags       uint32
	EventNr     uint32
	Padding     uint32
	Dev         uint64
	Name        [DM_NAME_LEN]byte
	UUID        [DM_UUID_LEN]byte
	Data        [7]byte
}

// DMTargetSpec is struct dm_target_spec, followed by the parameters and a NUL.
type DMTargetSpec struct {
	SectorStart uint64
	Length      uint64
	Status      int32
	Next        uint32
	TargetType  [DM_MAX_TYPE_NAME]byte
}

// DMTargetDeps is struct dm_target_deps, followed by Count device numbers.
type DMTargetDeps struct {
	Count   uint32
	Padding uint32
}

// DMNameList is struct dm_name_list, followed by the name and a NUL.
type DMNameList struct {
	Dev  uint64
	Next uint32
}

// DMTargetVersions is struct dm_target_versions, followed by the name and a NUL.
type DMTargetVersions struct {
	Next    uint32
	Version [3]uint32
}

// DMTargetMsg is struct dm_target_msg, followed by the message and a NUL.
type DMTargetMsg struct {
	Sector uint64
}

// Sizes and offsets of what has a flexible end: Go's sizeof would add the end's padding.
const (
	DMIoctlSize              = int(unsafe.Sizeof(DMIoctl{}))
	DMTargetSpecSize         = int(unsafe.Sizeof(DMTargetSpec{}))
	DMTargetDepsSize         = int(unsafe.Sizeof(DMTargetDeps{}))
	DMNameListNameOffset     = int(unsafe.Offsetof(DMNameList{}.Next) + unsafe.Sizeof(DMNameList{}.Next))
	DMTargetVersionsNameSize = int(unsafe.Sizeof(DMTargetVersions{}))
	DMTargetMsgSize          = int(unsafe.Sizeof(DMTargetMsg{}))
)

// DMRequest is the request number of a command: _IOWR(DM_IOCTL, command, struct dm_ioctl).
func DMRequest(command uint32) uintptr {
	return IOWR[DMIoctl](DM_IOCTL, uintptr(command))
}
