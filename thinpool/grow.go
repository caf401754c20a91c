package thinpool

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/dm"
)

// GrowData makes the pool's data size bytes large: of a loopback pool the file, else it takes what the device has been
// grown to and size must be 0. While it lasts, about 8 ms for each active thin device, all I/O on the pool waits: grow
// rarely and in large steps. A pool that is out of space comes back by it. Shrinking is ErrInvalid. Somebody else's pool
// grows by its owner's means: ErrForeign.
func (p *Pool) GrowData(ctx context.Context, size uint64) error {
	err := p.grow(ctx, size, growth{path: p.config.Data, pick: func(d *disks) *disk { return &d.data }})
	if err != nil {
		return fmt.Errorf("growing data of pool %s: %w", p.config.Name, err)
	}
	return nil
}

// GrowMetadata makes the pool's metadata size bytes large, at most MaxMetadataSize; else as GrowData. A pool that is
// read-only because its metadata is full comes back by it; one that needs a check does not.
func (p *Pool) GrowMetadata(ctx context.Context, size uint64) error {
	if size > MaxMetadataSize {
		return fmt.Errorf("growing metadata of pool %s to %d bytes: more than %d is never used: %w", p.config.Name, size, MaxMetadataSize, ErrInvalid)
	}
	err := p.grow(ctx, size, growth{path: p.config.Metadata, allocated: true, pick: func(d *disks) *disk { return &d.metadata }})
	if err != nil {
		return fmt.Errorf("growing metadata of pool %s: %w", p.config.Name, err)
	}
	return nil
}

type growth struct {
	path      string
	allocated bool
	pick      func(*disks) *disk
}

func (p *Pool) grow(ctx context.Context, size uint64, g growth) error {
	if err := p.own(); err != nil {
		return err
	}
	p.reload.Lock()
	defer p.reload.Unlock()
	before, err := p.Status(ctx)
	if err != nil {
		return err
	}
	// The kernel would skip the growth of such a pool and report success.
	if before.NeedsCheck || before.Mode == dm.PoolFail || before.Mode == dm.PoolError {
		return writable(before.ThinPoolStatus)
	}
	backing, err := p.Config().open(ctx, p.dm)
	if err != nil {
		return err
	}
	defer backing.close()
	if err := p.config.enlarge(g.pick(backing), size, g); err != nil {
		return err
	}
	return p.reloaded(ctx, backing)
}

// enlarge grows the file and its loop device.
func (c Config) enlarge(d *disk, size uint64, g growth) error {
	have, err := d.size()
	if err != nil {
		return err
	}
	switch {
	case d.loop == nil && size != 0:
		return fmt.Errorf("a device's size is its own, grow it by its own means: %w", ErrInvalid)
	case d.loop == nil, size == have:
		return nil
	case size < have:
		return fmt.Errorf("it has %d bytes and cannot shrink to %d: %w", have, size, ErrInvalid)
	}
	f, err := os.OpenFile(g.path, os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("growing pool file: %w", err)
	}
	defer f.Close()
	if err := resizeFile(f, have, size, g.allocated); err != nil {
		return errors.Join(err, f.Truncate(int64(have)))
	}
	return d.loop.Refresh()
}

// verifyGrown makes sure that the kernel took the new sizes: a resume returns success without.
func (p *Pool) verifyGrown(ctx context.Context, backing *disks, length dm.Sectors) error {
	st, err := p.Status(ctx)
	if err != nil {
		return err
	}
	if err := writable(st.ThinPoolStatus); err != nil {
		return err
	}
	if want := dm.Blocks(length / p.config.BlockSize); st.DataTotal != want {
		return fmt.Errorf("%w: data has %d blocks, not %d, after growing", ErrUnknownOutcome, st.DataTotal, want)
	}
	size, err := backing.metadata.size()
	if err != nil {
		return err
	}
	want := dm.MetadataBlocks(min(size, MaxMetadataSize) / dm.MetadataBlockSize)
	if st.MetadataTotal != want {
		return fmt.Errorf("%w: metadata has %d blocks, not %d, after growing", ErrUnknownOutcome, st.MetadataTotal, want)
	}
	return nil
}

// Sizes are how much of what lies beneath the pool's data and metadata now it could use, in bytes: of devices that have
// been enlarged it is more than the pool has. A loopback pool uses the whole of its files. Somebody else's is ErrForeign.
func (p *Pool) Sizes(ctx context.Context) (data, metadata uint64, err error) {
	if err = p.own(); err != nil {
		return 0, 0, err
	}
	if data, metadata, err = p.Config().lengths(); err != nil {
		return 0, 0, fmt.Errorf("looking at what pool %s lies on: %w", p.config.Name, err)
	}
	return data, min(metadata-metadata%dm.MetadataBlockSize, MaxMetadataSize), nil
}
