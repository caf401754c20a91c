package main

import "blockstore.dev/blockstore/snapshot"

// kinds are the drivers that this program has, in the order in which `init
// --driver auto` goes through them.
func kinds() []snapshot.Kind {
	return nil
}
