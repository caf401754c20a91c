package main

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/snapshots/proxy"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"blockstore.dev/blockstore/perf"
	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/btrfs"
	"blockstore.dev/blockstore/snapshot/thin"
	"blockstore.dev/blockstore/snapshot/zfs"
	"blockstore.dev/blockstore/snapshotter"
)

// plugin is the name that containerd would have for the door's plugin.
const plugin = "bench"

// openOnBtrfs is a store whose root lies on btrfs, as the btrfs snapshotter's does.
func openOnBtrfs(ctx context.Context, s *site) (snapshots.Snapshotter, error) {
	root, err := s.fileSystem(ctx, "btrfs")
	if err != nil {
		return nil, err
	}
	return s.openStore(ctx, btrfs.Kind{}, snapshot.InitOptions{Root: filepath.Join(root, "store")})
}

// openOnZFS is a store whose root lies on ZFS.
func openOnZFS(ctx context.Context, s *site) (snapshots.Snapshotter, error) {
	pool, root := s.kernelName, filepath.Join(s.dir, "fs")
	h, _, err := perf.ZPool(ctx, s.undo, pool, filepath.Join(s.dir, "disk.img"), s.o.diskSize)
	if err == nil {
		err = perf.ZFSRoot(ctx, s.undo, h, pool, root)
	}
	if err != nil {
		return nil, err
	}
	return s.openStore(ctx, zfs.Kind{}, snapshot.InitOptions{Root: filepath.Join(root, "store")})
}

// openOnPool is a store whose root lies on ext4 and whose pool lies in two files
// beside it, as with devmapper.
func openOnPool(ctx context.Context, s *site) (snapshots.Snapshotter, error) {
	root, err := s.fileSystem(ctx, "ext4")
	if err != nil {
		return nil, err
	}
	data, metadata, err := perf.LoopFiles(ctx, s.dir, s.o.diskSize)
	if err != nil {
		return nil, err
	}
	// Between making the store and opening it nobody else holds them.
	s.undo.Add("the pool's loop devices", func() error { return errors.Join(data.Close(), metadata.Close()) })
	return s.openStore(ctx, thin.Kind{}, snapshot.InitOptions{
		Root: filepath.Join(root, "store"), DataDevice: data.Path(), MetadataDevice: metadata.Path(),
	})
}

func (s *site) openStore(ctx context.Context, kind snapshot.Kind, o snapshot.InitOptions) (snapshots.Snapshotter, error) {
	o.BaseSize = s.o.baseSize
	if err := snapshot.Init(ctx, kind, o, "for a benchmark"); err != nil {
		return nil, err
	}
	open := snapshot.StoreOptions{Root: o.Root, Kinds: []snapshot.Kind{kind}}
	s.undo.Add("the store at "+o.Root, func() error {
		back, cancel := perf.Undoing()
		defer cancel()
		return snapshot.Destroy(back, open)
	})
	store, err := snapshot.Open(ctx, open)
	if err != nil {
		return nil, err
	}
	s.undo.Add("the store's opener", func() error {
		back, cancel := perf.Undoing()
		defer cancel()
		return store.Close(back)
	})
	store.KeepSpares() // as `blockstore serve` does
	s.store = store
	return snapshotter.NewSnapshotter(store, plugin)
}

// socketDir is where sockets lie: a socket's path has 108 bytes at most, and the
// directory of a run may be long.
const socketDir = "/tmp"

// throughSocket serves what open opened on a socket, and returns the snapshotter that
// containerd makes of a proxy plugin. Server and client are in this process.
func throughSocket(open func(context.Context, *site) (snapshots.Snapshotter, error)) func(context.Context, *site) (snapshots.Snapshotter, error) {
	return func(ctx context.Context, s *site) (snapshots.Snapshotter, error) {
		if _, err := open(ctx, s); err != nil {
			return nil, err
		}
		dir, err := os.MkdirTemp(socketDir, "bstest-door-")
		if err != nil {
			return nil, err
		}
		s.undo.Add(dir, func() error { return os.RemoveAll(dir) })
		socket := filepath.Join(dir, "s")
		door, err := snapshotter.New(s.store, snapshotter.Options{})
		if err != nil {
			return nil, err
		}
		l, err := net.Listen("unix", socket)
		if err != nil {
			return nil, err
		}
		serving, stop := context.WithCancel(context.WithoutCancel(ctx))
		served := make(chan error, 1)
		go func() { served <- door.Serve(serving, l) }()
		s.undo.Add("the door at "+socket, func() error { stop(); return <-served })
		client, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return nil, err
		}
		s.undo.Add("the door's client", client.Close)
		return proxy.NewSnapshotter(snapshotsapi.NewSnapshotsClient(client), plugin), nil
	}
}
