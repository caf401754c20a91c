package thin

import (
	"context"

	"blockstore.dev/blockstore/snapshot/loopback"
	"blockstore.dev/blockstore/thinpool"
)

// What stays free of a pool: for a volume that begins nothing is allocated, but a file system that finds no block for
// its journal cannot even be mounted. With less free no volume is made.
const (
	leastData     = 64 << 20
	leastMetadata = 1 << 20
	leastPart     = 50 // or one part of so many of the pool, if that is less
)

// reserveOf is what a pool as large as this keeps free. Where the pool grows it stays as it is until the next open.
func reserveOf(st thinpool.Status) thinpool.Reserve {
	_, data := st.DataBytes()
	_, metadata := st.MetadataBytes()
	return thinpool.Reserve{Data: min(leastData, data/leastPart), Metadata: min(leastMetadata, metadata/leastPart)}
}

// Room reads the pool's status, and that of the file system which holds its files.
func (d *driver) Room(ctx context.Context) error {
	st, err := d.pool.Status(ctx)
	if err == nil {
		err = d.reserve.Room(st)
	}
	if err == nil {
		err = d.hostRoom()
	}
	return translate(err)
}

// hostRoom refuses new volumes while the file system below loopback files is full: a write that it cannot take is an
// I/O error to the pool.
func (d *driver) hostRoom() error {
	if !d.config.Pool.Loopback {
		return nil
	}
	return loopback.File(d.config.Pool.Data).Room()
}
