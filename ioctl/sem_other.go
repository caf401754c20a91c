//go:build !(amd64 || arm64 || riscv64 || loong64 || s390x || ppc64le)

package ioctl

import (
	"time"

	"golang.org/x/sys/unix"
)

// System V semaphores are a multiplexed call on these architectures and are left out.
const (
	IPC_CREAT  = 0o1000
	IPC_EXCL   = 0o2000
	IPC_NOWAIT = 0o4000
	IPC_RMID   = 0
	SETVAL     = 16
	GETVAL     = 12
)

// Sembuf is struct sembuf.
type Sembuf struct {
	SemNum uint16
	SemOp  int16
	SemFlg int16
}

// Semget reports ENOSYS.
func Semget(key uint32, count, flags int) (int, error) { return -1, unix.ENOSYS }

// Semctl reports ENOSYS.
func Semctl(id, command, value int) (int, error) { return -1, unix.ENOSYS }

// Semtimedop reports ENOSYS.
func Semtimedop(id int, operation Sembuf, timeout time.Duration) error { return unix.ENOSYS }
