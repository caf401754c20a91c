package ioctl

import (
	"testing"

	"github.com/freddierice/go-losetup/v2"
	"golang.org/x/sys/unix"
)

func TestBlockABI(t *testing.T) {
	abiTable{
		headers: []string{"linux/fs.h"},
		setup:   "#include <sys/ioctl.h>",
		numbers: map[string]uint64{
			"BLKGETSIZE64": blkGetSize64, "BLKDISCARD": blkDiscard, "BLKZEROOUT": blkZeroOut, "BLKSSZGET": blkSSZGet,
			"BLKPBSZGET": blkPBSZGet, "BLKROGET": blkROGet, "BLKROSET": blkROSet, "BLKFLSBUF": blkFlushBuf,
		},
	}.check(t)
}

// TestLoopABI compares what go-losetup and golang.org/x/sys declare: both are relied on.
func TestLoopABI(t *testing.T) {
	abiTable{
		headers: []string{"linux/loop.h"},
		structs: []abiStruct{
			{c: "struct loop_info64", goType: losetup.Info{}, fields: map[string]string{
				"Device": "lo_device", "INode": "lo_inode", "RDevice": "lo_rdevice", "Offset": "lo_offset",
				"SizeLimit": "lo_sizelimit", "Number": "lo_number", "EncryptType": "lo_encrypt_type",
				"EncryptKeySize": "lo_encrypt_key_size", "Flags": "lo_flags", "FileName": "lo_file_name",
				"CryptName": "lo_crypt_name", "EncryptKey": "lo_encrypt_key", "Init": "lo_init",
			}},
			{c: "struct loop_config", goType: unix.LoopConfig{}, fields: map[string]string{"Size": "block_size", "_": ""}},
		},
		numbers: map[string]uint64{
			"LOOP_CONFIGURE": unix.LOOP_CONFIGURE, "LOOP_SET_CAPACITY": losetup.SetCapacity, "LOOP_GET_STATUS64": losetup.GetStatus64,
			"LOOP_SET_STATUS64": losetup.SetStatus64, "LOOP_SET_DIRECT_IO": losetup.SetDirectIO, "LOOP_CLR_FD": losetup.ClrFd,
			"LOOP_CTL_GET_FREE": losetup.CtlGetFree, "LO_FLAGS_READ_ONLY": losetup.FlagsReadOnly,
			"LO_FLAGS_AUTOCLEAR": losetup.FlagsAutoClear, "LO_FLAGS_DIRECT_IO": losetup.FlagsDirectIO, "LO_NAME_SIZE": losetup.NameSize,
		},
	}.check(t)
}
