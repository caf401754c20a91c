package thinpool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/ioctl"
	"blockstore.dev/blockstore/thinpool/metadata"
)

const (
	// discardSlice is how many blocks are discarded at once, at most what the kernel puts into one piece (dm-bio-prison-v1.h,
	// BIO_PRISON_MAX_RANGE, 1024). What others write to the pool waits for a slice: milliseconds.
	discardSlice dm.Blocks = 512
	// discardGap is how many blocks that are shared, or nothing, are discarded with those around them rather than spared:
	// less than a leaf of the mapping tree holds, which is changed in any case.
	discardGap dm.Blocks = 64
	// busyYield is how many times as long as a slice took the pool is left to others that use it: of a hundred of their
	// writes less than one is to meet a slice (see BenchmarkWriterBesideRemoval).
	busyYield = 20
	// longestYield bounds that.
	longestYield = 500 * time.Millisecond
)

// pace is shared by a pool's discards: one slice at a time, and the pauses behind it.
type pace struct {
	sync.Mutex
	// seen is how much traffic of others there had been at the end of the last slice, by meter.
	seen  uint64
	meter meter
}

// Discard unmaps what an inactive thin device has alone, so that these blocks go back to what lies below the pool (the file
// system under a loopback pool, an SSD's free blocks). What it shares with others stays theirs. Use it before Delete.
//
// It takes time in proportion to what is alone, in slices between which the pool is left to others: for as long as a slice
// takes, and twenty times as long while somebody reads or writes. Calls that run side by side take turns. What was written
// less than a second ago and not flushed may be left out, and is given back by Delete to the pool only. Where the metadata
// cannot be read meanwhile, all that is mapped is unmapped. A device that does not exist is no error.
func (p *Pool) Discard(ctx context.Context, id dm.DeviceID) error {
	defer p.devices.lock(id)()
	alone, committed, known := p.alone(ctx, id)
	err := p.borrow(ctx, id, false, func(d Device) error {
		st, err := p.dm.ThinStatus(ctx, dm.Dev(d.Number), dm.StatusOptions{NoFlush: true})
		if err != nil || st.Highest == nil {
			return err
		}
		slice := discardSlice
		if mapped := p.blocks(st.Mapped); !known || mapped != committed {
			all := p.blocks(*st.Highest + p.config.BlockSize)
			alone = []metadata.Range{{Length: all}}
			slice = max(slice, all*slice/max(mapped, 1)) // as much of what is mapped, on the average
		}
		f, err := os.OpenFile(d.Path, os.O_WRONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("opening thin device: %w", err)
		}
		defer f.Close()
		return p.discard(ctx, f, alone, slice)
	})
	if err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("discarding thin device %d: %w", id, err)
	}
	return nil
}

// alone lists what a device had alone at the last commit, with small gaps closed, and how many blocks it mapped.
func (p *Pool) alone(ctx context.Context, id dm.DeviceID) (ranges []metadata.Range, mapped dm.Blocks, known bool) {
	number := p.InMetadata(id)
	seen, err := p.look(ctx, func(v *metadata.View) error {
		ranges = ranges[:0]
		d, err := v.Device(ctx, number)
		if err != nil {
			return err
		}
		mapped = d.Mapped
		for r, err := range v.Alone(ctx, number) {
			if err != nil {
				return err
			}
			if n := len(ranges); n > 0 && r.Begin-ranges[n-1].Begin-ranges[n-1].Length <= discardGap {
				ranges[n-1].Length = r.Begin + r.Length - ranges[n-1].Begin
				continue
			}
			ranges = append(ranges, r)
		}
		return nil
	})
	return ranges, mapped, seen && err == nil
}

// discard goes through ranges in slices of so many blocks.
func (p *Pool) discard(ctx context.Context, f *os.File, ranges []metadata.Range, slice dm.Blocks) error {
	_, data, err := p.poolDevices(ctx)
	if err != nil {
		return err
	}
	for len(ranges) > 0 {
		if ranges, err = p.discardSlice(ctx, f, data, ranges, slice); err != nil {
			return err
		}
	}
	return nil
}

// discardSlice discards the first of ranges, so many blocks of them, and leaves the pool to others if there are more.
func (p *Pool) discardSlice(ctx context.Context, f *os.File, data dm.Number, ranges []metadata.Range, slice dm.Blocks) ([]metadata.Range, error) {
	p.pace.Lock()
	defer p.pace.Unlock()
	begin := time.Now()
	for slice > 0 && len(ranges) > 0 {
		r := &ranges[0]
		n := min(r.Length, slice)
		if err := ioctl.BlockDiscard(f, p.bytes(r.Begin), p.bytes(n)); err != nil {
			return nil, err
		}
		r.Begin, r.Length, slice = r.Begin+n, r.Length-n, slice-n
		if r.Length == 0 {
			ranges = ranges[1:]
		}
	}
	if len(ranges) == 0 {
		return nil, nil
	}
	rest := time.Since(begin)
	if p.pace.busy(data) {
		rest *= busyYield
	}
	return ranges, yield(ctx, rest)
}

// busy says whether others have read or written since the last slice; where that is not known, that they have.
func (c *pace) busy(data dm.Number) bool {
	now, err := c.meter.transfers(data)
	before := c.seen
	c.seen = now
	return err != nil || now != before
}

func (p *Pool) bytes(n dm.Blocks) uint64 { return uint64(n) * p.config.BlockSize.Bytes() }

func (p *Pool) blocks(n dm.Sectors) dm.Blocks { return dm.Blocks(n / p.config.BlockSize) }

// yield leaves the pool to others.
func yield(ctx context.Context, rest time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(min(rest, longestYield)):
		return nil
	}
}
