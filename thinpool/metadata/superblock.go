package metadata

import (
	"encoding/binary"

	"github.com/google/uuid"

	"blockstore.dev/blockstore/dm"
)

// The superblock: block 0 of the metadata, and the copy of it that a metadata snapshot is. Linux,
// drivers/md/dm-thin-metadata.c (struct thin_disk_superblock); little-endian.
const (
	superblockMagic = 27022010
	version         = 2
	flagNeedsCheck  = 1 << 0

	offUUID, offMagic, offVersion    = 16, 32, 40
	offTime, offTID, offHeldRoot     = 44, 48, 56
	offDataSpaceMap, offMetaSpaceMap = 64, 192
	offMappingRoot, offDetailsRoot   = 320, 328
	offBlockSize, offMetaBlockSize   = 336, 340
	offIncompat                      = 360
)

// Superblock is what the first metadata block says of a pool, as of its last commit.
type Superblock struct {
	// Identity is the uuid field: the kernel formats it to zeroes and never touches it again; thin_restore and
	// thin_repair lose it.
	Identity uuid.UUID
	// NeedsCheck says that a commit failed and that the kernel opens the pool read-only from now on.
	NeedsCheck bool
	// Time counts the snapshots ever taken.
	Time uint32
	// TransactionID is the user's number.
	TransactionID dm.TransactionID
	// HeldRoot is the block of a metadata snapshot, 0 for none.
	HeldRoot dm.MetadataBlocks
	// BlockSize is the size of a data block.
	BlockSize dm.Sectors
	// DataBlocks and MetadataBlocks are the sizes that the pool has been grown to. A metadata snapshot does not say
	// them by itself; a View takes them from block 0.
	DataBlocks     dm.Blocks
	MetadataBlocks dm.MetadataBlocks
	// UsedDataBlocks is the number of data blocks that are mapped; a metadata snapshot does not say it.
	UsedDataBlocks dm.Blocks
	// MappingRoot and DetailsRoot are the blocks where the trees begin.
	MappingRoot, DetailsRoot dm.MetadataBlocks

	data, metadata spaceMapRoot
}

// spaceMapRoot: persistent-data/dm-space-map-common.h (struct disk_sm_root).
type spaceMapRoot struct {
	blocks, allocated uint64
	bitmaps, counts   dm.MetadataBlocks
}

func parseSpaceMapRoot(b []byte) spaceMapRoot {
	le := binary.LittleEndian
	return spaceMapRoot{
		blocks: le.Uint64(b), allocated: le.Uint64(b[8:]),
		bitmaps: dm.MetadataBlocks(le.Uint64(b[16:])), counts: dm.MetadataBlocks(le.Uint64(b[24:])),
	}
}

// ParseSuperblock reads a superblock of 4096 bytes. All zero bytes are ErrNotFormatted; a wrong magic, checksum,
// version or size is ErrCorrupt.
func ParseSuperblock(b []byte) (Superblock, error) { return parseSuperblock(b, 0) }

func parseSuperblock(b []byte, block dm.MetadataBlocks) (Superblock, error) {
	var none Superblock
	if len(b) != blockSize {
		return none, corrupt(block, "superblock of %d bytes", len(b))
	}
	if block == 0 && isZero(b) {
		return none, ErrNotFormatted
	}
	le := binary.LittleEndian
	if magic := le.Uint64(b[offMagic:]); magic != superblockMagic {
		return none, corrupt(block, "superblock magic is %d, not %d", magic, superblockMagic)
	}
	if err := verify(b, block, kindSuperblock); err != nil {
		return none, err
	}
	if v := le.Uint32(b[offVersion:]); v == 0 || v > version {
		return none, corrupt(block, "superblock version %d is unknown", v)
	}
	if bits := le.Uint32(b[offIncompat:]); bits != 0 {
		return none, corrupt(block, "incompatible features %#x are unknown", bits)
	}
	if n := le.Uint32(b[offMetaBlockSize:]); n != blockSize/dm.SectorSize {
		return none, corrupt(block, "metadata block size %d sectors", n)
	}
	s := Superblock{
		NeedsCheck: le.Uint32(b[offFlags:])&flagNeedsCheck != 0, Time: le.Uint32(b[offTime:]),
		TransactionID: dm.TransactionID(le.Uint64(b[offTID:])), HeldRoot: dm.MetadataBlocks(le.Uint64(b[offHeldRoot:])),
		BlockSize:   dm.Sectors(le.Uint32(b[offBlockSize:])),
		MappingRoot: dm.MetadataBlocks(le.Uint64(b[offMappingRoot:])),
		DetailsRoot: dm.MetadataBlocks(le.Uint64(b[offDetailsRoot:])),
		data:        parseSpaceMapRoot(b[offDataSpaceMap:]),
		metadata:    parseSpaceMapRoot(b[offMetaSpaceMap:]),
	}
	s.DataBlocks, s.UsedDataBlocks = dm.Blocks(s.data.blocks), dm.Blocks(s.data.allocated)
	s.MetadataBlocks = dm.MetadataBlocks(s.metadata.blocks)
	copy(s.Identity[:], b[offUUID:])
	return s, nil
}

// SetIdentity changes the uuid field of a superblock of 4096 bytes, and its checksum. The errors are ParseSuperblock's.
func SetIdentity(b []byte, id uuid.UUID) error {
	if _, err := ParseSuperblock(b); err != nil {
		return err
	}
	copy(b[offUUID:offUUID+len(id)], id[:])
	binary.LittleEndian.PutUint32(b, checksum(b, kindSuperblock))
	return nil
}

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// SetHeldRoot changes the number of the held metadata snapshot in a superblock of 4096 bytes, and its checksum. The errors
// are ParseSuperblock's.
func SetHeldRoot(b []byte, held dm.MetadataBlocks) error {
	if _, err := ParseSuperblock(b); err != nil {
		return err
	}
	binary.LittleEndian.PutUint64(b[offHeldRoot:], uint64(held))
	binary.LittleEndian.PutUint32(b, checksum(b, kindSuperblock))
	return nil
}
