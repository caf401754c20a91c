package zfs

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/drivertest"
	"blockstore.dev/blockstore/zfsds"
)

func needZFS(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to make a pool")
	}
	if _, err := os.Stat("/dev/zfs"); err != nil {
		t.Skip("no ZFS in this kernel")
	}
	if _, err := exec.LookPath("zpool"); err != nil {
		t.Skip("no zpool (install zfsutils-linux)")
	}
}

func factory() drivertest.Factory {
	f := drivertest.Factory{
		Kind: Kind{},
		Prepare: func(_ testing.TB, o *snapshot.InitOptions) {
			o.Loopback = 4 << 30
		},
		Leaks: leaks,
		// The pool's own records grow with use, and are not given back.
		SpaceSlack: 16 << 20,
	}
	switch os.Getenv("BLOCKSTORE_MACHINE") {
	case "":
	case "uml":
		f.Scale = 4
	default:
		f.Scale = 16 // an emulated processor, and every change waits for the pool
	}
	if scale, err := strconv.Atoi(os.Getenv("BSTEST_SCALE")); err == nil {
		f.Scale = scale
	}
	return f
}

// leaks names the pools and datasets of a store that is gone, and the pool of one that is closed.
func leaks(_, storeID string, destroyed bool) ([]string, error) {
	h, err := zfsds.Open(context.Background(), zfsds.Options{})
	if err != nil {
		return nil, err
	}
	defer h.Close()
	pools, err := h.Pools(context.Background())
	if err != nil {
		return nil, err
	}
	var found []string
	for _, pool := range pools {
		if pool == string(poolName(storeID)) {
			found = append(found, "pool "+pool)
		}
		if !destroyed {
			continue
		}
		for c, err := range h.Children(context.Background(), pool) {
			if err != nil {
				return nil, err
			}
			if strings.HasSuffix(c.Name, storeID) {
				found = append(found, "dataset "+c.Name)
			}
		}
	}
	return found, nil
}

// newPool makes a pool for tests.
func newPool(t testing.TB) string {
	t.Helper()
	needZFS(t)
	h, err := zfsds.Open(t.Context(), zfsds.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, h.Close()) })
	pool := "bstest-" + filepath.Base(filepath.Dir(t.TempDir()))
	require.NoError(t, h.CreatePool(t.Context(), zfsds.PoolOptions{
		Name: pool, File: filepath.Join(t.TempDir(), "pool.img"), Size: 4 << 30,
	}))
	t.Cleanup(func() { require.NoError(t, h.DestroyPool(context.Background(), pool)) })
	return pool
}

func TestConformance(t *testing.T) {
	drivertest.Column(t, "zfs")
	needZFS(t)
	drivertest.Run(t, factory())
}

// TestConformanceShort are the driver's cases and one of each other kind, which an
// emulated processor does in minutes.
func TestConformanceShort(t *testing.T) {
	drivertest.Column(t, "zfs")
	needZFS(t)
	f := factory()
	f.Only = []string{
		"DriverCreateReplaces", "DriverRemoveMissing", "DriverSealedVolume", "DriverBusy", "DriverUnpackAbandoned",
		"DriverReadOnlyActivation", "DriverCheckMissing", "UsageGrows", "FreezeParent", "DiscardInUse",
	}
	drivertest.Run(t, f)
}

func TestCrash(t *testing.T) {
	needZFS(t)
	drivertest.RunCrash(t, factory())
}

func TestStoreCounts(t *testing.T) {
	needZFS(t)
	for name, calls := range drivertest.RunCounts(t, factory()) {
		for _, wait := range []string{"fsync", "syncfs", "sync"} {
			require.Zero(t, calls[wait], "%s of %s", wait, name)
		}
	}
}
