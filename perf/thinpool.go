package perf

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"blockstore.dev/blockstore/ioctl"
)

// PoolMetadata is the size of a thin pool's metadata in bytes: a few times what a
// run can fill.
const PoolMetadata = 512 << 20

// PoolFiles are where ThinPool keeps a pool's data and metadata below dir.
func PoolFiles(dir string) (data, metadata string) {
	return filepath.Join(dir, "data.img"), filepath.Join(dir, "metadata.img")
}

// LoopFiles makes a pool's two files, the data's of size bytes, and a loop device
// on each, of the kind that blockstore makes for itself. The devices go with their
// last user.
func LoopFiles(ctx context.Context, dir string, size int64) (data, metadata *ioctl.Loop, err error) {
	dataFile, metadataFile := PoolFiles(dir)
	if err := errors.Join(Sparse(dataFile, size), Sparse(metadataFile, PoolMetadata)); err != nil {
		return nil, nil, err
	}
	if metadata, err = ioctl.AttachLoop(ctx, metadataFile, ioctl.LoopOptions{AutoClear: true}); err != nil {
		return nil, nil, err
	}
	if data, err = ioctl.AttachLoop(ctx, dataFile, ioctl.LoopOptions{AutoClear: true}); err != nil {
		return nil, nil, errors.Join(err, metadata.Close())
	}
	return data, metadata, nil
}

// ThinPool makes a thin pool as Docker and containerd's documentation do, by
// dmsetup: blocks of 64 KiB that are not zeroed first, which is faster and less
// safe than what blockstore does. Its path is /dev/mapper/NAME. Who makes devices
// of it adds their removal to u after this.
func ThinPool(ctx context.Context, u *Undo, dir, name string, size int64) error {
	data, metadata, err := LoopFiles(ctx, dir, size)
	if err != nil {
		return err
	}
	table := fmt.Sprintf("0 %d thin-pool %s %s 128 32768 1 skip_block_zeroing", size/512, metadata.Path(), data.Path())
	if _, err = Output(ctx, "dmsetup", "create", name, "--table", table); err == nil {
		u.Add(name, func() error {
			back, cancel := Undoing()
			defer cancel()
			_, err := Output(back, "dmsetup", "remove", "--retry", name)
			return err
		})
	}
	// The pool holds its devices by now.
	return errors.Join(err, data.Close(), metadata.Close())
}
