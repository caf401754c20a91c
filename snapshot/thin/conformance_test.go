package thin_test

import (
	"context"
	"os"
	"strings"
	"testing"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/drivertest"
	"blockstore.dev/blockstore/snapshot/thin"
)

func factory(fs string) drivertest.Factory {
	f := drivertest.Factory{
		Kind: thin.Kind{},
		Prepare: func(_ testing.TB, o *snapshot.InitOptions) {
			o.FileSystem, o.Loopback = fs, max(2<<30, 2*o.BaseSize)
		},
		Leaks: leaks,
	}
	if os.Getenv("BLOCKSTORE_MACHINE") != "" {
		f.Scale = 8 // a system call takes a hundred times as long
	}
	if fs == "xfs" {
		f.SmallSize = 320 << 20 // mkfs.xfs makes none below 300 MiB
	}
	return f
}

// leaks names the device-mapper devices of a store.
func leaks(_, storeID string, _ bool) ([]string, error) {
	client, err := dm.Open(dm.Options{})
	if err != nil {
		return nil, err
	}
	defer client.Close()
	devices, err := client.List(context.Background(), dm.Prefix{UUID: "BLOCKSTORE-" + strings.ReplaceAll(storeID, "-", "")})
	var names []string
	for _, d := range devices {
		names = append(names, d.Name)
	}
	return names, err
}

func TestConformanceExt4(t *testing.T) {
	drivertest.Column(t, "devicemapper")
	drivertest.Run(t, factory("ext4"))
}

func TestConformanceXFS(t *testing.T) {
	drivertest.Column(t, "devicemapper/xfs")
	drivertest.Run(t, factory("xfs"))
}

func TestCrashExt4(t *testing.T) { drivertest.RunCrash(t, factory("ext4")) }
