package thin

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/dustin/go-humanize"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/thinpool"
	"blockstore.dev/blockstore/thinpool/lvm"
)

// Extend adds disks to the volume group that the store made, and extends the pool; or joins devices to a pool's own.
func (d *driver) Extend(ctx context.Context, o snapshot.ExtendOptions) error {
	switch {
	case d.config.Pool.Share != nil:
		return translate(d.extendLVM(ctx, o))
	case d.config.Pool.Loopback:
		return fmt.Errorf("the pool is in files, which take no devices: %w", snapshot.ErrNotSupported)
	case !d.config.Pool.Joined:
		return fmt.Errorf("the pool is on devices to which an earlier version gave no way to join others: %w", snapshot.ErrNotSupported)
	case o.Size != 0:
		return fmt.Errorf("devices are used whole, without a size: %w", snapshot.ErrInvalid)
	}
	if !o.Yes && !o.Force {
		return fmt.Errorf("%s would be added to the data of the store, and all of it would be taken: %w", strings.Join(o.Devices, ", "), snapshot.ErrUnconfirmed)
	}
	for _, path := range o.Devices {
		if err := d.pool.AddData(ctx, thinpool.AddOptions{Path: path, Force: o.Force, Keep: d.keepPool}); err != nil {
			return translate(err)
		}
	}
	d.refreshReserve(ctx)
	return nil
}

// keepPool makes the pool's new configuration durable.
func (d *driver) keepPool(pool thinpool.Config) error {
	c := d.config
	c.Pool = pool
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return d.keep(b)
}

func (d *driver) extendLVM(ctx context.Context, o snapshot.ExtendOptions) error {
	l := d.config.LVM
	if l == nil || !l.Made {
		return fmt.Errorf("the pool %s is not blockstore's: its owner extends it (LVM: lvextend -L +SIZE VG/LV), and blockstore uses what there is: %w",
			d.config.Pool.PoolName(), snapshot.ErrNotSupported)
	}
	if o.Size < 0 {
		return fmt.Errorf("growing to %d bytes: %w", o.Size, snapshot.ErrInvalid)
	}
	st, err := d.pool.Status(ctx)
	if err != nil {
		return err
	}
	if st.NeedsCheck || st.Mode == dm.PoolFail || st.Mode == dm.PoolError { // the kernel would skip the growth
		return st.Err()
	}
	tool, err := d.kind.lvm(ctx)
	if err != nil {
		return err
	}
	if err := d.confirmed(ctx, tool, o); err != nil {
		return err
	}
	err = tool.Extend(ctx, lvm.ExtendOptions{
		Owner: d.config.Pool.Identity, Pool: l.UUID, Size: uint64(o.Size), Devices: o.Devices, Force: o.Force,
	})
	if err != nil {
		return err
	}
	d.refreshReserve(ctx)
	return d.verifyExtended(ctx, tool)
}

// confirmed refuses to take disks that nobody said may be taken.
func (d *driver) confirmed(ctx context.Context, tool *lvm.Tool, o snapshot.ExtendOptions) error {
	if len(o.Devices) == 0 {
		return nil
	}
	size, err := tool.CheckDisks(ctx, lvm.GroupOptions{Owner: d.config.Pool.Identity, Devices: o.Devices, Force: o.Force})
	if err != nil || o.Yes || o.Force || size == 0 {
		return err
	}
	return fmt.Errorf("%s, %s together, would be added to the LVM volume group of the store, and all of them would be taken: %w",
		strings.Join(o.Devices, ", "), humanize.IBytes(size), snapshot.ErrUnconfirmed)
}

// verifyExtended makes sure that the kernel took what LVM has given.
func (d *driver) verifyExtended(ctx context.Context, tool *lvm.Tool) error {
	v, err := tool.Find(ctx, d.config.LVM.GroupUUID, d.config.LVM.UUID)
	if err != nil {
		return err
	}
	st, err := d.pool.Status(ctx)
	if err != nil {
		return err
	}
	if _, total := st.DataBytes(); total < v.Size/st.BlockSize.Bytes()*st.BlockSize.Bytes() {
		return fmt.Errorf("%w: LVM's volume %s has %d bytes, the pool %d", thinpool.ErrUnknownOutcome, v.Path(), v.Size, total)
	}
	return nil
}

// backingRows say what the pool stands on.
func (c config) backingRows() []snapshot.Row {
	s := c.Pool.Share
	switch {
	case s != nil && c.LVM != nil && c.LVM.Made:
		return []snapshot.Row{{Label: "Backing", Value: "LVM volume group made by blockstore"}, c.numbersRow()}
	case s != nil && c.LVM != nil:
		return []snapshot.Row{{Label: "Backing", Value: "a thin pool of LVM's"}, c.numbersRow()}
	case s != nil:
		return []snapshot.Row{{Label: "Backing", Value: "somebody else's thin pool"}, c.numbersRow()}
	}
	backing := "devices"
	if c.Pool.Loopback {
		backing = "loopback files"
	}
	return []snapshot.Row{
		{Label: "Backing", Value: backing},
		{Label: "Data file", Value: c.Pool.Data},
		{Label: "Metadata file", Value: c.Pool.Metadata},
	}
}

func (c config) numbersRow() snapshot.Row {
	first := uint64(c.Pool.Share.First)
	return snapshot.Row{Label: "Thin Device Numbers", Value: fmt.Sprintf("%d to %d", first, first+thinpool.ShareNumbers-1)}
}
