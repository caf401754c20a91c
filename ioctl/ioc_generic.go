//go:build !(ppc64 || ppc64le || mips || mipsle || mips64 || mips64le || sparc64)

package ioctl

// asm-generic/ioctl.h: 14 bits of size, 2 bits of direction.
const (
	iocDirShift = 30

	iocNone  = 0
	iocWrite = 1
	iocRead  = 2
)
