package btrfs

import (
	"testing"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/drivertest"
)

func TestConformance(t *testing.T) {
	needBtrfs(t)
	drivertest.Run(t, drivertest.Factory{
		Kind: Kind{},
		Prepare: func(_ testing.TB, o *snapshot.InitOptions) {
			o.Loopback = 4 << 30
		},
	})
}
