//go:build cgo && libbtrfs

package main

import (
	"context"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/plugins/snapshots/btrfs"
)

func kindsWithCgo() []kind {
	return []kind{{"btrfs", "containerd's, on btrfs", openBtrfs}}
}

func openBtrfs(ctx context.Context, s *site) (snapshots.Snapshotter, error) {
	root, err := s.fileSystem(ctx, "btrfs")
	if err != nil {
		return nil, err
	}
	return s.closing(btrfs.NewSnapshotter(root))
}
