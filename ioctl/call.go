package ioctl

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// call issues one ioctl whose argument is a pointer and returns its result and
// its errno, nil for none. It does not repeat on EINTR: whether a request may be
// repeated is for each interface to say.
func call(fd int, request uintptr, argument unsafe.Pointer) (int, error) {
	o, began := watching()
	result, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(argument))
	err := errorOf(errno)
	noted(o, request, err, began)
	return int(result), err
}

// callValue issues one ioctl whose argument is a plain number (or nothing: 0).
func callValue(fd int, request, argument uintptr) (int, error) {
	o, began := watching()
	result, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, argument)
	err := errorOf(errno)
	noted(o, request, err, began)
	return int(result), err
}

// errorOf is nil for no errno.
func errorOf(errno unix.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}
