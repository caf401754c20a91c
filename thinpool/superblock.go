package thinpool

import (
	"errors"
	"fmt"
	"os"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/ioctl"
	"blockstore.dev/blockstore/thinpool/metadata"
)

// Superblock is what the first metadata block says of a pool, as of its last commit.
type Superblock = metadata.Superblock

const superblockSize = dm.MetadataBlockSize

// ReadSuperblock reads the superblock of a metadata device or of a file that holds one. On a live pool it is the state
// of the last commit.
func ReadSuperblock(path string) (Superblock, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return Superblock{}, fmt.Errorf("reading superblock: %w", err)
	}
	defer f.Close()
	b, err := readBlock0(f)
	if err != nil {
		return Superblock{}, err
	}
	s, err := metadata.ParseSuperblock(b)
	if err != nil {
		return Superblock{}, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// readBlock0 reads past the page cache of a block device: the kernel's own writes of the metadata do not go through
// it, so that a page from before them would be stale.
func readBlock0(f *os.File) ([]byte, error) {
	if err := ioctl.BlockFlushBuffers(f); err != nil && !errors.Is(err, unix.ENOTTY) && !errors.Is(err, unix.EACCES) {
		return nil, err
	}
	b := make([]byte, superblockSize)
	if _, err := f.ReadAt(b, 0); err != nil {
		return nil, fmt.Errorf("reading superblock of %s: %w", f.Name(), err)
	}
	return b, nil
}

// setIdentity writes id into the superblock of a pool that is down.
func setIdentity(path string, id uuid.UUID) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_EXCL|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("writing the pool's identity: %w", err)
	}
	defer f.Close()
	b, err := readBlock0(f)
	if err != nil {
		return err
	}
	if err := metadata.SetIdentity(b, id); err != nil {
		return fmt.Errorf("writing the pool's identity to %s: %w", path, err)
	}
	return writeBlock0(f, b)
}

// wipeSuperblock makes the metadata device one that holds no pool.
func wipeSuperblock(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_EXCL|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("wiping superblock: %w", err)
	}
	defer f.Close()
	return writeBlock0(f, make([]byte, superblockSize))
}

// writeBlock0 writes and syncs: what is only in the page cache the kernel's metadata code would not see.
func writeBlock0(f *os.File, b []byte) error {
	if _, err := f.WriteAt(b, 0); err != nil {
		return fmt.Errorf("writing superblock of %s: %w", f.Name(), err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("writing superblock of %s: %w", f.Name(), err)
	}
	return nil
}
