package snapshot_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/drivertest/dirdriver"
)

// TestBeginCreateFails: the first use is told why, once, and nothing is left.
func TestBeginCreateFails(t *testing.T) {
	f := newFixture(t)
	im := f.load("i", 1)
	f.kind.Faults.FailAt(1, dirdriver.ErrInjected)
	require.NoError(t, f.s.BeginCreate(ctx, "c", snapshot.CreateRequest{Parent: im.Layers[0]}))
	_, err := f.s.Mount(ctx, "c")
	require.ErrorIs(t, err, snapshot.ErrNotFound)
	require.ErrorIs(t, err, dirdriver.ErrInjected)
	f.kind.Faults.FailAt(0, nil)
	_, err = f.s.Stat(ctx, "c")
	require.ErrorIs(t, err, snapshot.ErrNotFound)
	require.NotErrorIs(t, err, dirdriver.ErrInjected)
	f.exact("after a creation that failed")
	_, err = f.s.Create(ctx, "c", snapshot.CreateRequest{Parent: im.Layers[0]})
	require.NoError(t, err)
}

// TestBegunRecords: what a killed process had begun is made by the next open, if it is
// whole and of this boot. Others go.
func TestBegunRecords(t *testing.T) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	require.NoError(t, err)
	boot = boot[:len(boot)-1]
	record := func(boot, name, parent string) []byte {
		raw, err := json.Marshal(map[string]any{"boot": boot, "name": name, "request": snapshot.CreateRequest{Parent: parent}})
		require.NoError(t, err)
		return raw
	}
	f := newFixture(t)
	layer := f.load("i", 1).Layers[0]
	_, err = f.s.Create(ctx, "finished", snapshot.CreateRequest{Parent: layer})
	require.NoError(t, err)
	dir := filepath.Join(f.root, "begun")
	require.NoError(t, os.MkdirAll(dir, 0o700))
	for name, raw := range map[string][]byte{
		"1.json": record(string(boot), "begun", layer),
		"2.json": record(string(boot), "torn", layer)[:40],
		"3.json": {},
		"4.json": record("another boot", "cut off", layer),
		"5.json": record(string(boot), "orphan", "gone"),
		"6.json": record(string(boot), "finished", layer),
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), raw, 0o600))
	}
	f.reopen()
	all, err := f.s.List(ctx)
	require.NoError(t, err)
	var names []string
	for _, in := range all {
		if in.Kind == snapshot.KindContainer {
			names = append(names, in.Name)
		}
	}
	require.Equal(t, []string{"begun", "finished"}, names)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
	f.exact("after what was begun")
}
