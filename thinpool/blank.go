package thinpool

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/ioctl"
)

// A signature is a magic number at a place of a device. Negative offsets count from the device's end.
type signature struct {
	name   string
	offset int64
	magic  string
}

// signatures are what people keep on block devices, as blkid (util-linux, libblkid) knows them. A device without any
// of them is still refused unless both of its ends are zero: this list only serves to say what was found.
var signatures = []signature{
	{"LVM physical volume", 512, "LABELONE"},
	{"LVM physical volume", 0, "LABELONE"},
	{"LUKS", 0, "LUKS\xba\xbe"},
	{"LUKS", 16384, "SKUL\xba\xbe"},
	{"GPT partition table", 512, "EFI PART"},
	{"GPT partition table", 4096, "EFI PART"},
	{"GPT partition table (backup)", -512, "EFI PART"},
	{"GPT partition table (backup)", -4096, "EFI PART"},
	{"xfs", 0, "XFSB"},
	{"btrfs", 65536 + 64, "_BHRfS_M"},
	{"ext2, ext3 or ext4", 1024 + 56, "\x53\xef"},
	{"swap", 4096 - 10, "SWAPSPACE2"},
	{"swap", 4096 - 10, "SWAP-SPACE"},
	{"f2fs", 1024, "\x10\x20\xf5\xf2"},
	{"squashfs", 0, "hsqs"},
	{"erofs", 1024, "\xe2\xe1\xf5\xe0"},
	{"bcache", 4096 + 24, "\xc6\x85\x73\xf6\x4e\x1a\x45\xca"},
	{"bcachefs", 4096 + 24, "\xc6\x85\x73\xf6\x66\xce\x90\xa9"},
	{"md RAID member", 4096, "\xfc\x4e\x2b\xa9"},
	{"md RAID member", 0, "\xfc\x4e\x2b\xa9"},
	{"md RAID member", -65536, "\xfc\x4e\x2b\xa9"},
	{"md RAID member", -8192, "\xfc\x4e\x2b\xa9"},
	{"thin pool metadata", 32, "\xba\x52\x9c\x01\x00\x00\x00\x00"},
	{"ISO 9660", 32769, "CD001"},
	{"UDF", 32769, "BEA01"},
	{"jfs", 32768, "JFS1"},
	{"reiserfs", 65536 + 52, "ReIsEr"},
	{"nilfs2", 1024 + 6, "\x34\x34"},
	{"gfs2", 65536, "\x01\x16\x19\x70"},
	{"ocfs2", 8192, "OCFSV2"},
	{"NTFS", 3, "NTFS    "},
	{"exFAT", 3, "EXFAT   "},
	{"FAT", 54, "FAT1"},
	{"FAT", 82, "FAT32"},
	{"VDO", 0, "dmvdo001"},
	{"dm-integrity", 0, "integrt\x00"},
	{"dm-verity", 0, "verity\x00\x00"},
	{"Ceph BlueStore", 0, "bluestore block device"},
	{"zfs", 128<<10 + 0, "\x0c\xb1\xba\x00\x00\x00\x00\x00"},
	{"zfs", 132 << 10, "\x0c\xb1\xba\x00\x00\x00\x00\x00"},
	{"partition table", 510, "\x55\xaa"},
}

// blankProbe is how much of either end of a device must be zero. ZFS's labels, 256 KiB each and two at each end, are
// the largest of what is kept there; md's 0.90 superblock lies up to 128 KiB from the end.
const blankProbe = 1 << 20

// CheckBlank refuses a device that somebody uses or that holds data: ErrBusy when it is mounted or held by another
// device, ErrNotBlank, with the name of what was found, unless both of its ends are zero.
func CheckBlank(path string) error {
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_EXCL|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("%s is mounted or part of another device: %w", path, ErrBusy)
	}
	if err != nil {
		return fmt.Errorf("looking at device: %w", err)
	}
	defer f.Close()
	size, err := ioctl.BlockSize(f)
	if err != nil {
		return err
	}
	what, err := findSignature(f, int64(size))
	if err != nil {
		return fmt.Errorf("looking at %s: %w", path, err)
	}
	if what != "" {
		return fmt.Errorf("%s holds %s: %w; wipe it first if nothing on it is needed (wipefs --all %s)", path, what, ErrNotBlank, path)
	}
	return nil
}

// findSignature names what a device of this size holds, "" for nothing.
func findSignature(r io.ReaderAt, size int64) (string, error) {
	n := min(size, blankProbe)
	head, tail := make([]byte, n), make([]byte, n)
	if _, err := r.ReadAt(head, 0); err != nil && err != io.EOF {
		return "", err
	}
	if _, err := r.ReadAt(tail, size-n); err != nil && err != io.EOF {
		return "", err
	}
	for _, s := range signatures {
		from, at := head, s.offset
		if s.offset < 0 {
			from, at = tail, n+s.offset
		}
		if at >= 0 && at < n && bytes.HasPrefix(from[at:], []byte(s.magic)) {
			return "a signature of " + s.name, nil
		}
	}
	if !isZero(head) || !isZero(tail) {
		return "data of an unknown kind", nil
	}
	return "", nil
}

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
