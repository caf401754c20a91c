package main

import (
	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/btrfs"
	"blockstore.dev/blockstore/snapshot/thin"
	"blockstore.dev/blockstore/snapshot/zfs"
)

// kinds are the drivers that this program has, in the order in which `init
// --driver auto` goes through them.
func kinds() []snapshot.Kind {
	return []snapshot.Kind{btrfs.Kind{}, zfs.Kind{}, thin.Kind{}}
}
