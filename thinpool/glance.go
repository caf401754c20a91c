package thinpool

import (
	"context"
	"errors"
	"fmt"

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
		still, err := p.glance(path, number, use)
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

// glance says whether nothing was written to the metadata device while use looked. Then no block that the superblock
// led to can have been freed and used again, which the superblock alone would not prove: two commits later it may be
// the same, byte for byte.
func (p *Pool) glance(path string, number dm.Number, use func(*metadata.View) error) (still bool, err error) {
	before, err := p.metadataMeter.sectorsWritten(number)
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
	after, cerr := p.metadataMeter.sectorsWritten(number)
	return cerr == nil && before == after, errors.Join(err, cerr)
}
