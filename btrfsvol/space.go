package btrfsvol

import (
	"errors"
	"strconv"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/ioctl"
)

// Allocation is how much of one kind of block groups there is, before replication.
type Allocation struct {
	Total Bytes
	Used  Bytes
	// Reserved is promised to what lies in memory and is not written yet. It is read
	// for data and metadata, from sysfs, and 0 where that cannot be read.
	Reserved Bytes
}

// Free is what is allocated, unused and not reserved.
func (a Allocation) Free() Bytes { return a.Total - min(a.Used+a.Reserved, a.Total) }

// Space is what a file system's bytes are used for. btrfs hands its devices out in
// block groups for data or for metadata; it can be full of one while the other, or
// statfs, still shows room.
type Space struct {
	Data          Allocation
	Metadata      Allocation
	System        Allocation
	GlobalReserve Allocation // kept within metadata, for deleting among others
	Size          Bytes      // of the devices
	Unallocated   Bytes      // of the devices, in no block group yet
}

// MetadataSlack is what new metadata can still take without a new block group.
func (s Space) MetadataSlack() Bytes {
	free := s.Metadata.Free()
	return free - min(s.GlobalReserve.Free(), free)
}

// Space reads it.
func (fs *FS) Space() (Space, error) {
	infos, err := ioctl.BtrfsSpaceInfos(fs.fd)
	if err != nil {
		return Space{}, wrap(err, "read the space of %s", fs.dir)
	}
	var space Space
	for _, info := range infos {
		space.add(info)
	}
	space.Data.Reserved = fs.reserved("data")
	space.Metadata.Reserved = fs.reserved("metadata")
	space.Metadata.Reserved -= min(space.GlobalReserve.Total, space.Metadata.Reserved)
	devices, err := fs.Devices()
	for _, device := range devices {
		space.Size += device.Size
		space.Unallocated += device.Size - min(device.Allocated, device.Size)
	}
	return space, err
}

// reserved adds up what writers have reserved of a kind of block group. For metadata
// that holds the global reserve, which is no writer's.
func (fs *FS) reserved(kind string) Bytes {
	var sum Bytes
	for _, file := range []string{"bytes_may_use", "bytes_reserved"} {
		word, err := readWord(fs.sysfs("allocation", kind, file))
		if err != nil {
			return 0
		}
		n, err := strconv.ParseUint(word, 10, 64)
		if err != nil {
			return 0
		}
		sum += Bytes(n)
	}
	return sum
}

func (s *Space) add(info ioctl.BtrfsSpaceInfo) {
	to := &s.System
	switch {
	case info.Flags&ioctl.BTRFS_SPACE_INFO_GLOBAL_RSV != 0:
		to = &s.GlobalReserve
	case info.Flags&ioctl.BTRFS_BLOCK_GROUP_DATA != 0: // also data and metadata mixed
		to = &s.Data
	case info.Flags&ioctl.BTRFS_BLOCK_GROUP_METADATA != 0:
		to = &s.Metadata
	}
	to.Total += Bytes(info.TotalBytes)
	to.Used += Bytes(info.UsedBytes)
}

// Device is one device of a file system.
type Device struct {
	ID        uint64
	Path      string
	Size      Bytes
	Allocated Bytes // to block groups
	Errors    DeviceErrors
}

// DeviceErrors counts a device's failures since it was added or the counts were
// reset (btrfs-device(8), "stats").
type DeviceErrors struct {
	Write, Read, Flush, Corruption, Generation uint64
}

// Any tells whether there was an error at all.
func (e DeviceErrors) Any() bool { return e != DeviceErrors{} }

// Devices lists the file system's devices.
func (fs *FS) Devices() ([]Device, error) {
	info, err := ioctl.BtrfsFsInfo(fs.fd)
	if err != nil {
		return nil, wrap(err, "list the devices of %s", fs.dir)
	}
	var devices []Device
	for id := uint64(0); id <= info.MaxID && uint64(len(devices)) < info.NumDevices; id++ {
		args, err := ioctl.BtrfsDevInfo(fs.fd, id)
		if errors.Is(err, unix.ENODEV) { // a gap: it was removed
			continue
		}
		if err != nil {
			return nil, wrap(err, "describe device %d", id)
		}
		stats, err := ioctl.BtrfsGetDevStats(fs.fd, id)
		if err != nil && !errors.Is(err, unix.ENODEV) { // a missing device has none
			return nil, wrap(err, "read the errors of device %d", id)
		}
		devices = append(devices, Device{
			ID:        args.Devid,
			Path:      args.Name(),
			Size:      Bytes(args.TotalBytes),
			Allocated: Bytes(args.BytesUsed),
			Errors: DeviceErrors{
				Write: stats.Values[0], Read: stats.Values[1], Flush: stats.Values[2],
				Corruption: stats.Values[3], Generation: stats.Values[4],
			},
		})
	}
	return devices, nil
}

// GrowToDevice grows a file system on one device to that device's size.
func (fs *FS) GrowToDevice() error {
	return wrap(ioctl.BtrfsResize(fs.fd, "1:max"), "grow %s", fs.dir)
}
