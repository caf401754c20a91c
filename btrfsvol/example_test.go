package btrfsvol_test

import (
	"context"
	"fmt"
	"log"

	"blockstore.dev/blockstore/btrfsvol"
)

// A subvolume is filled, closed for good, and a writable snapshot made of it.
func Example() {
	fs, err := btrfsvol.Open("/mnt/btrfs")
	if err != nil {
		log.Fatal(err)
	}
	defer fs.Close()
	if err := fs.Create("template", btrfsvol.CreateOptions{}); err != nil {
		log.Fatal(err)
	}
	// … write files below /mnt/btrfs/template, then:
	if err := fs.SetReadOnly("template", true); err != nil {
		log.Fatal(err)
	}
	if err := fs.Sync(); err != nil { // the flag alone does not write data out
		log.Fatal(err)
	}
	if err := fs.Snapshot("template", "machine", btrfsvol.CreateOptions{}); err != nil {
		log.Fatal(err)
	}
	machine, err := fs.Stat("machine")
	if err != nil {
		log.Fatal(err)
	}
	usage, err := fs.UsageSince(machine.ID, machine.Created)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("machine has %d bytes of its own\n", usage.Total())
}

// Deleting gives space back when the kernel's cleaner has run.
func ExampleFS_Delete() {
	fs, err := btrfsvol.Open("/mnt/btrfs")
	if err != nil {
		log.Fatal(err)
	}
	defer fs.Close()
	old, err := fs.Stat("machine")
	if err != nil {
		log.Fatal(err)
	}
	deleted, err := fs.Delete(old.ID) // nested subvolumes too
	if err != nil {
		log.Fatal(err)
	}
	if err := fs.Sync(); err != nil { // wakes the cleaner
		log.Fatal(err)
	}
	if err := fs.WaitGone(context.Background(), deleted...); err != nil {
		log.Fatal(err)
	}
}

// On a file system of one's own, a quota group limits what a subvolume may write.
func ExampleFS_LimitQgroup() {
	fs, err := btrfsvol.Open("/mnt/btrfs")
	if err != nil {
		log.Fatal(err)
	}
	defer fs.Close()
	if err := fs.EnableSimpleQuota(); err != nil { // once, right behind mkfs
		log.Fatal(err)
	}
	group := btrfsvol.Qgroup(1, 27)
	if err := fs.CreateQgroup(group); err != nil {
		log.Fatal(err)
	}
	if err := fs.LimitQgroup(group, 1<<30); err != nil {
		log.Fatal(err)
	}
	o := btrfsvol.CreateOptions{Qgroups: []btrfsvol.QgroupID{group}}
	if err := fs.Snapshot("template", "machine", o); err != nil {
		log.Fatal(err)
	}
}
