package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"

	"blockstore.dev/blockstore/perf"
)

// ours begins the names of blockstore's columns; the driver inside blockstore follows.
const ours = "blockstore/"

// driver prepares a peer's storage and says how dockerd is to use it.
type driver struct {
	name    string
	prepare func(ctx context.Context, p *peer) error
}

func drivers() []driver {
	return []driver{
		{"overlay2", func(ctx context.Context, p *peer) error { return p.onFileSystem(ctx, "overlay2", "ext4") }},
		{"overlay2/direct", onTheMachine},
		{"btrfs", func(ctx context.Context, p *peer) error { return p.onFileSystem(ctx, "btrfs", "btrfs") }},
		{"vfs", func(ctx context.Context, p *peer) error { return p.onFileSystem(ctx, "vfs", "ext4") }},
		{"devicemapper", onThinPool},
		{"zfs", onZPool},
		{floor, onFloor},
		{ours + "btrfs", onBlockstore},
		{ours + "devicemapper", onBlockstore},
		{ours + "zfs", onBlockstore},
	}
}

func driverNames() []string {
	var names []string
	for _, d := range drivers() {
		names = append(names, d.name)
	}
	return names
}

func driverOf(name string) driver {
	all := drivers()
	return all[slices.IndexFunc(all, func(d driver) bool { return d.name == name })]
}

// onFileSystem puts dockerd's whole data root on a file system in a file.
func (p *peer) onFileSystem(ctx context.Context, storage, kind string) error {
	image := filepath.Join(p.dir, "disk.img")
	p.storage = storage
	p.backing = append(p.backing, image)
	p.note = "Docker's " + storage + " on " + kind + " in a loopback file of " + humanize.IBytes(uint64(p.o.diskSize))
	return perf.FileSystem(ctx, p.undo, kind, image, p.data, p.o.diskSize)
}

// onTheMachine is overlay2 without a loop device below it: what the device costs
// can be seen beside it.
func onTheMachine(_ context.Context, p *peer) error {
	p.storage, p.backing = "overlay2", []string{p.data}
	p.note = "Docker's overlay2 on the machine's own file system, without a loop device"
	return os.Mkdir(p.data, 0o711)
}

// onThinPool makes a thin pool as Docker itself would: blocks of 64 KiB that are
// not zeroed first, which is faster and less safe than what blockstore does.
func onThinPool(ctx context.Context, p *peer) error {
	if err := p.onFileSystem(ctx, "devicemapper", "ext4"); err != nil {
		return err
	}
	pool, err := thinPool(ctx, p)
	if err != nil {
		return err
	}
	p.note = "Docker's devicemapper on a thin pool by dmsetup: blocks of 64 KiB, skip_block_zeroing as in Docker's own pools; data and metadata in loopback files, the data root on ext4 in another"
	p.flags = append(p.flags, "--storage-opt", "dm.thinpooldev="+pool)
	// Debian's dockerd links libdevmapper dynamically, but where no udevd runs it
	// refuses to start all the same.
	p.flags = append(p.flags, "--storage-opt", "dm.override_udev_sync_check=true")
	return nil
}

// onZPool puts dockerd's whole data root on a pool, with the properties that blockstore gives to its own.
func onZPool(ctx context.Context, p *peer) error {
	image := filepath.Join(p.dir, "disk.img")
	pool := fmt.Sprintf("bstest-dockerbench-%d", os.Getpid())
	p.storage, p.backing = "zfs", append(p.backing, image)
	p.note = "Docker's zfs on a pool in a loopback file of " + humanize.IBytes(uint64(p.o.diskSize)) + ", the data root in one of its file systems"
	h, _, err := perf.ZPool(ctx, p.undo, pool, image, p.o.diskSize)
	if err != nil {
		return err
	}
	return perf.ZFSRoot(ctx, p.undo, h, pool, p.data)
}

// onBlockstore starts our server. The data root, with dockerd's own files, is on
// a file system like overlay2's.
func onBlockstore(ctx context.Context, p *peer) error {
	inner := strings.TrimPrefix(p.name, ours)
	if err := p.onFileSystem(ctx, "", "ext4"); err != nil {
		return err
	}
	s, err := serveBlockstore(ctx, p, inner)
	if err != nil {
		return err
	}
	p.storage, p.calls = s.name, s.calls
	p.backing = append(p.backing, s.root)
	p.flags = append(p.flags, "--experimental")
	p.note = "blockstore --driver " + inner + " in its own loopback files of " + humanize.IBytes(uint64(p.o.diskSize)) + ", the data root on ext4 in another"
	return nil
}
