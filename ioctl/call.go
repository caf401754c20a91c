package ioctl

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// call issues one ioctl whose argument is a pointer and returns its result and
// its errno, nil for none. It does not repeat on EINTR: whether a request may be
// repeated is for each interface to say.
func call(fd int, request uintptr, argument unsafe.Pointer) (int, error) {
	result, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(argument))
	if errno != 0 {
		return int(result), errno
	}
	return int(result), nil
}

// callValue issues one ioctl whose argument is a plain number (or nothing: 0).
func callValue(fd int, request, argument uintptr) (int, error) {
	result, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, argument)
	if errno != 0 {
		return int(result), errno
	}
	return int(result), nil
}
