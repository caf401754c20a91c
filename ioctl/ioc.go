package ioctl

import "unsafe"

// The layout of a request number, asm-generic/ioctl.h: 8 bits of number, 8 bits
// of type, then the size and the direction, whose widths and values depend on
// the architecture (see ioc_generic.go and ioc_powerpc.go).
const (
	iocNumberShift = 0
	iocTypeShift   = 8
	iocSizeShift   = 16
)

// IOC is the header's _IOC: the request number made of a direction, a type (the
// interface's "magic"), a number and the argument's size in bytes.
func IOC(direction, magic, number, size uintptr) uintptr {
	return direction<<iocDirShift | size<<iocSizeShift | magic<<iocTypeShift | number<<iocNumberShift
}

// IO is the header's _IO: a request without an argument that is copied.
func IO(magic, number uintptr) uintptr {
	return IOC(iocNone, magic, number, 0)
}

// IOR is the header's _IOR: the kernel fills an argument of type T.
func IOR[T any](magic, number uintptr) uintptr {
	return IOC(iocRead, magic, number, sizeOf[T]())
}

// IOW is the header's _IOW: the kernel reads an argument of type T.
func IOW[T any](magic, number uintptr) uintptr {
	return IOC(iocWrite, magic, number, sizeOf[T]())
}

// IOWR is the header's _IOWR: the kernel reads and fills an argument of type T.
func IOWR[T any](magic, number uintptr) uintptr {
	return IOC(iocRead|iocWrite, magic, number, sizeOf[T]())
}

func sizeOf[T any]() uintptr {
	var zero T
	return unsafe.Sizeof(zero)
}
