package thinpool

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/google/uuid"

	"blockstore.dev/blockstore/dm"
)

// Create makes a pool and opens it. Files of a loopback pool must not exist; devices must be blank, unless o.Force,
// and not in use. Record the pool's Config: nothing else knows where the pool is. A failure leaves nothing behind.
// A share of somebody else's pool (see FindShare) is taken by a mark in it.
func Create(ctx context.Context, client *dm.Client, o CreateOptions) (*Pool, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	if o.Share != nil {
		return createShare(ctx, client, o.Config)
	}
	if err := o.makeBacking(); err != nil {
		return nil, fmt.Errorf("creating pool %s: %w", o.Name, err)
	}
	err := o.format(ctx, client)
	if err == nil {
		var p *Pool
		if p, err = Open(ctx, client, o.Config); err == nil {
			return p, nil
		}
	}
	err = fmt.Errorf("creating pool %s: %w", o.Name, err)
	return nil, errors.Join(err, o.part(context.WithoutCancel(ctx), client), o.undo(context.WithoutCancel(ctx)))
}

// complete fills the defaults in and refuses what cannot work.
func (o *CreateOptions) complete() error {
	if o.Identity == uuid.Nil {
		id, err := uuid.NewRandom()
		if err != nil {
			return fmt.Errorf("making up a pool identity: %w", err)
		}
		o.Identity = id
	}
	if o.BlockSize == 0 {
		o.BlockSize = DefaultBlockSize
	}
	var err error
	for _, path := range []*string{&o.Data, &o.Metadata} {
		if *path == "" {
			continue // validate says so
		}
		if *path, err = filepath.Abs(*path); err != nil {
			return fmt.Errorf("pool path: %w", err)
		}
	}
	if err := o.validate(); err != nil {
		return err
	}
	o.Joined = !o.Loopback && o.Share == nil
	if !o.Loopback || o.Share != nil {
		if o.DataSize != 0 || o.MetadataSize != 0 {
			return fmt.Errorf("sizes are for loopback pools, devices are used whole: %w", ErrInvalid)
		}
		return nil
	}
	if o.MetadataSize == 0 {
		o.MetadataSize = MetadataSizeFor(o.DataSize)
	}
	if o.MetadataSize < minMetadataSize || dm.SectorsOf(o.DataSize) < o.BlockSize {
		return fmt.Errorf("pool of %d bytes of data and %d of metadata is too small: %w", o.DataSize, o.MetadataSize, ErrInvalid)
	}
	return nil
}

// makeBacking makes the files, or makes sure that nobody needs what is on the devices.
func (o CreateOptions) makeBacking() error {
	if o.Loopback {
		return o.makeFiles()
	}
	for _, path := range []string{o.Data, o.Metadata} {
		err := CheckBlank(path)
		if errors.Is(err, ErrNotBlank) && o.Force {
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// format has the kernel write empty metadata, which it does when it loads a pool whose first metadata block is zero,
// and gives them the pool's identity while the pool is down.
func (o *CreateOptions) format(ctx context.Context, client *dm.Client) error {
	backing, err := o.open(ctx, client)
	if err != nil {
		return err
	}
	defer backing.close()
	if o.LowWater == 0 {
		size, err := backing.data.size()
		if err != nil {
			return err
		}
		o.LowWater = dm.Blocks(dm.SectorsOf(size) / o.BlockSize / 20)
	}
	if err := wipeSuperblock(backing.metadata.path); err != nil {
		return err
	}
	p := newPool(client, o.Config)
	if err := p.activatePool(ctx, backing); err != nil {
		return err
	}
	if err := p.Close(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	return setIdentity(backing.metadata.path, o.Identity)
}

// undo removes what Create made.
func (o CreateOptions) undo(ctx context.Context) error {
	if o.Loopback {
		return errors.Join(o.dropNote(), o.removeFiles())
	}
	return errors.Join(o.dropNote(), wipeSuperblock(o.Metadata))
}

// Destroy removes a pool for good, with all that is in it: a loopback pool's files, or on devices the metadata's first
// block. It need not be open. While a thin device is open it fails with ErrBusy and destroys nothing. What is gone
// already is no error; a metadata device that holds something else is ErrForeign and stays as it is. Of somebody else's
// pool it gives back the share: it deletes the thin devices in it, if its mark is ours.
func Destroy(ctx context.Context, client *dm.Client, c Config) error {
	if err := c.validate(); err != nil {
		return err
	}
	if c.Share != nil {
		return destroyShare(ctx, client, c)
	}
	if err := DeactivateAll(ctx, client, c); err != nil {
		return err
	}
	p := newPool(client, c)
	if err := p.Close(ctx); err != nil {
		return err
	}
	if c.Loopback {
		return errors.Join(c.dropNote(), c.removeFiles())
	}
	return errors.Join(c.dropNote(), c.forget(), c.wipeLabels())
}

// DeactivateAll deactivates the pool's thin devices for whoever is about to destroy the pool, which need not be open, and
// forgets that a process that died was reading its metadata. While one of them is open it fails with ErrBusy and
// deactivates none.
func DeactivateAll(ctx context.Context, client *dm.Client, c Config) error {
	p := &Pool{dm: client, config: c}
	if err := p.deactivateAll(ctx); err != nil {
		return fmt.Errorf("destroying pool %s: %w", c.Name, err)
	}
	return nil
}

func (p *Pool) deactivateAll(ctx context.Context) error {
	active, err := p.list(ctx) // and what a crash left between a device's creation and its table
	if err != nil {
		return err
	}
	for _, d := range active {
		if d.OpenCount > 0 {
			return p.busyError(ctx, d.ID)
		}
	}
	for _, d := range active {
		if err := p.Deactivate(ctx, d.ID); err != nil {
			return err
		}
	}
	return p.unmark(ctx)
}

// forget makes the metadata device one without a pool.
func (c Config) forget() error {
	sb, err := ReadSuperblock(c.Metadata)
	switch {
	case errors.Is(err, ErrNotFormatted):
		return nil
	case err != nil:
		return err
	case sb.Identity != c.Identity:
		return fmt.Errorf("metadata on %s is of pool %s, not %s: %w", c.Metadata, sb.Identity, c.Identity, ErrForeign)
	}
	return wipeSuperblock(c.Metadata)
}
