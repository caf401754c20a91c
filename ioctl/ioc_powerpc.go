//go:build ppc64 || ppc64le || mips || mipsle || mips64 || mips64le || sparc64

package ioctl

// asm/ioctl.h of powerpc, mips and sparc: 13 bits of size, 3 bits of direction.
const (
	iocDirShift = 29

	iocNone  = 1
	iocRead  = 2
	iocWrite = 4
)
