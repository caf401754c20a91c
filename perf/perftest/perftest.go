package perftest

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/mount"
	"blockstore.dev/blockstore/zfsds"
)

// WorkDir is a directory on a disk's file system, gone after the test. It skips the test of who is not root.
func WorkDir(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts file systems")
	}
	dir, err := os.MkdirTemp(os.Getenv("BSTEST_DIR"), "bstest-smoke-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

// Needs skips a test where the kernel or the machine has not what a driver needs.
func Needs(t *testing.T, kind snapshot.Kind) {
	t.Helper()
	if err := kind.Probe(t.Context()); err != nil {
		t.Skip(err)
	}
}

// NothingLeft fails the test for each file or mount in dir, and each device-mapper device and ZFS pool whose name begins so.
func NothingLeft(t *testing.T, dir, devices string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, entries)
	below, err := mount.Below(dir)
	require.NoError(t, err)
	assert.Empty(t, below)
	noPools(t, devices)
	client, err := dm.Open(dm.Options{})
	if errors.Is(err, dm.ErrNotSupported) {
		return
	}
	require.NoError(t, err)
	defer client.Close()
	left, err := client.List(context.WithoutCancel(t.Context()), dm.Prefix{Name: devices})
	require.NoError(t, err)
	assert.Empty(t, left)
}

func noPools(t *testing.T, prefix string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	h, err := zfsds.Open(ctx, zfsds.Options{})
	if errors.Is(err, zfsds.ErrNotSupported) {
		return
	}
	require.NoError(t, err)
	defer h.Close()
	pools, err := h.Pools(ctx)
	require.NoError(t, err)
	for _, pool := range pools {
		assert.False(t, strings.HasPrefix(pool, prefix), pool)
	}
}
