//go:build amd64 || arm64 || riscv64 || loong64 || s390x || ppc64le

package ioctl

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// System V semaphores, linux/ipc.h and linux/sem.h: udev's cookies are made of them.
const (
	IPC_CREAT  = 0o1000
	IPC_EXCL   = 0o2000
	IPC_NOWAIT = 0o4000
	IPC_RMID   = 0
	SETVAL     = 16
	GETVAL     = 12
)

// Sembuf is struct sembuf: one operation on one semaphore of a set.
type Sembuf struct {
	SemNum uint16
	SemOp  int16
	SemFlg int16
}

// Semget opens or creates a set of count semaphores and returns its id.
func Semget(key uint32, count, flags int) (int, error) {
	id, _, errno := unix.Syscall(unix.SYS_SEMGET, uintptr(key), uintptr(count), uintptr(flags))
	if errno != 0 {
		return -1, errno
	}
	return int(id), nil
}

// Semctl issues a command whose argument, if any, is a number (SETVAL, GETVAL, IPC_RMID) on
// the first semaphore of a set.
func Semctl(id, command, value int) (int, error) {
	result, _, errno := unix.Syscall6(unix.SYS_SEMCTL, uintptr(id), 0, uintptr(command), uintptr(value), 0, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(result), nil
}

// Semtimedop performs one operation, waiting for at most timeout if it has to; EAGAIN then.
func Semtimedop(id int, operation Sembuf, timeout time.Duration) error {
	limit := unix.NsecToTimespec(int64(timeout))
	_, _, errno := unix.Syscall6(unix.SYS_SEMTIMEDOP, uintptr(id), uintptr(unsafe.Pointer(&operation)), 1,
		uintptr(unsafe.Pointer(&limit)), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
