package btrfs

import (
	"testing"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/drivertest"
)

func factory() drivertest.Factory {
	return drivertest.Factory{
		Kind: Kind{},
		Prepare: func(_ testing.TB, o *snapshot.InitOptions) {
			o.Loopback = 4 << 30
		},
	}
}

func TestConformance(t *testing.T) {
	needBtrfs(t)
	drivertest.Run(t, factory())
}

func TestCrash(t *testing.T) {
	needBtrfs(t)
	drivertest.RunCrash(t, factory())
}
