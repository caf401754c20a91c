package thinpool

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/thinpool/metadata"
)

// undoTorn mends, in the metadata of a pool that is down, the trace of a metadata snapshot that a power cut or a commit that
// failed met while it was taken or released (see metadata.View.HeldRoot): the superblock gets the word back that belongs to the last commit.
// The kernel would believe the torn one: it would release what was never counted, and take blocks that are in use for
// free. Metadata that are damaged otherwise are left to the pool's state and its check.
func undoTorn(ctx context.Context, path string) error {
	said, counted, err := heldRoots(ctx, path)
	if errors.Is(err, metadata.ErrCorrupt) || err == nil && said == counted {
		return nil
	}
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_EXCL|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("undoing a torn metadata snapshot: %w", err)
	}
	defer f.Close()
	b, err := readBlock0(f)
	if err != nil {
		return err
	}
	if err := metadata.SetHeldRoot(b, counted); err != nil {
		return fmt.Errorf("undoing a torn metadata snapshot in %s: %w", path, err)
	}
	return writeBlock0(f, b)
}

// heldRoots are the metadata snapshot that the superblock names and the one that is counted.
func heldRoots(ctx context.Context, path string) (said, counted dm.MetadataBlocks, err error) {
	r, err := openDirect(path)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	v, err := metadata.Open(r)
	if err != nil {
		return 0, 0, err
	}
	counted, err = v.HeldRoot(ctx)
	return v.Superblock().HeldRoot, counted, err
}
