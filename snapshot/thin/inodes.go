package thin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sort"
	"time"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/layertar"
)

const (
	// inodeChunk is how much of an inode table is read at a time, in bytes.
	inodeChunk = 256 << 10

	// mostTouched bounds the inodes that are kept in mind. Where more were changed a walk takes no longer.
	mostTouched = 1 << 18
)

// inodes is the account of a volume with ext4: which inodes are the same in both, by the inodes themselves.
type inodes struct {
	touched map[uint64]bool
	first   uint64 // that lower did not have
}

func (l *inodes) Untouched(inode uint64) bool { return inode < l.first && !l.touched[inode] }

func (l *inodes) Reveal(inode uint64) error {
	l.touched[inode] = true
	return nil
}

// Exact: each inode that was touched differs by itself, or was changed too late to tell.
func (*inodes) Exact() bool { return true }

// span is a piece of a device, in bytes.
type span struct{ begin, end int64 }

// compareInodes compares those of two ext4 on devices, the upper of which was a snapshot of the lower, and differs from
// it in some spans, in order. Nobody may write to lower, from which upper did not differ at the time since, and to upper only where it is live:
// then it is mounted, and what was done since its checkpoint may be left out. ErrNotSupported where it cannot be told so.
func compareInodes(ctx context.Context, lowerDevice, upperDevice string, differ []span, since time.Time, live bool) (_ *inodes, err error) {
	c := inodeComparison{ctx: ctx, differ: differ, recent: since.Add(-layertar.ClockTick), found: &inodes{touched: map[uint64]bool{}}}
	defer func() { err = errors.Join(err, c.lower.close(), c.upper.close()) }()
	if err := errors.Join(c.lower.open(lowerDevice), c.upper.open(upperDevice)); err != nil {
		return nil, err
	}
	l, u := c.lower.fs, c.upper.fs
	// Who had the device may have made another file system on it.
	if l.dirty() || u.dirty() && !live || !l.like(u) || l.blockSize != fsBlock {
		return nil, fmt.Errorf("the file systems are not laid out alike, or are to be recovered: %w", snapshot.ErrNotSupported)
	}
	c.quiet = !l.written.Add(time.Second).After(c.recent)
	if c.lower.groups, err = l.groups(); err != nil {
		return nil, err
	}
	if c.upper.groups, err = u.groups(); err != nil {
		return nil, err
	}
	common := min(len(c.lower.groups), len(c.upper.groups))
	for i := range common {
		if err := c.group(i); err != nil {
			return nil, err
		}
	}
	c.found.first = uint64(common)*uint64(l.perGroup) + 1
	return c.found, nil
}

type inodeSide struct {
	device *os.File
	fs     *ext4FS
	groups []inodeGroup
	buffer []byte
}

// open reads the superblock, past the page cache, which may keep what lay there when it was read.
func (s *inodeSide) open(device string) (err error) {
	if s.device, err = os.OpenFile(device, os.O_RDONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0); err != nil {
		return err
	}
	s.buffer = aligned(inodeChunk)
	s.fs, err = openExt4(s.device)
	return err
}

func (s *inodeSide) close() error {
	if s.device == nil {
		return nil
	}
	return s.device.Close()
}

type inodeComparison struct {
	ctx          context.Context
	lower, upper inodeSide
	differ       []span
	recent       time.Time // of what was changed from then on, a later change may not show
	quiet        bool      // lower has nothing that was
	found        *inodes
}

// group compares the inodes of one group.
func (c *inodeComparison) group(i int) error {
	l, u := c.lower.groups[i], c.upper.groups[i]
	if l.table != u.table {
		return fmt.Errorf("an inode table was moved: %w", snapshot.ErrNotSupported)
	}
	size := c.lower.fs.inodeSize
	first := uint64(i)*uint64(c.lower.fs.perGroup) + 1
	for n := int64(0); n < u.used; n += inodeChunk / size {
		if err := c.ctx.Err(); err != nil {
			return context.Cause(c.ctx)
		}
		count := min(inodeChunk/size, u.used-n)
		at := span{u.table + n*size, u.table + (n+count)*size}
		known := max(0, min(l.used-n, count))
		differs := c.overlaps(at) || known < count
		if !differs && c.quiet {
			continue
		}
		if differs {
			if err := c.upper.read(at); err != nil {
				return err
			}
		}
		if known > 0 {
			if err := c.lower.read(span{at.begin, at.begin + known*size}); err != nil {
				return err
			}
		}
		for j := range count {
			if err := c.inode(first+uint64(n+j), j*size, j < known, differs); err != nil {
				return err
			}
		}
	}
	return nil
}

// inode compares one, which lies at an offset of both buffers.
func (c *inodeComparison) inode(number uint64, at int64, known, differs bool) error {
	size := c.lower.fs.inodeSize
	lower, upper := ext4Inode(c.lower.buffer[at:][:size]), ext4Inode(c.upper.buffer[at:][:size])
	same := known && (!differs || bytes.Equal(lower, upper))
	switch {
	case same && lower.changed().Before(c.recent):
		return nil
	case differs && !upper.linked(), same && !lower.linked():
		return nil // nobody asks for what has no name
	}
	if len(c.found.touched) >= mostTouched {
		return fmt.Errorf("more than %d files were changed: %w", mostTouched, snapshot.ErrNotSupported)
	}
	c.found.touched[number] = true
	return nil
}

// overlaps says whether the devices differ somewhere in a span.
func (c *inodeComparison) overlaps(at span) bool {
	i := sort.Search(len(c.differ), func(i int) bool { return c.differ[i].end > at.begin })
	return i < len(c.differ) && c.differ[i].begin < at.end
}

// read fills the buffer from a piece of the device.
func (s *inodeSide) read(at span) error {
	n := (at.end - at.begin + fsBlock - 1) &^ (fsBlock - 1)
	if _, err := s.fs.r.ReadAt(s.buffer[:n], at.begin); err != nil {
		return fmt.Errorf("reading inodes of ext4: %w", err)
	}
	return nil
}
