package main

import (
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// zfsMagic is what statfs(2) says of ZFS, which the kernel's magic.h does not
// list (OpenZFS, ZFS_SUPER_MAGIC).
const zfsMagic = 0x2fc12fc1

// fsType names the file system that dir lies on, or would lie on if it were made.
func fsType(dir string) (string, error) {
	for {
		var st unix.Statfs_t
		err := unix.Statfs(dir, &st)
		if errors.Is(err, unix.ENOENT) && filepath.Dir(dir) != dir {
			dir = filepath.Dir(dir)
			continue
		}
		if err != nil {
			return "", fmt.Errorf("asking which file system %s lies on: %w", dir, err)
		}
		return fsName(int64(st.Type)), nil
	}
}

func fsName(magic int64) string {
	switch magic & 0xffffffff {
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs"
	case zfsMagic:
		return "zfs"
	case unix.EXT4_SUPER_MAGIC: // ext2 and ext3 have the same
		return "ext4"
	case unix.XFS_SUPER_MAGIC:
		return "xfs"
	case unix.TMPFS_MAGIC:
		return "tmpfs"
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlay"
	case unix.NFS_SUPER_MAGIC:
		return "nfs"
	}
	return fmt.Sprintf("a file system of type %#x", magic&0xffffffff)
}
