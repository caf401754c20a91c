package ioctl

import (
	"bytes"
	"unsafe"
)

// A DMBuffer is the memory of one device-mapper request: the header and behind it
// the payload. It is aligned to 8 bytes as the header demands.
type DMBuffer struct {
	words []uint64
}

// NewDMBuffer makes a zeroed buffer of at least size bytes, never less than the header.
func NewDMBuffer(size int) *DMBuffer {
	size = max(size, DMIoctlSize)
	return &DMBuffer{words: make([]uint64, (size+7)/8)}
}

// Header is the buffer's first bytes; it stays valid as long as the buffer.
func (b *DMBuffer) Header() *DMIoctl {
	return (*DMIoctl)(unsafe.Pointer(unsafe.SliceData(b.words)))
}

// Bytes is the whole buffer.
func (b *DMBuffer) Bytes() []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(b.words))), len(b.words)*8)
}

// Payload is what follows the header.
func (b *DMBuffer) Payload() []byte {
	return b.Bytes()[DMIoctlSize:]
}

// DMCall issues one device-mapper command on the control file's descriptor. The
// caller has filled the header; the kernel's reply replaces the buffer's content.
// On an error only the header's version is the kernel's.
func DMCall(fd int, command uint32, buffer *DMBuffer) error {
	_, err := call(fd, DMRequest(command), unsafe.Pointer(unsafe.SliceData(buffer.words)))
	return err
}

// CString is the text of a fixed or flexible field up to its NUL.
func CString(field []byte) string {
	text, _, _ := bytes.Cut(field, []byte{0})
	return string(text)
}
