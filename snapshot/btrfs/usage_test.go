package btrfs

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot"
)

// TestUsageFollowsChanges: whatever is done to a file, written out or not, the next usage has it, as somebody has it who
// remembers nothing.
func TestUsageFollowsChanges(t *testing.T) {
	s := newLoopStore(t)
	d := s.driver.(loopDriver).driver
	layer, box := snapshot.Volume{ID: 16}, snapshot.Volume{ID: 17, Origin: 16}
	require.NoError(t, d.Create(t.Context(), layer.ID, snapshot.CreateOptions{Origin: base, Size: 1 << 30}))
	for i := range 100 {
		require.NoError(t, os.WriteFile(filepath.Join(d.dirOf(layer.ID), fmt.Sprint(i)), make([]byte, 20_000), 0o600))
	}
	require.NoError(t, d.Seal(t.Context(), layer))
	layer.Sealed = true
	require.NoError(t, d.Create(t.Context(), box.ID, snapshot.CreateOptions{Origin: layer, Size: 1 << 30}))
	type counted struct{ referenced, added int64 }
	ask := func() counted {
		t.Helper()
		referenced, err := d.Referenced(t.Context(), box)
		require.NoError(t, err)
		u, err := d.Usage(t.Context(), box)
		require.NoError(t, err)
		require.True(t, u.Exact)
		return counted{referenced[0], u.Added}
	}
	usage := func() counted {
		t.Helper()
		now := ask()
		require.Equal(t, now, ask())
		d.counts = counts{}
		require.Equal(t, ask(), now)
		return now
	}
	path := func(name any) string { return filepath.Join(d.dirOf(box.ID), fmt.Sprint(name)) }
	begin := usage()
	require.EqualValues(t, 100*20_480, begin.referenced)
	require.Zero(t, begin.added)

	mapped, err := os.OpenFile(path("mapped"), os.O_CREATE|os.O_RDWR, 0o600)
	require.NoError(t, err)
	defer mapped.Close()
	require.NoError(t, mapped.Truncate(1<<20))
	m, err := unix.Mmap(int(mapped.Fd()), 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	require.NoError(t, err)
	defer func() { require.NoError(t, unix.Munmap(m)) }()
	now := begin
	for _, c := range []struct {
		what              string
		do                func() error
		referenced, added int64
	}{
		{"nothing", func() error { return nil }, 0, 0},
		{"a new file", func() error { return os.WriteFile(path("new"), make([]byte, 1<<20), 0o600) }, 1 << 20, 1 << 20},
		{"over an old one", func() error { return os.WriteFile(path(1), make([]byte, 20_000), 0o600) }, 0, 20_480},
		{"an old one removed", func() error { return os.Remove(path(2)) }, -20_480, 0},
		{"a new one cut: its extent stays whole", func() error { return os.Truncate(path("new"), 4096) }, 0, 0},
		{"a new one removed", func() error { return os.Remove(path("new")) }, -1 << 20, -1 << 20},
		{"through a mapping", func() error { m[0]++; return nil }, 4096, 4096},
		{"elsewhere in the mapping", func() error { m[1<<19]++; return nil }, 4096, 4096},
		{"renamed", func() error { return os.Rename(path(3), path("three")) }, 0, 0},
		{"reserved", func() error { return unix.Fallocate(int(mapped.Fd()), 0, 2<<20, 1<<20) }, 1 << 20, 1 << 20},
	} {
		require.NoError(t, c.do(), c.what)
		u := usage()
		require.Equal(t, c.referenced, u.referenced-now.referenced, c.what)
		require.Equal(t, c.added, u.added-now.added, c.what)
		now = u
	}

	// The layer goes first.
	require.NoError(t, d.Remove(t.Context(), layer.ID))
	require.Equal(t, now.referenced, usage().referenced)
}
