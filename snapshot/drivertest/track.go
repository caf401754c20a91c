package drivertest

import (
	"bytes"
	"context"
	"fmt"

	"github.com/stretchr/testify/require"

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
