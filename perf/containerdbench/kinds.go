package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/plugins/snapshots/native"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay"

	"blockstore.dev/blockstore/perf"
)

// ours begins the names of blockstore's columns; the driver follows, and socket
// where containerd's protocol lies between.
const ours = "blockstore/"

// overlayOnBtrfs shows what overlayfs takes on the file system that our btrfs driver
// has: of what ours takes more than on ext4, part is the file system's.
const overlayOnBtrfs = "overlayfs/btrfs"

// kind makes a peer's snapshotters. open prepares a site's storage, whose way back
// it adds to the site's undo, the snapshotter's own end included.
type kind struct {
	name string
	note string
	open func(context.Context, *site) (snapshots.Snapshotter, error)
}

func kinds() []kind {
	all := []kind{
		{"overlayfs", "containerd's, with its default of asynchronous removal, on ext4", openOverlay("ext4")},
		{overlayOnBtrfs, "the same on btrfs, as blockstore/btrfs is", openOverlay("btrfs")},
		{"native", "containerd's, which copies, on ext4", openNative},
		{"devmapper", "containerd's, with its defaults (ext4, no asynchronous removal), on a thin pool by dmsetup: blocks of 64 KiB, skip_block_zeroing as in containerd's documentation; its two databases on ext4", openDevmapper},
	}
	all = append(all, kindsWithCgo()...)
	return append(all, []kind{
		{ours + "btrfs", "the store's root on btrfs; called in the process", openOnBtrfs},
		{ours + "btrfs/socket", "the same through gRPC on a unix socket, as containerd calls a proxy plugin", throughSocket(openOnBtrfs)},
		{ours + "devicemapper", "the store's root on ext4, its pool in two files like devmapper's, with blocks of 64 KiB that are zeroed; called in the process", openOnPool},
		{ours + "devicemapper/socket", "the same through gRPC on a unix socket, as containerd calls a proxy plugin", throughSocket(openOnPool)},
		{ours + "zfs", "the store's root on ZFS; called in the process", openOnZFS},
	}...)
}

func kindNames() []string {
	var names []string
	for _, k := range kinds() {
		names = append(names, k.name)
	}
	return names
}

// defaultKinds are those that need neither device-mapper nor ZFS.
func defaultKinds() []string {
	return slices.DeleteFunc(kindNames(), func(name string) bool {
		return name == "devmapper" || strings.HasPrefix(name, ours+"devicemapper") || strings.HasPrefix(name, ours+"zfs")
	})
}

func kindOf(name string) kind {
	all := kinds()
	return all[slices.IndexFunc(all, func(k kind) bool { return k.name == name })]
}

// fileSystem makes the site's file system and an empty directory for a root on it.
func (s *site) fileSystem(ctx context.Context, kind string) (root string, err error) {
	at := filepath.Join(s.dir, "fs")
	if err := perf.FileSystem(ctx, s.undo, kind, filepath.Join(s.dir, "disk.img"), at, s.o.diskSize); err != nil {
		return "", err
	}
	root = filepath.Join(at, "root")
	return root, os.Mkdir(root, 0o700)
}

// closing adds a snapshotter's end to the site's undo.
func (s *site) closing(sn snapshots.Snapshotter, err error) (snapshots.Snapshotter, error) {
	if err == nil {
		s.undo.Add(s.name, sn.Close)
	}
	return sn, err
}

func openOverlay(fileSystem string) func(context.Context, *site) (snapshots.Snapshotter, error) {
	return func(ctx context.Context, s *site) (snapshots.Snapshotter, error) {
		root, err := s.fileSystem(ctx, fileSystem)
		if err != nil {
			return nil, err
		}
		return s.closing(overlay.NewSnapshotter(root, overlay.AsynchronousRemove))
	}
}

func openNative(ctx context.Context, s *site) (snapshots.Snapshotter, error) {
	root, err := s.fileSystem(ctx, "ext4")
	if err != nil {
		return nil, err
	}
	return s.closing(native.NewSnapshotter(root))
}
