package thinpool

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"blockstore.dev/blockstore/dm"
)

const (
	// DefaultBlockSize is 64 KiB: the least copy-on-write and the least waste for many small changes.
	DefaultBlockSize dm.Sectors = 128
	minBlockSize                = dm.MinPoolBlock
	maxBlockSize                = dm.MaxPoolBlock
	blockSizeStep               = dm.MinPoolBlock

	// MaxMetadataSize is what the kernel uses of a metadata device: 255 bitmap blocks' worth.
	MaxMetadataSize        = uint64(dm.MaxPoolMetadata) * dm.SectorSize
	minMetadataSize uint64 = 2 << 20
	// defaultMetadataSize is generous, since a full metadata device is the expensive failure.
	defaultMetadataSize uint64 = 64 << 20

	uuidPrefix = "BLOCKSTORE-"
	maxName    = 100 // of dm's 127 bytes; the rest is for the devices' suffixes
)

// Config is what a pool is known again by. Keep what Create returned and hand it to Open; it is plain data and can be
// kept as JSON.
type Config struct {
	// Identity is also in the pool's metadata.
	Identity uuid.UUID `json:"identity"`
	// Name begins the names of the pool's devices.
	Name string `json:"name"`
	// Loopback says that Data and Metadata are files; else they are block devices.
	Loopback bool   `json:"loopback"`
	Data     string `json:"data"`
	Metadata string `json:"metadata"`
	// Joined says that the data are on a linear device, over Data and then Further: of pools on devices, which AddData adds to.
	Joined  bool      `json:"joined,omitempty"`
	Further []Further `json:"further,omitempty"`
	// BlockSize is fixed for the pool's life.
	BlockSize dm.Sectors `json:"block_size"`
	// LowWater is the number of free data blocks below which the kernel sends an event.
	LowWater dm.Blocks `json:"low_water"`
	// QueueIfFull lets writes to a full pool wait for space (by default for 60 s, see the module parameter
	// no_space_timeout) instead of failing at once with ENOSPC.
	QueueIfFull bool `json:"queue_if_full,omitempty"`
	// Tidy, if set, is where Close leaves the note of a clean stop, a file of some hundred bytes, which spares the next Open to
	// read through the metadata for what a power cut may have torn. It is not of what is kept: the user says it anew.
	Tidy string `json:"-"`
	// Ballast, if not 0, is the number of a thin device that the pool makes for itself, and which its user leaves alone: while
	// writers wait for space (Tune) it has a block, to be freed where growth is stuck (see ballast). It is not of what is kept.
	Ballast dm.DeviceID `json:"-"`
	// Share, if set, is a part of a pool that is somebody else's: then Data, Metadata, Loopback, LowWater and QueueIfFull
	// mean nothing.
	Share *Share `json:"share,omitempty"`
}

// CreateOptions says what Create makes.
type CreateOptions struct {
	// Config's Identity is made up when it is zero, BlockSize 0 is DefaultBlockSize, LowWater 0 a twentieth of the data.
	Config
	// DataSize and MetadataSize, in bytes, are the sizes of the files of a loopback pool; devices are used whole.
	// MetadataSize 0 is a thousandth of the data, at least 64 MiB.
	DataSize, MetadataSize uint64
	// Force takes devices that hold data of others, but none that are in use.
	Force bool
}

// MetadataSizeFor is the default metadata size, in bytes, for data of a size: a thousandth, within 64 MiB and the
// kernel's limit. With 64-KiB blocks it holds the mappings of the whole data about twice.
func MetadataSizeFor(dataSize uint64) uint64 {
	size := max(defaultMetadataSize, dataSize/1000)
	return min((size+1<<20-1)&^(1<<20-1), MaxMetadataSize)
}

func (c Config) validate() error {
	switch {
	case c.Name == "" || len(c.Name) > maxName || strings.ContainsAny(c.Name, "/\x00 "):
		return fmt.Errorf("pool name %q: %w", c.Name, ErrInvalid)
	case c.Share == nil && (c.Data == "" || c.Metadata == "" || c.Data == c.Metadata):
		return fmt.Errorf("pool %s needs two different paths for data and metadata: %w", c.Name, ErrInvalid)
	case c.BlockSize < minBlockSize || c.BlockSize > maxBlockSize || c.BlockSize%blockSizeStep != 0:
		return fmt.Errorf("block size of %d sectors is no multiple of %d up to %d: %w", c.BlockSize, blockSizeStep, maxBlockSize, ErrInvalid)
	case c.Identity == uuid.Nil:
		return fmt.Errorf("pool %s has no identity: %w", c.Name, ErrInvalid)
	case len(c.Further) > 0 && !c.Joined:
		return fmt.Errorf("pool %s has further devices and nothing that joins them: %w", c.Name, ErrInvalid)
	case c.Share != nil:
		return c.Share.validate()
	}
	return nil
}

// UUIDPrefix begins the uuids of all devices of the pool and of no others.
func (c Config) UUIDPrefix() string {
	return uuidPrefix + strings.ReplaceAll(c.Identity.String(), "-", "") + "-"
}

// PoolName is the device-mapper name of the pool device.
func (c Config) PoolName() string {
	if c.Share != nil {
		return c.Share.PoolName
	}
	return c.Name + "-pool"
}

// PoolUUID is the device-mapper uuid of the pool device; somebody else's may have none.
func (c Config) PoolUUID() string {
	if c.Share != nil {
		return c.Share.PoolUUID
	}
	return c.UUIDPrefix() + "pool"
}

// ThinName is the device-mapper name of an active thin device.
func (c Config) ThinName(id dm.DeviceID) string { return fmt.Sprintf("%s-%d", c.Name, id) }

// idOfName is the inverse of ThinName.
func (c Config) idOfName(name string) (dm.DeviceID, bool) {
	number, ok := strings.CutPrefix(name, c.Name+"-")
	id, err := strconv.ParseUint(number, 10, 32)
	return dm.DeviceID(id), ok && err == nil && name == c.ThinName(dm.DeviceID(id))
}

// ThinUUID is the device-mapper uuid of an active thin device.
func (c Config) ThinUUID(id dm.DeviceID) string { return fmt.Sprintf("%s%08d", c.UUIDPrefix(), id) }

// thinID is the inverse of ThinUUID.
func (c Config) thinID(dmUUID string) (dm.DeviceID, bool) {
	digits, ok := strings.CutPrefix(dmUUID, c.UUIDPrefix())
	if !ok || len(digits) != 8 {
		return 0, false
	}
	var id dm.DeviceID
	for _, d := range digits {
		if d < '0' || d > '9' {
			return 0, false
		}
		id = id*10 + dm.DeviceID(d-'0')
	}
	return id, id <= dm.MaxDeviceID
}
