package thinpool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/thinpool/metadata"
)

// glanceTries bounds how often Glance looks before it has the metadata held.
const glanceTries = 8

// Glance calls use with a view of the metadata as of the last commit, which is at most a second old, as they lie on the
// disk beside the running pool. It writes nothing and holds nothing, and is for looks of milliseconds: when the pool
// wrote metadata meanwhile, what use saw does not count, errors included, and use is called again; after some tries with
// the metadata held (see Metadata). Only what the last call of use did counts, and only if Glance returns nil.
func (p *Pool) Glance(ctx context.Context, use func(*metadata.View) error) error {
	seen, err := p.look(ctx, use)
	if seen || err != nil {
		return err
	}
	return p.Metadata(ctx, use)
}

// look is Glance without holding the metadata: it says whether it saw anything that counts.
func (p *Pool) look(ctx context.Context, use func(*metadata.View) error) (seen bool, err error) {
	path, number, err := p.metadataDevice(ctx)
	if err != nil {
		return false, fmt.Errorf("reading metadata of pool %s: %w", p.config.Name, err)
	}
	for range glanceTries {
		still, err := glance(path, number, use)
		switch {
		case ctx.Err() != nil:
			return false, context.Cause(ctx)
		case still && errors.Is(err, ErrCorrupt):
			// A superblock may be read while it is being written; holding it tells.
		case still && err != nil:
			return true, fmt.Errorf("reading metadata of pool %s: %w", p.config.Name, err)
		case still:
			return true, nil
		case errors.Is(err, errNotCounted):
			return false, nil
		}
	}
	return false, nil
}

// errNotCounted: the kernel was told not to count the device's writes.
var errNotCounted = errors.New("writes are not counted")

// glance says whether nothing was written to the metadata device while use looked. Then no block that the superblock
// led to can have been freed and used again, which the superblock alone would not prove: two commits later it may be
// the same, byte for byte.
func glance(path string, number dm.Number, use func(*metadata.View) error) (still bool, err error) {
	before, err := sectorsWritten(number)
	if err != nil {
		return false, err
	}
	r, err := openDirect(path)
	if err != nil {
		return true, err
	}
	v, err := metadata.Open(r)
	if err == nil {
		err = use(v)
	}
	err = errors.Join(err, r.Close())
	after, cerr := sectorsWritten(number)
	return cerr == nil && before == after, errors.Join(err, cerr)
}

// sectorsWritten is what was ever written to a block device. The kernel counts a write before it tells who waits for it.
func sectorsWritten(n dm.Number) (uint64, error) { return counted(n, 6) }

// transfers is how often a block device was read or written, discards and flushes left out.
func transfers(n dm.Number) (uint64, error) { return counted(n, 0, 4) }

// counted sums fields of a block device's stat file (Linux, Documentation/block/stat.rst).
func counted(n dm.Number, of ...int) (sum uint64, err error) {
	dir := filepath.Join("/sys/dev/block", n.String())
	on, err := os.ReadFile(filepath.Join(dir, "queue", "iostats"))
	if errors.Is(err, os.ErrNotExist) { // a partition: its disk has the queue
		on, err = os.ReadFile(dir + "/../queue/iostats")
	}
	if err != nil || strings.TrimSpace(string(on)) != "1" {
		return 0, errors.Join(errNotCounted, err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return 0, errors.Join(errNotCounted, err)
	}
	fields := strings.Fields(string(text))
	for _, i := range of {
		if i >= len(fields) {
			return 0, fmt.Errorf("%w: stat of %s reads %q", errNotCounted, n, text)
		}
		field, err := strconv.ParseUint(fields[i], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%w: stat of %s: %w", errNotCounted, n, err)
		}
		sum += field
	}
	return sum, nil
}
