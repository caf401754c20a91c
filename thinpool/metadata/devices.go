package metadata

import (
	"context"
	"encoding/binary"
	"fmt"
	"iter"

	"blockstore.dev/blockstore/dm"
)

// Device is what the metadata say of a thin device.
type Device struct {
	ID dm.DeviceID
	// Mapped is the number of blocks that it maps, shared ones included.
	Mapped dm.Blocks
	// TransactionID was the pool's when the device was made.
	TransactionID dm.TransactionID
	// Created and Snapshotted are values of Superblock.Time.
	Created, Snapshotted uint32
}

// parseDevice: dm-thin-metadata.c (struct disk_device_details).
func parseDevice(id dm.DeviceID, b []byte) Device {
	le := binary.LittleEndian
	return Device{
		ID: id, Mapped: dm.Blocks(le.Uint64(b)), TransactionID: dm.TransactionID(le.Uint64(b[8:])),
		Created: le.Uint32(b[16:]), Snapshotted: le.Uint32(b[20:]),
	}
}

// Devices lists the thin devices in order of their numbers.
func (v *View) Devices(ctx context.Context) ([]Device, error) {
	var all []Device
	w := walker{v: v, kind: detailsTree(), leaf: func(n *node) error {
		for i := range n.entries {
			id, err := deviceKey(n, i)
			if err != nil {
				return err
			}
			all = append(all, parseDevice(id, n.value(i)))
		}
		return nil
	}}
	if err := w.walk(ctx, v.sb.DetailsRoot); err != nil {
		return nil, err
	}
	return all, nil
}

func deviceKey(n *node, i int) (dm.DeviceID, error) {
	key := n.key(i)
	if key > uint64(dm.MaxDeviceID) {
		return 0, corrupt(n.block, "device number %d, the highest is %d", key, dm.MaxDeviceID)
	}
	return dm.DeviceID(key), nil
}

// Device is one thin device's numbers; ErrNotFound when there is none.
func (v *View) Device(ctx context.Context, id dm.DeviceID) (Device, error) {
	b, err := v.lookup(ctx, detailsTree(), v.sb.DetailsRoot, uint64(id))
	if err != nil {
		return Device{}, err
	}
	if b == nil {
		return Device{}, fmt.Errorf("thin device %d: %w", id, ErrNotFound)
	}
	return parseDevice(id, b), nil
}

// tree is a device's own mapping tree.
type tree struct {
	id   dm.DeviceID
	root dm.MetadataBlocks
}

// trees lists the devices' mapping trees in order of their numbers.
func (v *View) trees(ctx context.Context) ([]tree, error) {
	var all []tree
	w := walker{v: v, kind: deviceTree(), leaf: func(n *node) error {
		for i := range n.entries {
			id, err := deviceKey(n, i)
			if err != nil {
				return err
			}
			all = append(all, tree{id, n.child(i)})
		}
		return nil
	}}
	if err := w.walk(ctx, v.sb.MappingRoot); err != nil {
		return nil, err
	}
	return all, nil
}

// root is where one device's mapping tree begins; ErrNotFound when there is none.
func (v *View) root(ctx context.Context, id dm.DeviceID) (dm.MetadataBlocks, error) {
	b, err := v.lookup(ctx, deviceTree(), v.sb.MappingRoot, uint64(id))
	if err != nil {
		return 0, err
	}
	if b == nil {
		return 0, fmt.Errorf("thin device %d: %w", id, ErrNotFound)
	}
	return dm.MetadataBlocks(binary.LittleEndian.Uint64(b)), nil
}

// Mapping is a run of blocks that a thin device maps: virtual blocks from Begin on to data blocks from Data on.
type Mapping struct {
	Begin, Data, Length dm.Blocks
	// Time is Superblock.Time when they were mapped. Mappings older than the device's Snapshotted are shared, or were.
	Time uint32
}

// timeBits of a mapping are the time, the others the data block (dm-thin-metadata.c, pack_block_time).
const timeBits = 24

func (v *View) unpack(n *node, i int) (Mapping, error) {
	packed := n.uint64(i)
	m := Mapping{Begin: dm.Blocks(n.key(i)), Data: dm.Blocks(packed >> timeBits), Length: 1, Time: uint32(packed & (1<<timeBits - 1))}
	if m.Data >= v.sb.DataBlocks {
		return m, corrupt(n.block, "virtual block %d is mapped to data block %d of %d", m.Begin, m.Data, v.sb.DataBlocks)
	}
	return m, nil
}

// Mappings goes through what a device maps, in order of virtual blocks, in the longest runs that there are. After an
// error, which ErrNotFound is for a device that does not exist, nothing more comes.
func (v *View) Mappings(ctx context.Context, id dm.DeviceID) iter.Seq2[Mapping, error] {
	return func(yield func(Mapping, error) bool) {
		root, err := v.root(ctx, id)
		if err == nil {
			err = v.runs(ctx, root, func(m Mapping) bool { return yield(m, nil) })
		}
		if err != nil {
			yield(Mapping{}, err)
		}
	}
}

// runs joins the entries of a device's leaves; use returns false to end it.
func (v *View) runs(ctx context.Context, root dm.MetadataBlocks, use func(Mapping) bool) error {
	var run Mapping
	w := walker{v: v, kind: mappingTree(), leaf: func(n *node) error {
		for i := range n.entries {
			m, err := v.unpack(n, i)
			switch {
			case err != nil:
				return err
			case run.Length > 0 && m.Time == run.Time && m.Begin == run.Begin+run.Length && m.Data == run.Data+run.Length:
				run.Length++
				continue
			case run.Length > 0 && !use(run):
				return errStop
			}
			run = m
		}
		return nil
	}}
	err := w.walk(ctx, root)
	if err == errStop {
		return nil
	}
	if err == nil && run.Length > 0 {
		use(run)
	}
	return err
}
