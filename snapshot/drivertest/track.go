package drivertest

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot/layertar"
)

// Tester is a test or one of package rapid's tries.
type Tester interface {
	require.TestingT
	Helper()
	Context() context.Context
}

// found is all that a comparison can tell.
type found struct {
	changes string
	size    int64
	tar     []byte
}

func compared(t Tester, lower, upper string, o layertar.CompareOptions) found {
	t.Helper()
	all, err := layertar.Changes(t.Context(), lower, upper, o)
	require.NoError(t, err)
	size, err := layertar.Size(t.Context(), lower, upper, o)
	require.NoError(t, err)
	var tar bytes.Buffer
	_, err = layertar.Diff(t.Context(), lower, upper, &tar, layertar.DiffOptions{CompareOptions: o})
	require.NoError(t, err)
	text := ""
	for _, c := range all {
		text += fmt.Sprintln(c.Kind, c.Path)
	}
	return found{text, size, tar.Bytes()}
}

// ClockGoesOn waits until what is changed from now on is told by its change time from what was changed before, so that a
// volume which is sealed then has nothing that has to be looked at for that.
func ClockGoesOn(t Tester) {
	t.Helper()
	begin := time.Now()
	require.Eventually(t, func() bool {
		var now unix.Timespec
		err := unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &now) // which file systems take the time from
		return err == nil && time.Unix(now.Unix()).After(begin.Add(layertar.ClockTick))
	}, time.Minute, time.Millisecond)
}

// TracksLikeWalk fails the test unless a comparison of two trees by a driver's account, which o has, finds what a walk over
// everything does: changes, sizes and the tar.
func TracksLikeWalk(t Tester, lower, upper string, o layertar.CompareOptions) {
	t.Helper()
	want := compared(t, lower, upper, layertar.CompareOptions{})
	got := compared(t, lower, upper, o)
	require.Equal(t, want.changes, got.changes)
	require.Equal(t, want.size, got.size)
	require.True(t, bytes.Equal(want.tar, got.tar), "the tars differ")
}
