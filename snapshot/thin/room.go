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

// reserveOf is what a pool as large as this keeps free.
func reserveOf(st thinpool.Status) thinpool.Reserve {
	_, data := st.DataBytes()
	_, metadata := st.MetadataBytes()
	return thinpool.Reserve{Data: min(leastData, data/leastPart), Metadata: min(leastMetadata, metadata/leastPart)}
}

func (d *driver) setReserve(st thinpool.Status) {
	r := reserveOf(st)
	d.reserve.Store(&r)
}

// refreshReserve goes with a pool that has grown. Where its state cannot be read, the reserve is that of before.
func (d *driver) refreshReserve(ctx context.Context) {
	if st, err := d.pool.Status(ctx); err == nil {
		d.setReserve(st)
	}
}

// Room reads the pool's status, and that of the file system which holds its files.
func (d *driver) Room(ctx context.Context) error {
	st, err := d.pool.Status(ctx)
	if err == nil {
		err = d.reserve.Load().Room(st)
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
