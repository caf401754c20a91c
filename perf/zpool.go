package perf

import (
	"context"
	"os"

	"blockstore.dev/blockstore/ioctl"
	"blockstore.dev/blockstore/snapshot/zfs"
	"blockstore.dev/blockstore/zfsds"
)

// ZPool makes a pool of ZFS's in a new file of size bytes, on the same kind of loop device as FileSystem's and with the
// properties that blockstore gives to its own. The handle and the pool go with u.
func ZPool(ctx context.Context, u *Undo, name, file string, size int64) (h *zfsds.Handle, device string, err error) {
	if err := Sparse(file, size); err != nil {
		return nil, "", err
	}
	loop, err := ioctl.AttachLoop(ctx, file, ioctl.LoopOptions{AutoClear: true})
	if err != nil {
		return nil, "", err
	}
	u.Add("the pool's loop device", loop.Close)
	if h, err = zfsds.Open(ctx, zfsds.Options{}); err != nil {
		return nil, "", err
	}
	u.Add("what is open of ZFS", h.Close)
	if err := h.CreatePool(ctx, zfsds.PoolOptions{Name: name, Devices: []string{loop.Path()}, Properties: zfs.Properties()}); err != nil {
		return nil, "", err
	}
	u.Add("pool "+name, func() error {
		back, cancel := Undoing()
		defer cancel()
		return h.DestroyPool(back, name)
	})
	return h, loop.Path(), nil
}

// ZFSRoot makes a file system of a pool and mounts it at dir, which is made.
func ZFSRoot(ctx context.Context, u *Undo, h *zfsds.Handle, pool, dir string) error {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return err
	}
	if err := h.Create(ctx, pool+"/root", nil); err != nil {
		return err
	}
	if err := zfsds.Mount(pool+"/root", dir, false); err != nil {
		return err
	}
	u.Add(dir, func() error { return UnmountAll(dir) })
	return nil
}
