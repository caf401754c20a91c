package metadata

import (
	"context"
	"errors"
	"fmt"
	"io"

	"blockstore.dev/blockstore/dm"
)

const (
	// maxMetadataBlocks is what the kernel uses at most: 255 bitmaps of metadata blocks (dm-space-map-metadata.h).
	maxMetadataBlocks = 255 * (1<<14 - 64)
	// superblockTries is how often the superblock of a live pool is read: a commit may be writing it.
	superblockTries = 8
)

// View is one state of a pool's metadata: what hangs from one superblock.
type View struct {
	r    io.ReaderAt
	sb   Superblock
	held bool
}

// Open reads the state of the last commit. The pool must be down, or r a copy.
//
// ErrNotFormatted for a first block of zeroes, ErrCorrupt for a damaged superblock or when r ends before the metadata
// do.
func Open(r io.ReaderAt) (*View, error) {
	v := &View{r: r}
	b := make([]byte, blockSize)
	if err := v.readRaw(0, b); err != nil {
		return nil, err
	}
	sb, err := ParseSuperblock(b)
	if err != nil {
		return nil, err
	}
	v.sb = sb
	return v, v.bounded(0, b)
}

// OpenHeld reads the metadata snapshot that the pool holds, live or dead. ErrNotHeld when it holds none.
func OpenHeld(r io.ReaderAt) (*View, error) {
	v := &View{r: r, held: true}
	b := make([]byte, blockSize)
	top, err := v.liveSuperblock(b)
	if err != nil {
		return nil, err
	}
	if top.HeldRoot == 0 {
		return nil, ErrNotHeld
	}
	v.sb = top
	if err := v.bounded(0, b); err != nil {
		return nil, err
	}
	if err := v.readRaw(top.HeldRoot, b); err != nil {
		return nil, err
	}
	if v.sb, err = parseSuperblock(b, top.HeldRoot); err != nil {
		return nil, err
	}
	if v.sb.BlockSize != top.BlockSize {
		return nil, corrupt(top.HeldRoot, "data blocks of %d sectors, the pool's have %d", v.sb.BlockSize, top.BlockSize)
	}
	v.sb.DataBlocks, v.sb.MetadataBlocks, v.sb.HeldRoot = top.DataBlocks, top.MetadataBlocks, top.HeldRoot
	return v, nil
}

func (v *View) liveSuperblock(b []byte) (Superblock, error) {
	var sb Superblock
	var err error
	for range superblockTries {
		if err = v.readRaw(0, b); err != nil {
			return sb, err
		}
		if sb, err = ParseSuperblock(b); !errors.Is(err, ErrCorrupt) {
			break
		}
	}
	return sb, err
}

// bounded makes sure that the sizes in block 0 are possible: what is kept in memory goes by them.
func (v *View) bounded(block dm.MetadataBlocks, b []byte) error {
	sb := v.sb
	switch {
	case sb.MetadataBlocks == 0 || sb.MetadataBlocks > maxMetadataBlocks:
		return corrupt(block, "%d metadata blocks, where 1 to %d are possible", sb.MetadataBlocks, maxMetadataBlocks)
	case sb.BlockSize < dm.MinPoolBlock || sb.BlockSize > dm.MaxPoolBlock || sb.BlockSize%dm.MinPoolBlock != 0:
		return corrupt(block, "data blocks of %d sectors", sb.BlockSize)
	case uint64(sb.DataBlocks) > uint64(sb.MetadataBlocks)*countsPerBitmap:
		return corrupt(block, "%d data blocks are more than %d metadata blocks can count", sb.DataBlocks, sb.MetadataBlocks)
	}
	return v.readRaw(sb.MetadataBlocks-1, b)
}

// Superblock is what the View was opened with.
func (v *View) Superblock() Superblock { return v.sb }

// Held says whether the View is of a metadata snapshot. It has no space maps then.
func (v *View) Held() bool { return v.held }

// readRaw fills b with a block.
func (v *View) readRaw(block dm.MetadataBlocks, b []byte) error {
	n, err := v.r.ReadAt(b, int64(block)*blockSize)
	switch {
	case n == len(b):
		return nil
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return corrupt(block, "the metadata end before it")
	}
	return fmt.Errorf("reading metadata block %d: %w", block, err)
}

// read fills b with a block of a kind that something refers to.
func (v *View) read(ctx context.Context, block dm.MetadataBlocks, k kind, b []byte) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if block == 0 || block >= v.sb.MetadataBlocks {
		return corrupt(block, "a %s is said to be there, but there are %d metadata blocks", k, v.sb.MetadataBlocks)
	}
	if err := v.readRaw(block, b); err != nil {
		return err
	}
	return verify(b, block, k)
}
