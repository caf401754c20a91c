package dm

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Sectors counts 512-byte sectors, device-mapper's unit of length and offset
// whatever the device's own sector size is.
type Sectors uint64

// SectorSize is the size of a sector in bytes.
const SectorSize = 512

// Bytes is the length in bytes.
func (s Sectors) Bytes() uint64 { return uint64(s) * SectorSize }

// SectorsOf is the number of whole sectors in a number of bytes; a remainder is dropped.
func SectorsOf(bytes uint64) Sectors { return Sectors(bytes / SectorSize) }

// Blocks counts a thin pool's data blocks, whose size is the pool's block size.
type Blocks uint64

// MetadataBlocks counts a thin pool's metadata blocks of 4096 bytes.
type MetadataBlocks uint64

// MetadataBlockSize is the size of a thin pool's metadata block in bytes.
const MetadataBlockSize = 4096

// A DeviceID names a thin device within its pool: 0 to [MaxDeviceID].
type DeviceID uint32

// MaxDeviceID is the largest id that a thin pool accepts (24 bits).
const MaxDeviceID DeviceID = 1<<24 - 1

// A TransactionID is the number in a thin pool's superblock that its user owns.
type TransactionID uint64

// Seconds is a whole number of seconds, as the flakey target takes it.
type Seconds uint32

// Milliseconds is a whole number of milliseconds, as the delay target takes it.
type Milliseconds uint32

// A Number is a device number, printed and parsed as "major:minor". That is the
// form in which tables name devices: it needs no quoting and no node in
// /dev. The zero Number is no device.
type Number struct {
	Major, Minor uint32
}

func (n Number) String() string {
	return strconv.FormatUint(uint64(n.Major), 10) + ":" + strconv.FormatUint(uint64(n.Minor), 10)
}

// IsZero says whether n is no device.
func (n Number) IsZero() bool { return n == Number{} }

// Dev is the number in the form of stat(2)'s st_rdev.
func (n Number) Dev() uint64 { return unix.Mkdev(n.Major, n.Minor) }

// NumberOf decodes stat(2)'s st_rdev, which is also how the device-mapper ioctls
// encode a device.
func NumberOf(dev uint64) Number {
	return Number{Major: unix.Major(dev), Minor: unix.Minor(dev)}
}

// ParseNumber is the inverse of [Number.String].
func ParseNumber(text string) (Number, error) {
	major, minor, ok := strings.Cut(text, ":")
	if !ok {
		return Number{}, fmt.Errorf("device %q is not major:minor", text)
	}
	m, err := parseUint(major, 32)
	if err != nil {
		return Number{}, fmt.Errorf("device %q: major: %w", text, err)
	}
	n, err := parseUint(minor, 32)
	if err != nil {
		return Number{}, fmt.Errorf("device %q: minor: %w", text, err)
	}
	return Number{Major: uint32(m), Minor: uint32(n)}, nil
}

// BlockDeviceNumber is the device number of the block device that a node names,
// symbolic links followed. Anything but a block device is an error.
func BlockDeviceNumber(path string) (Number, error) {
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		return Number{}, fmt.Errorf("looking at %s: %w", path, err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFBLK {
		return Number{}, fmt.Errorf("looking at %s: %w", path, unix.ENOTBLK)
	}
	return NumberOf(stat.Rdev), nil
}

// parseUint reads a decimal number as the kernel prints it: digits only, no sign,
// no superfluous zero in front.
func parseUint(text string, bits int) (uint64, error) {
	if len(text) > 1 && text[0] == '0' {
		return 0, fmt.Errorf("number %q has a leading zero", text)
	}
	value, err := strconv.ParseUint(text, 10, bits)
	if err != nil {
		return 0, fmt.Errorf("number %q: %w", text, err)
	}
	return value, nil
}
