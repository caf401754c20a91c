package btrfs

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/drivertest"
)

func factory() drivertest.Factory {
	return drivertest.Factory{
		Kind: Kind{},
		Prepare: func(_ testing.TB, o *snapshot.InitOptions) {
			o.Loopback = 4 << 30
		},
		Unsupported: map[drivertest.Ability]string{drivertest.PointInTime: notOneInstant},
	}
}

// notOneInstant: see Create.
const notOneInstant = "btrfs writes dirty files out one after the other before a snapshot, and has no freeze for one subvolume"

func TestConformance(t *testing.T) {
	drivertest.Column(t, "btrfs")
	needBtrfs(t)
	drivertest.Run(t, factory())
}

func TestCrash(t *testing.T) {
	needBtrfs(t)
	drivertest.RunCrash(t, factory())
}

// TestConformanceOnBtrfs runs it on a root that lies on btrfs, smaller. A file system
// that is not the store's own has no size limits.
func TestConformanceOnBtrfs(t *testing.T) {
	drivertest.Column(t, "btrfs/existing")
	outer := newStore(t, snapshot.InitOptions{Loopback: 8 << 30})
	top := filepath.Join(outer.root, "driver", "mnt")
	drivertest.Run(t, drivertest.Factory{
		Kind:  Kind{},
		Scale: 8,
		Dir: func(t testing.TB) string {
			dir, err := os.MkdirTemp(top, "bstest-")
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
			return dir
		},
		Unsupported: map[drivertest.Ability]string{
			drivertest.PointInTime: notOneInstant,
			drivertest.SizeLimit:   "quotas are the owner's of the file system",
			drivertest.SpaceBack:   "no file of the store's holds the volumes",
		},
	})
}

func TestStoreCounts(t *testing.T) {
	needBtrfs(t)
	f := factory()
	f.Background = []string{"BTRFS_IOC_START_SYNC"} // the cleaner's
	for name, calls := range drivertest.RunCounts(t, f) {
		switch name { // both of what a container wrote
		case "commit":
			require.Equal(t, 1, calls["BTRFS_IOC_SYNC"])
			calls["BTRFS_IOC_SYNC"] = 0
		case "layer":
			require.Equal(t, 1, calls["BTRFS_IOC_SNAP_CREATE_V2"], "the spare's snapshot writes the layer out")
		}
		for _, wait := range []string{"fsync", "syncfs", "sync", "BTRFS_IOC_SYNC"} {
			require.Zero(t, calls[wait], "%s of %s", wait, name)
		}
		if name == "spare" {
			require.Zero(t, calls["BTRFS_IOC_SNAP_CREATE_V2"], "the snapshot was made before")
		}
	}
}
