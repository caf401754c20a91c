package zfsds_test

import (
	"context"
	"fmt"
	"log"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/zfsds"
)

// A file system is filled, a snapshot made of it, and of that a writable clone.
func Example() {
	ctx := context.Background()
	h, err := zfsds.Open(ctx, zfsds.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer h.Close()
	if err := h.Create(ctx, "tank/template", zfsds.Properties{"mountpoint": "legacy"}); err != nil {
		log.Fatal(err)
	}
	if err := zfsds.Mount("tank/template", "/mnt", false); err != nil {
		log.Fatal(err)
	}
	// … write files below /mnt, then:
	if err := unix.Unmount("/mnt", 0); err != nil {
		log.Fatal(err)
	}
	if err := h.Snapshot(ctx, nil, "tank/template@1"); err != nil {
		log.Fatal(err)
	}
	limit := zfsds.Properties{"refquota": "1073741824"}
	if err := h.Clone(ctx, "tank/template@1", "tank/machine", limit); err != nil {
		log.Fatal(err)
	}
	machine, err := h.Get(ctx, "tank/machine")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s has %d bytes of its own\n", machine.Name, machine.Written)
}

// What has clones goes after them; its snapshot can be told to go with the last.
func ExampleHandle_DestroySnapshots() {
	ctx := context.Background()
	h, err := zfsds.Open(ctx, zfsds.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer h.Close()
	const deferred = true
	if err := h.DestroySnapshots(ctx, deferred, "tank/template@1"); err != nil {
		log.Fatal(err)
	}
	if err := h.Destroy(ctx, "tank/machine"); err != nil { // and tank/template@1 with it
		log.Fatal(err)
	}
	if err := h.Destroy(ctx, "tank/template"); err != nil {
		log.Fatal(err)
	}
}

// A pool on a file, for tests or where there is no disk to give.
func ExampleHandle_CreatePool() {
	ctx := context.Background()
	h, err := zfsds.Open(ctx, zfsds.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer h.Close()
	err = h.CreatePool(ctx, zfsds.PoolOptions{Name: "scratch", File: "/var/tmp/scratch.img", Size: 10 << 30})
	if err != nil {
		log.Fatal(err)
	}
	for child, err := range h.Children(ctx, "scratch") {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(child.Name, child.Type)
	}
}
