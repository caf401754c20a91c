package metadata

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"blockstore.dev/blockstore/dm"
)

// Each block begins with its checksum and, at 8, its own number. Linux, drivers/md/persistent-data; the kinds differ
// by what the checksum is XORed with: dm-thin-metadata.c (SUPERBLOCK_CSUM_XOR), dm-btree-spine.c (BTREE_CSUM_XOR),
// dm-space-map-common.c (INDEX_CSUM_XOR, BITMAP_CSUM_XOR).
const (
	blockSize = dm.MetadataBlockSize

	offFlags, offBlocknr = 4, 8
)

// kind is what a block is, as its checksum says.
type kind uint32

const (
	kindSuperblock kind = 160774
	kindNode       kind = 121107
	kindBitmap     kind = 240779
	kindIndex      kind = 160478
)

func (k kind) String() string {
	switch k {
	case kindSuperblock:
		return "superblock"
	case kindNode:
		return "btree node"
	case kindBitmap:
		return "bitmap"
	case kindIndex:
		return "bitmap index"
	}
	return fmt.Sprintf("block of an unknown kind (%d)", uint32(k))
}

// checksum is CRC-32C with seed 0xFFFFFFFF and without final inversion, over all but the checksum, XOR the kind.
func checksum(b []byte, k kind) uint32 {
	return ^crc32.Checksum(b[offFlags:blockSize], crc32.MakeTable(crc32.Castagnoli)) ^ uint32(k)
}

// verify says whether a block is what it ought to be.
func verify(b []byte, block dm.MetadataBlocks, want kind) error {
	le := binary.LittleEndian
	if stored, sum := le.Uint32(b), checksum(b, want); stored != sum {
		for _, k := range []kind{kindSuperblock, kindNode, kindBitmap, kindIndex} {
			if stored^sum^uint32(want) == uint32(k) {
				return corrupt(block, "it is a %s where a %s ought to be", k, want)
			}
		}
		return corrupt(block, "%s checksum is %#x, computed %#x", want, stored, sum)
	}
	if n := le.Uint64(b[offBlocknr:]); n != uint64(block) {
		return corrupt(block, "%s of block %d, written to the wrong place", want, n)
	}
	return nil
}
