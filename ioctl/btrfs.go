package ioctl

import (
	"bytes"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The btrfs requests, <linux/btrfs.h>. Some share a number and differ in
// direction or size only: SUBVOL_CREATE_V2 and START_SYNC (24), TREE_SEARCH and
// its V2 (17).

func btrfsResize() uintptr       { return IOW[BtrfsVolArgs](BTRFS_IOCTL_MAGIC, 3) }
func btrfsSync() uintptr         { return IO(BTRFS_IOCTL_MAGIC, 8) }
func btrfsTreeSearchV2() uintptr { return IOWR[BtrfsSearchArgsV2](BTRFS_IOCTL_MAGIC, 17) }
func btrfsInoLookup() uintptr    { return IOWR[BtrfsInoLookupArgs](BTRFS_IOCTL_MAGIC, 18) }
func btrfsSpaceInfo() uintptr    { return IOWR[BtrfsSpaceArgs](BTRFS_IOCTL_MAGIC, 20) }
func btrfsWaitSync() uintptr     { return IOW[uint64](BTRFS_IOCTL_MAGIC, 22) }
func btrfsSnapCreateV2() uintptr { return IOW[BtrfsVolArgsV2](BTRFS_IOCTL_MAGIC, 23) }
func btrfsStartSync() uintptr    { return IOR[uint64](BTRFS_IOCTL_MAGIC, 24) }
func btrfsSubvolCreateV2() uintptr {
	return IOW[BtrfsVolArgsV2](BTRFS_IOCTL_MAGIC, 24)
}
func btrfsSubvolGetflags() uintptr    { return IOR[uint64](BTRFS_IOCTL_MAGIC, 25) }
func btrfsSubvolSetflags() uintptr    { return IOW[uint64](BTRFS_IOCTL_MAGIC, 26) }
func btrfsDevInfo() uintptr           { return IOWR[BtrfsDevInfoArgs](BTRFS_IOCTL_MAGIC, 30) }
func btrfsFsInfo() uintptr            { return IOR[BtrfsFsInfoArgs](BTRFS_IOCTL_MAGIC, 31) }
func btrfsQuotaCtl() uintptr          { return IOWR[BtrfsQuotaCtlArgs](BTRFS_IOCTL_MAGIC, 40) }
func btrfsQgroupAssign() uintptr      { return IOW[BtrfsQgroupAssignArgs](BTRFS_IOCTL_MAGIC, 41) }
func btrfsQgroupCreate() uintptr      { return IOW[BtrfsQgroupCreateArgs](BTRFS_IOCTL_MAGIC, 42) }
func btrfsQgroupLimit() uintptr       { return IOR[BtrfsQgroupLimitArgs](BTRFS_IOCTL_MAGIC, 43) }
func btrfsGetDevStats() uintptr       { return IOWR[BtrfsDevStats](BTRFS_IOCTL_MAGIC, 52) }
func btrfsGetFeatures() uintptr       { return IOR[BtrfsFeatureFlags](BTRFS_IOCTL_MAGIC, 57) }
func btrfsGetSubvolInfo() uintptr     { return IOR[BtrfsSubvolInfo](BTRFS_IOCTL_MAGIC, 60) }
func btrfsGetSubvolRootref() uintptr  { return IOWR[BtrfsSubvolRootrefArgs](BTRFS_IOCTL_MAGIC, 61) }
func btrfsSnapDestroyV2() uintptr     { return IOW[BtrfsVolArgsV2](BTRFS_IOCTL_MAGIC, 63) }
func btrfsSubvolSyncWait() uintptr    { return IOW[BtrfsSubvolWait](BTRFS_IOCTL_MAGIC, 65) }
func btrfsSupportedFeatures() uintptr { return IOR[[3]BtrfsFeatureFlags](BTRFS_IOCTL_MAGIC, 57) }

// btrfsCall issues one btrfs request and repeats it when a signal interrupted
// it: every request of this file may be repeated, for one that was interrupted
// did nothing or only waited.
func btrfsCall(fd int, request uintptr, argument unsafe.Pointer) error {
	for {
		if _, err := call(fd, request, argument); err != unix.EINTR {
			return err
		}
	}
}

// BtrfsSubvolCreate creates a subvolume name in the directory dir, a member of
// the listed quota groups (level 1 or above). It starts no commit: the subvolume
// is durable only after a later one.
func BtrfsSubvolCreate(dir int, name string, groups []uint64) error {
	args := BtrfsVolArgsV2{}
	return btrfsCreate(dir, btrfsSubvolCreateV2(), &args, name, groups)
}

// BtrfsSnapCreate makes a snapshot of the subvolume whose root directory is open
// as source. flags may hold BTRFS_SUBVOL_RDONLY. It returns after the commit that
// holds the snapshot.
func BtrfsSnapCreate(dir int, name string, snap BtrfsSnap) error {
	args := BtrfsVolArgsV2{Fd: int64(snap.Source), Flags: snap.Flags}
	return btrfsCreate(dir, btrfsSnapCreateV2(), &args, name, snap.Groups)
}

// BtrfsSnap says of what and how BtrfsSnapCreate makes a snapshot.
type BtrfsSnap struct {
	Source int // open root directory of a subvolume
	Flags  uint64
	Groups []uint64 // quota groups to join
}

func btrfsCreate(dir int, request uintptr, args *BtrfsVolArgsV2, name string, groups []uint64) error {
	if !putName(args.Name[:], name) {
		return unix.ENAMETOOLONG
	}
	if len(groups) == 0 {
		return btrfsCall(dir, request, unsafe.Pointer(args))
	}
	const header = int(unsafe.Sizeof(BtrfsQgroupInherit{}) / 8)
	words := make([]uint64, header+len(groups))
	(*BtrfsQgroupInherit)(unsafe.Pointer(&words[0])).NumQgroups = uint64(len(groups))
	copy(words[header:], groups)
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(&words[0])
	args.Flags |= BTRFS_SUBVOL_QGROUP_INHERIT
	args.Size = uint64(len(words) * 8)
	args.QgroupInherit = uint64(uintptr(unsafe.Pointer(&words[0])))
	return btrfsCall(dir, request, unsafe.Pointer(args))
}

// BtrfsSnapDestroyByID destroys the subvolume with this id, wherever it lies in
// the file system of fd (Linux 5.7). It starts no commit.
func BtrfsSnapDestroyByID(fd int, id uint64) error {
	args := BtrfsVolArgsV2{Flags: BTRFS_SUBVOL_SPEC_BY_ID}
	*(*uint64)(unsafe.Pointer(&args.Name[0])) = id
	return btrfsCall(fd, btrfsSnapDestroyV2(), unsafe.Pointer(&args))
}

// BtrfsSubvolGetflags reads the flags of the subvolume whose root is open as fd.
func BtrfsSubvolGetflags(fd int) (uint64, error) {
	var flags uint64
	err := btrfsCall(fd, btrfsSubvolGetflags(), unsafe.Pointer(&flags))
	return flags, err
}

// BtrfsSubvolSetflags sets them. It commits, but does not write out data that
// lies dirty in the page cache.
func BtrfsSubvolSetflags(fd int, flags uint64) error {
	return btrfsCall(fd, btrfsSubvolSetflags(), unsafe.Pointer(&flags))
}

// BtrfsGetSubvolInfo describes the subvolume that fd lies in (Linux 4.18).
func BtrfsGetSubvolInfo(fd int) (*BtrfsSubvolInfo, error) {
	var info BtrfsSubvolInfo
	err := btrfsCall(fd, btrfsGetSubvolInfo(), unsafe.Pointer(&info))
	return &info, err
}

// BtrfsGetSubvolRootref lists subvolumes directly inside the one that fd lies
// in, from the id minimum on: at most 255. More says that there are others.
func BtrfsGetSubvolRootref(fd int, minimum uint64) (refs []BtrfsRootref, more bool, err error) {
	args := BtrfsSubvolRootrefArgs{MinTreeid: minimum}
	err = btrfsCall(fd, btrfsGetSubvolRootref(), unsafe.Pointer(&args))
	if err == unix.EOVERFLOW {
		more, err = true, nil
	}
	if err != nil {
		return nil, false, err
	}
	return args.Rootref[:args.NumItems], more, nil
}

// BtrfsInoLookup resolves a directory's inode number to its path from the root
// of its subvolume, with a slash at the end; tree 0 is the tree of fd itself and
// the number of that tree is returned.
func BtrfsInoLookup(fd int, tree, objectid uint64) (uint64, string, error) {
	args := BtrfsInoLookupArgs{Treeid: tree, Objectid: objectid}
	if err := btrfsCall(fd, btrfsInoLookup(), unsafe.Pointer(&args)); err != nil {
		return 0, "", err
	}
	return args.Treeid, getName(args.Name[:]), nil
}

// BtrfsSync writes out all dirty data, commits and wakes the cleaner.
func BtrfsSync(fd int) error {
	return btrfsCall(fd, btrfsSync(), nil)
}

// BtrfsStartSync starts a commit, without writing out delayed allocations, and
// returns its transaction id for BtrfsWaitSync.
func BtrfsStartSync(fd int) (uint64, error) {
	var transid uint64
	err := btrfsCall(fd, btrfsStartSync(), unsafe.Pointer(&transid))
	return transid, err
}

// BtrfsWaitSync waits until the transaction has been committed.
func BtrfsWaitSync(fd int, transid uint64) error {
	return btrfsCall(fd, btrfsWaitSync(), unsafe.Pointer(&transid))
}

// BtrfsSubvolSyncWait asks about or waits for the cleaner (Linux 6.13), by mode.
// It polls once a second in the kernel. args is updated.
func BtrfsSubvolSyncWait(fd int, args *BtrfsSubvolWait) error {
	return btrfsCall(fd, btrfsSubvolSyncWait(), unsafe.Pointer(args))
}

// BtrfsQuotaCtl switches quotas on or off for the whole file system.
func BtrfsQuotaCtl(fd int, command uint64) error {
	args := BtrfsQuotaCtlArgs{Cmd: command}
	return btrfsCall(fd, btrfsQuotaCtl(), unsafe.Pointer(&args))
}

// BtrfsQgroupCreate makes a quota group, or removes it.
func BtrfsQgroupCreate(fd int, create bool, qgroup uint64) error {
	args := BtrfsQgroupCreateArgs{Create: boolWord(create), Qgroupid: qgroup}
	return btrfsCall(fd, btrfsQgroupCreate(), unsafe.Pointer(&args))
}

// BtrfsQgroupAssign makes member a member of group, or takes it out.
func BtrfsQgroupAssign(fd int, assign bool, member, group uint64) error {
	args := BtrfsQgroupAssignArgs{Assign: boolWord(assign), Src: member, Dst: group}
	// A positive answer says that a rescan is needed, which only full quotas do.
	return btrfsCall(fd, btrfsQgroupAssign(), unsafe.Pointer(&args))
}

// BtrfsQgroupLimitSet sets the limits that limit.Flags names.
func BtrfsQgroupLimitSet(fd int, qgroup uint64, limit BtrfsQgroupLimit) error {
	args := BtrfsQgroupLimitArgs{Qgroupid: qgroup, Lim: limit}
	return btrfsCall(fd, btrfsQgroupLimit(), unsafe.Pointer(&args))
}

// BtrfsFsInfo describes the file system. Kernels before 5.11 leave the fields
// behind Flags empty and say so in Flags.
func BtrfsFsInfo(fd int) (*BtrfsFsInfoArgs, error) {
	args := BtrfsFsInfoArgs{Flags: BTRFS_FS_INFO_FLAG_CSUM_INFO | BTRFS_FS_INFO_FLAG_GENERATION | BTRFS_FS_INFO_FLAG_METADATA_UUID}
	err := btrfsCall(fd, btrfsFsInfo(), unsafe.Pointer(&args))
	return &args, err
}

// BtrfsDevInfo describes one device of the file system; ENODEV when it has none
// of this number.
func BtrfsDevInfo(fd int, devid uint64) (*BtrfsDevInfoArgs, error) {
	args := BtrfsDevInfoArgs{Devid: devid}
	err := btrfsCall(fd, btrfsDevInfo(), unsafe.Pointer(&args))
	return &args, err
}

// Name is a device's path, as btrfs knows it.
func (args *BtrfsDevInfoArgs) Name() string { return getName(args.Path[:]) }

// BtrfsSpaceInfos lists how much of each kind of block group exists and is used.
func BtrfsSpaceInfos(fd int) ([]BtrfsSpaceInfo, error) {
	const header, item = unsafe.Sizeof(BtrfsSpaceArgs{}), unsafe.Sizeof(BtrfsSpaceInfo{})
	for slots := uintptr(16); ; slots *= 2 {
		words := make([]uint64, (header+slots*item)/8)
		args := (*BtrfsSpaceArgs)(unsafe.Pointer(&words[0]))
		args.SpaceSlots = uint64(slots)
		if err := btrfsCall(fd, btrfsSpaceInfo(), unsafe.Pointer(&words[0])); err != nil {
			return nil, err
		}
		// With slots given the kernel answers how many it filled in; all of them
		// filled may mean that some were left out.
		if args.TotalSpaces < uint64(slots) || slots > 1024 {
			all := unsafe.Slice((*BtrfsSpaceInfo)(unsafe.Pointer(&words[header/8])), slots)
			return all[:args.TotalSpaces], nil
		}
	}
}

// BtrfsGetDevStats reads a device's error counters; it resets nothing.
func BtrfsGetDevStats(fd int, devid uint64) (*BtrfsDevStats, error) {
	args := BtrfsDevStats{Devid: devid, NrItems: BTRFS_DEV_STAT_VALUES_MAX}
	err := btrfsCall(fd, btrfsGetDevStats(), unsafe.Pointer(&args))
	return &args, err
}

// BtrfsGetFeatures reads the features of the mounted file system.
func BtrfsGetFeatures(fd int) (BtrfsFeatureFlags, error) {
	var flags BtrfsFeatureFlags
	err := btrfsCall(fd, btrfsGetFeatures(), unsafe.Pointer(&flags))
	return flags, err
}

// BtrfsGetSupportedFeatures reads which features the kernel supports, can set
// and can clear on a mounted file system.
func BtrfsGetSupportedFeatures(fd int) (supported, settable, clearable BtrfsFeatureFlags, err error) {
	var flags [3]BtrfsFeatureFlags
	err = btrfsCall(fd, btrfsSupportedFeatures(), unsafe.Pointer(&flags))
	return flags[0], flags[1], flags[2], err
}

// BtrfsResize resizes the file system on a device: "1:max", "1:10737418240".
func BtrfsResize(fd int, how string) error {
	var args BtrfsVolArgs
	if !putName(args.Name[:], how) {
		return unix.ENAMETOOLONG
	}
	return btrfsCall(fd, btrfsResize(), unsafe.Pointer(&args))
}

// SubvolName is the subvolume's own name.
func (info *BtrfsSubvolInfo) SubvolName() string { return getName(info.Name[:]) }

func boolWord(set bool) uint64 {
	if set {
		return 1
	}
	return 0
}

// putName copies a string into a field that a NUL must end.
func putName(field []byte, name string) bool {
	if len(name) >= len(field) || bytes.IndexByte([]byte(name), 0) >= 0 {
		return false
	}
	copy(field, name)
	return true
}

func getName(field []byte) string {
	name, _, _ := bytes.Cut(field, []byte{0})
	return string(name)
}
