package ioctl

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestSemaphoreABI(t *testing.T) {
	abiTable{
		headers: []string{"sys/sem.h"},
		structs: []abiStruct{{c: "struct sembuf", goType: Sembuf{}, fields: map[string]string{
			"SemNum": "sem_num", "SemOp": "sem_op", "SemFlg": "sem_flg",
		}}},
		numbers: map[string]uint64{
			"IPC_CREAT": IPC_CREAT, "IPC_EXCL": IPC_EXCL, "IPC_NOWAIT": IPC_NOWAIT, "IPC_RMID": IPC_RMID,
			"SETVAL": SETVAL, "GETVAL": GETVAL,
		},
	}.check(t)
}

func TestSemaphoreCountsToZero(t *testing.T) {
	const private = 0
	id, err := Semget(private, 1, IPC_CREAT|0o600)
	if errors.Is(err, unix.ENOSYS) {
		t.Skip("no System V semaphores in this kernel")
	}
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := Semctl(id, IPC_RMID, 0)
		require.NoError(t, err)
	})
	_, err = Semctl(id, SETVAL, 1)
	require.NoError(t, err)
	require.ErrorIs(t, Semtimedop(id, Sembuf{}, time.Millisecond), unix.EAGAIN, "waiting for zero at one")
	require.NoError(t, Semtimedop(id, Sembuf{SemOp: -1}, time.Second))
	value, err := Semctl(id, GETVAL, 0)
	require.NoError(t, err)
	require.Zero(t, value)
	require.NoError(t, Semtimedop(id, Sembuf{}, time.Second), "waiting for zero at zero")
}
