package thinpool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/ioctl"
)

// The metadata superblock: block 0 of the metadata device. Linux, drivers/md/dm-thin-metadata.c (struct
// thin_disk_superblock) and persistent-data/dm-block-manager.c; little-endian.
const (
	superblockSize    = dm.MetadataBlockSize
	superblockMagic   = 27022010
	superblockCsumXor = 160774
	metadataVersion   = 2
	flagNeedsCheck    = 1 << 0

	offCsum, offFlags, offBlocknr, offUUID = 0, 4, 8, 16
	offMagic, offVersion, offTime, offTID  = 32, 40, 44, 48
	offHeldRoot, offDataSpaceMap           = 56, 64
	offMetaSpaceMap, offMappingRoot        = 192, 320
	offDetailsRoot, offBlockSize           = 328, 336
	offMetaBlockSize, offIncompat          = 340, 360
)

// Superblock is what the first metadata block says of a pool, as of its last commit.
type Superblock struct {
	// Identity is the uuid field: the kernel formats it to zeroes and never touches it again; thin_restore and
	// thin_repair lose it.
	Identity uuid.UUID
	// NeedsCheck says that a commit failed and that the kernel opens the pool read-only from now on.
	NeedsCheck bool
	// Time counts the snapshots ever taken: see CreateSnapshot.
	Time uint32
	// TransactionID is the user's number.
	TransactionID dm.TransactionID
	// HeldRoot is the block of a metadata snapshot, 0 for none.
	HeldRoot dm.MetadataBlocks
	// BlockSize is the size of a data block.
	BlockSize dm.Sectors
	// DataBlocks and MetadataBlocks are the sizes that the pool has been grown to.
	DataBlocks     dm.Blocks
	MetadataBlocks dm.MetadataBlocks
	// UsedDataBlocks is the number of data blocks that are mapped.
	UsedDataBlocks dm.Blocks
	// MappingRoot and DetailsRoot are the blocks where the trees begin.
	MappingRoot, DetailsRoot dm.MetadataBlocks
}

// ParseSuperblock reads a superblock of 4096 bytes. All zero bytes are ErrNotFormatted; a wrong magic, checksum,
// version or size is ErrCorrupt.
func ParseSuperblock(b []byte) (Superblock, error) {
	if len(b) != superblockSize {
		return Superblock{}, fmt.Errorf("%w: superblock of %d bytes", ErrCorrupt, len(b))
	}
	if isZero(b) {
		return Superblock{}, ErrNotFormatted
	}
	le := binary.LittleEndian
	if magic := le.Uint64(b[offMagic:]); magic != superblockMagic {
		return Superblock{}, fmt.Errorf("%w: superblock magic is %d, not %d", ErrCorrupt, magic, superblockMagic)
	}
	if got, want := le.Uint32(b[offCsum:]), superblockCsum(b); got != want {
		return Superblock{}, fmt.Errorf("%w: superblock checksum is %#x, computed %#x", ErrCorrupt, got, want)
	}
	if v := le.Uint32(b[offVersion:]); v == 0 || v > metadataVersion {
		return Superblock{}, fmt.Errorf("%w: superblock version %d is unknown", ErrCorrupt, v)
	}
	if bits := le.Uint32(b[offIncompat:]); bits != 0 {
		return Superblock{}, fmt.Errorf("%w: incompatible features %#x are unknown", ErrCorrupt, bits)
	}
	if n := le.Uint32(b[offMetaBlockSize:]); n != superblockSize/dm.SectorSize || le.Uint64(b[offBlocknr:]) != 0 {
		return Superblock{}, fmt.Errorf("%w: metadata block size %d sectors", ErrCorrupt, n)
	}
	s := Superblock{
		NeedsCheck: le.Uint32(b[offFlags:])&flagNeedsCheck != 0, Time: le.Uint32(b[offTime:]),
		TransactionID: dm.TransactionID(le.Uint64(b[offTID:])), HeldRoot: dm.MetadataBlocks(le.Uint64(b[offHeldRoot:])),
		BlockSize:      dm.Sectors(le.Uint32(b[offBlockSize:])),
		DataBlocks:     dm.Blocks(le.Uint64(b[offDataSpaceMap:])),
		UsedDataBlocks: dm.Blocks(le.Uint64(b[offDataSpaceMap+8:])),
		MetadataBlocks: dm.MetadataBlocks(le.Uint64(b[offMetaSpaceMap:])),
		MappingRoot:    dm.MetadataBlocks(le.Uint64(b[offMappingRoot:])),
		DetailsRoot:    dm.MetadataBlocks(le.Uint64(b[offDetailsRoot:])),
	}
	copy(s.Identity[:], b[offUUID:])
	return s, nil
}

// superblockCsum is CRC-32C with seed 0xFFFFFFFF and without final inversion, over all but the checksum, XOR the
// constant of this kind of block.
func superblockCsum(b []byte) uint32 {
	return ^crc32.Checksum(b[offFlags:superblockSize], crc32.MakeTable(crc32.Castagnoli)) ^ superblockCsumXor
}

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
	s, err := ParseSuperblock(b)
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
	if _, err := ParseSuperblock(b); err != nil {
		return fmt.Errorf("writing the pool's identity to %s: %w", path, err)
	}
	copy(b[offUUID:offUUID+len(id)], id[:])
	binary.LittleEndian.PutUint32(b[offCsum:], superblockCsum(b))
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

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
