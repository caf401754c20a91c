package ioctl

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Block devices: Linux, include/uapi/linux/fs.h (BLK*) and block/ioctl.c.

// blkGetSize64 and the others are here by name so that the layout test compares them with the installed header.
const (
	blkGetSize64 = unix.BLKGETSIZE64
	blkDiscard   = unix.BLKDISCARD
	blkZeroOut   = unix.BLKZEROOUT
	blkSSZGet    = unix.BLKSSZGET
	blkPBSZGet   = unix.BLKPBSZGET
	blkROGet     = unix.BLKROGET
	blkROSet     = unix.BLKROSET
	blkFlushBuf  = unix.BLKFLSBUF
)

// BlockSize gives the size of a block device in bytes.
func BlockSize(f *os.File) (uint64, error) {
	var size uint64
	err := blockIoctl(f, "size", blkGetSize64, unsafe.Pointer(&size))
	return size, err
}

// BlockDiscard tells the device that length bytes from offset are not needed any more; both are multiples of the
// logical block size. Later reads of them are undefined unless the device says otherwise (a thin device gives
// zeroes). unix.EOPNOTSUPP when the device has no discard.
func BlockDiscard(f *os.File, offset, length uint64) error {
	r := [2]uint64{offset, length}
	return blockIoctl(f, "discard", blkDiscard, unsafe.Pointer(&r))
}

// BlockZeroOut makes length bytes from offset read as zeroes, by the device's own means where it has them.
func BlockZeroOut(f *os.File, offset, length uint64) error {
	r := [2]uint64{offset, length}
	return blockIoctl(f, "zero-out", blkZeroOut, unsafe.Pointer(&r))
}

// BlockLogicalSize gives the device's logical block size in bytes: the least that can be addressed.
func BlockLogicalSize(f *os.File) (uint32, error) {
	var n int32
	err := blockIoctl(f, "logical block size", blkSSZGet, unsafe.Pointer(&n))
	return uint32(n), err
}

// BlockPhysicalSize gives the least that the device writes without a read, in bytes.
func BlockPhysicalSize(f *os.File) (uint32, error) {
	var n uint32
	err := blockIoctl(f, "physical block size", blkPBSZGet, unsafe.Pointer(&n))
	return n, err
}

// BlockReadOnly reports whether the device refuses writes.
func BlockReadOnly(f *os.File) (bool, error) {
	var n int32
	err := blockIoctl(f, "read-only flag", blkROGet, unsafe.Pointer(&n))
	return n != 0, err
}

// SetBlockReadOnly makes the device refuse writes, or take them again.
func SetBlockReadOnly(f *os.File, on bool) error {
	var n int32
	if on {
		n = 1
	}
	return blockIoctl(f, "set read-only flag", blkROSet, unsafe.Pointer(&n))
}

// BlockFlushBuffers writes the device's page cache out and forgets it, so that reads see what others wrote past it.
func BlockFlushBuffers(f *os.File) error {
	return blockIoctl(f, "flush buffers", blkFlushBuf, nil)
}

// blockIoctl issues one block device ioctl through the file's own descriptor, which the runtime keeps open meanwhile.
func blockIoctl(f *os.File, what string, request uintptr, arg unsafe.Pointer) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return fmt.Errorf("block device %s: %s: %w", f.Name(), what, err)
	}
	var callErr error
	err = conn.Control(func(fd uintptr) {
		for {
			if _, callErr = call(int(fd), request, arg); callErr != unix.EINTR {
				return
			}
		}
	})
	if err == nil {
		err = callErr
	}
	if err != nil {
		return fmt.Errorf("block device %s: %s: %w", f.Name(), what, err)
	}
	return nil
}
