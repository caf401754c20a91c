package ioctl

import "testing"

func TestDeviceMapperABI(t *testing.T) {
	table := abiTable{
		headers: []string{"linux/dm-ioctl.h"},
		structs: []abiStruct{
			{c: "struct dm_ioctl", goType: DMIoctl{}, fields: map[string]string{"UUID": "uuid"}},
			{c: "struct dm_target_spec", goType: DMTargetSpec{}},
			{c: "struct dm_target_deps", goType: DMTargetDeps{}},
			{c: "struct dm_name_list", goType: DMNameList{}},
			{c: "struct dm_target_versions", goType: DMTargetVersions{}},
			{c: "struct dm_target_msg", goType: DMTargetMsg{}},
		},
		numbers: map[string]uint64{
			"offsetof(struct dm_name_list, name)":       uint64(DMNameListNameOffset),
			"offsetof(struct dm_target_versions, name)": uint64(DMTargetVersionsNameSize),
			"DM_IOCTL":                           DM_IOCTL,
			"DM_MAX_TYPE_NAME":                   DM_MAX_TYPE_NAME,
			"DM_NAME_LEN":                        DM_NAME_LEN,
			"DM_UUID_LEN":                        DM_UUID_LEN,
			"DM_READONLY_FLAG":                   DM_READONLY_FLAG,
			"DM_SUSPEND_FLAG":                    DM_SUSPEND_FLAG,
			"DM_PERSISTENT_DEV_FLAG":             DM_PERSISTENT_DEV_FLAG,
			"DM_STATUS_TABLE_FLAG":               DM_STATUS_TABLE_FLAG,
			"DM_ACTIVE_PRESENT_FLAG":             DM_ACTIVE_PRESENT_FLAG,
			"DM_INACTIVE_PRESENT_FLAG":           DM_INACTIVE_PRESENT_FLAG,
			"DM_BUFFER_FULL_FLAG":                DM_BUFFER_FULL_FLAG,
			"DM_SKIP_BDGET_FLAG":                 DM_SKIP_BDGET_FLAG,
			"DM_SKIP_LOCKFS_FLAG":                DM_SKIP_LOCKFS_FLAG,
			"DM_NOFLUSH_FLAG":                    DM_NOFLUSH_FLAG,
			"DM_QUERY_INACTIVE_TABLE_FLAG":       DM_QUERY_INACTIVE_TABLE_FLAG,
			"DM_UEVENT_GENERATED_FLAG":           DM_UEVENT_GENERATED_FLAG,
			"DM_UUID_FLAG":                       DM_UUID_FLAG,
			"DM_SECURE_DATA_FLAG":                DM_SECURE_DATA_FLAG,
			"DM_DATA_OUT_FLAG":                   DM_DATA_OUT_FLAG,
			"DM_DEFERRED_REMOVE":                 DM_DEFERRED_REMOVE,
			"DM_INTERNAL_SUSPEND_FLAG":           DM_INTERNAL_SUSPEND_FLAG,
			"DM_NAME_LIST_FLAG_HAS_UUID":         DM_NAME_LIST_FLAG_HAS_UUID,
			"DM_NAME_LIST_FLAG_DOESNT_HAVE_UUID": DM_NAME_LIST_FLAG_DOESNT_HAVE_UUID,
		},
		newer: map[string]uint64{"DM_IMA_MEASUREMENT_FLAG": DM_IMA_MEASUREMENT_FLAG},
	}
	commands := map[string]uint32{
		"DM_VERSION": DM_VERSION_CMD, "DM_REMOVE_ALL": DM_REMOVE_ALL_CMD, "DM_LIST_DEVICES": DM_LIST_DEVICES_CMD,
		"DM_DEV_CREATE": DM_DEV_CREATE_CMD, "DM_DEV_REMOVE": DM_DEV_REMOVE_CMD, "DM_DEV_RENAME": DM_DEV_RENAME_CMD,
		"DM_DEV_SUSPEND": DM_DEV_SUSPEND_CMD, "DM_DEV_STATUS": DM_DEV_STATUS_CMD, "DM_DEV_WAIT": DM_DEV_WAIT_CMD,
		"DM_TABLE_LOAD": DM_TABLE_LOAD_CMD, "DM_TABLE_CLEAR": DM_TABLE_CLEAR_CMD, "DM_TABLE_DEPS": DM_TABLE_DEPS_CMD,
		"DM_TABLE_STATUS": DM_TABLE_STATUS_CMD, "DM_LIST_VERSIONS": DM_LIST_VERSIONS_CMD, "DM_TARGET_MSG": DM_TARGET_MSG_CMD,
		"DM_DEV_SET_GEOMETRY": DM_DEV_SET_GEOMETRY_CMD, "DM_DEV_ARM_POLL": DM_DEV_ARM_POLL_CMD,
		"DM_GET_TARGET_VERSION": DM_GET_TARGET_VERSION_CMD,
	}
	for name, command := range commands {
		table.numbers[name] = uint64(DMRequest(command))
	}
	table.check(t)
}
