package ioctl

import (
	"encoding/binary"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// zfsCmdRoom is what a request is given. The module copies as many bytes in and out as
// its own struct has, whatever ours has: one that is larger must not write past it.
const zfsCmdRoom = 16384

// A ZFSBuffer is the memory of one request to /dev/zfs.
type ZFSBuffer struct {
	ZFSCmd
	_ [zfsCmdRoom - unsafe.Sizeof(ZFSCmd{})]byte
}

// ZFSCall issues a request on the open /dev/zfs. source is its argument and destination has
// room for its result; both may be nil. The kernel's reply replaces the buffer's content.
// ENOMEM says that the room was too little. Errors may be the interface's own, such as
// ZFS_ERR_IOC_ARG_UNAVAIL, in errno's place. Nothing is repeated here, not on EINTR either.
func ZFSCall(fd int, request uintptr, b *ZFSBuffer, source, destination []byte) error {
	var pin runtime.Pinner
	defer pin.Unpin()
	b.NvlistSrc, b.NvlistSrcSize = pinned(&pin, source)
	b.NvlistDst, b.NvlistDstSize = pinned(&pin, destination)
	_, err := call(fd, request, unsafe.Pointer(b))
	return err
}

func pinned(pin *runtime.Pinner, b []byte) (address, size uint64) {
	if len(b) == 0 {
		return 0, 0
	}
	first := unsafe.SliceData(b)
	pin.Pin(first)
	return uint64(uintptr(unsafe.Pointer(first))), uint64(len(b))
}

// SetName puts the dataset, snapshot or pool that a request is about in its place.
func (b *ZFSBuffer) SetName(name string) error { return b.put(b.Name[:], name) }

// SetValue sets the text argument of a legacy request.
func (b *ZFSBuffer) SetValue(value string) error { return b.put(b.Value[:], value) }

func (*ZFSBuffer) put(field []byte, text string) error {
	clear(field)
	if !putName(field, text) {
		return unix.ENAMETOOLONG
	}
	return nil
}

// ParseZFSDiffRecord reads a record from a pipe's bytes; false when there are too few.
func ParseZFSDiffRecord(raw []byte) (ZFSDiffRecord, bool) {
	if len(raw) < int(unsafe.Sizeof(ZFSDiffRecord{})) {
		return ZFSDiffRecord{}, false
	}
	order := binary.NativeEndian
	return ZFSDiffRecord{Type: order.Uint64(raw), First: order.Uint64(raw[8:]), Last: order.Uint64(raw[16:])}, true
}
