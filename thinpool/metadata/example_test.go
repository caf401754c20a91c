package metadata_test

import (
	"bytes"
	"context"
	"fmt"
	"log"

	"blockstore.dev/blockstore/thinpool/metadata"
)

// What each thin device of a pool that is down has alone, and what deleting two of them would free. An open file or
// block device takes the place of the reader.
func ExampleView_Usage() {
	ctx := context.Background()
	v, err := metadata.Open(bytes.NewReader(smallPool()))
	if err != nil {
		log.Fatal(err)
	}
	usage, err := v.Usage(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for _, d := range usage.Devices[:3] {
		fmt.Printf("device %d: %d blocks, %d alone\n", d.ID, d.Mapped, d.Exclusive)
	}
	group, err := v.Group(ctx, 2, 3)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("devices 2 and 3: %d blocks to be freed, %s each\n", group.Exclusive, fmt.Sprint(v.Superblock().BlockSize.Bytes()>>10, " KiB"))
	// Output:
	// device 1: 300 blocks, 0 alone
	// device 2: 300 blocks, 1 alone
	// device 3: 300 blocks, 1 alone
	// devices 2 and 3: 2 blocks to be freed, 64 KiB each
}

// What changed between a device and a snapshot of it.
func ExampleView_Delta() {
	v, err := metadata.Open(bytes.NewReader(smallPool()))
	if err != nil {
		log.Fatal(err)
	}
	for change, err := range v.Delta(context.Background(), metadata.DeltaOptions{Left: 1, Right: 3}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(change.Kind, change.Begin, change.Length)
	}
	// Output: different 30 1
}
