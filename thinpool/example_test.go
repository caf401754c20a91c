package thinpool_test

import (
	"context"
	"fmt"
	"log"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/thinpool"
)

// A pool in two files, a thin device of 10 GiB in it, and a snapshot of that. It needs root and a kernel with thin
// pools, so that it is compiled but not run by the tests.
func Example() {
	ctx := context.Background()
	client, err := dm.Open(dm.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	pool, err := thinpool.Create(ctx, client, thinpool.CreateOptions{
		Config:   thinpool.Config{Name: "example", Loopback: true, Data: "/srv/pool/data", Metadata: "/srv/pool/metadata"},
		DataSize: 100 << 30,
	})
	if err != nil {
		log.Fatal(err)
	}
	// Keep pool.Config(): thinpool.Open finds the pool again by it, also after a crash or a reboot.

	if err := pool.CreateThin(ctx, 1); err != nil {
		log.Fatal(err)
	}
	device, err := pool.Activate(ctx, 1, thinpool.ActivateOptions{Size: 10 << 30})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("block device:", device.Path)

	// Device 1 is active: it is suspended meanwhile, and a file system that is mounted from it frozen.
	if err := pool.CreateSnapshot(ctx, 2, thinpool.SnapshotOptions{Origin: 1}); err != nil {
		log.Fatal(err)
	}
	status, err := pool.Status(ctx)
	if err != nil {
		log.Fatal(err)
	}
	used, total := status.DataBytes()
	fmt.Println("bytes:", used, "of", total, "problem:", status.Err())

	if err := pool.Deactivate(ctx, 1); err != nil {
		log.Fatal(err)
	}
	if err := pool.Close(ctx); err != nil {
		log.Fatal(err)
	}
}
