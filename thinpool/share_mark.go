package thinpool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/dm"
)

// A share is known to be ours by its mark: a thin device whose first block says whose it is. The pool's superblock, which
// says it of a pool of our own, is not ours to write. The mark is written once and never again.
const (
	// markID is among the numbers that a pool's user keeps for itself, beside the base.
	markID dm.DeviceID = 1
	// markSize is what of it is read and written, markDevice the length of its device, in bytes.
	markSize   int    = 4096
	markDevice uint64 = 1 << 20
)

type markState int

const (
	markOurs markState = iota
	// markBlank is one that was made and not written: somebody died in between.
	markBlank
	markForeign
)

// errTaken says that the share has a mark already.
var errTaken = fmt.Errorf("the range of numbers was taken meanwhile: %w", ErrBusy)

// mark is what the mark's first block holds: text for who looks at it, then zeroes.
func (c Config) mark() []byte {
	b := make([]byte, markSize)
	copy(b, fmt.Sprintf("blockstore: share of a thin pool, version 1\nstore %s\nnumbers %d to %d\n",
		c.Identity, c.Share.First, c.Share.First+ShareNumbers-1))
	return b
}

// claim makes the mark and the first epoch. The kernel refuses a number that is taken.
func (p *Pool) claim(ctx context.Context) error {
	err := p.CreateThin(ctx, markID)
	if errors.Is(err, ErrExists) {
		return errTaken
	}
	if err != nil {
		return err
	}
	d, err := p.Activate(ctx, markID, ActivateOptions{Size: markDevice})
	if err != nil {
		return err
	}
	err = writeMark(d.Path, p.config.mark())
	if err == nil {
		_, err = p.Commit(ctx)
	}
	if err = errors.Join(err, p.Deactivate(context.WithoutCancel(ctx), markID)); err != nil {
		return err
	}
	return p.message(ctx, dm.CreateThinMessage(p.epochID(0)))
}

func writeMark(path string, mark []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("writing the mark: %w", err)
	}
	defer f.Close()
	if _, err := f.WriteAt(mark, 0); err != nil {
		return fmt.Errorf("writing the mark: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("writing the mark: %w", err)
	}
	return nil
}

// readMark says whose the share is. ErrNotFound when nobody's.
func (p *Pool) readMark(ctx context.Context) (markState, error) {
	b := make([]byte, markSize)
	defer p.devices.lock(markID)()
	err := p.borrow(ctx, markID, true, func(d Device) error {
		f, err := os.OpenFile(d.Path, os.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.ReadFull(f, b)
		return err
	})
	switch {
	case err != nil:
		return markForeign, fmt.Errorf("reading the mark: %w", err)
	case bytes.Equal(b, p.config.mark()):
		return markOurs, nil
	case isZero(b):
		return markBlank, nil
	}
	return markForeign, nil
}

// verifyMark is nil when the share is ours.
func (p *Pool) verifyMark(ctx context.Context) error {
	state, err := p.readMark(ctx)
	switch {
	case errors.Is(err, ErrNotFound):
		return fmt.Errorf("%w: it has no mark of ours at number %d: is it the pool, and of the age, that the store was made in?", ErrForeign, p.config.kernelID(markID))
	case err != nil:
		return err
	case state != markOurs:
		return fmt.Errorf("%w: the mark at number %d is another's", ErrForeign, p.config.kernelID(markID))
	}
	return nil
}
