package lvm

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"blockstore.dev/blockstore/thinpool"
)

// ExtendOptions say how far a pool in the owner's group grows.
type ExtendOptions struct {
	Owner uuid.UUID
	// Pool is the uuid of the pool.
	Pool string
	// Size is the size that the data are to have; 0 is all that is free, but for a twentieth of it when disks are added.
	Size uint64
	// Devices are further disks for the group. One that is in it already is passed over.
	Devices []string
	// Force takes disks that hold old data.
	Force bool
}

// Extend adds disks to the owner's group and extends the pool: its metadata to what the data need, then the data. A group
// without room for it is thinpool.ErrNoSpace, and neither it nor the pool is changed. If disks were added and it fails
// then, they stay: Extend again.
func (t *Tool) Extend(ctx context.Context, o ExtendOptions) error {
	g, err := t.ownGroup(ctx, o.Owner)
	if err != nil {
		return err
	}
	v, err := t.Find(ctx, g.UUID, o.Pool)
	if err != nil {
		return err
	}
	if len(o.Devices) > 0 {
		if g, err = t.addDisks(ctx, g, o); err != nil {
			return err
		}
	}
	data, metadata, err := g.plan(v, o)
	if err != nil {
		return err
	}
	if metadata > v.MetadataSize {
		if _, err := t.run(ctx, "lvextend", "--poolmetadatasize", "+"+bytesOf(metadata-v.MetadataSize), v.Path()); err != nil {
			return err
		}
	}
	if data <= v.Size {
		return nil
	}
	_, err = t.run(ctx, "lvextend", "--size", bytesOf(data), v.Path())
	return err
}

// addDisks puts disks into the group, or passes over those that are in there.
func (t *Tool) addDisks(ctx context.Context, g Group, o ExtendOptions) (Group, error) {
	want := GroupOptions{Name: g.Name, Owner: o.Owner, Devices: o.Devices, Force: o.Force}
	disks, err := t.checkDisks(ctx, want, g.Name)
	if err != nil {
		return g, err
	}
	if len(disks.fresh) == 0 {
		return g, nil
	}
	if err = t.label(ctx, want, disks); err == nil {
		_, err = t.run(ctx, append([]string{"vgextend", g.Name}, disks.fresh.paths()...)...)
	}
	if err != nil {
		return g, errors.Join(err, t.wipeOrphans(context.WithoutCancel(ctx), o.Owner))
	}
	return t.ownGroup(ctx, o.Owner)
}

// plan is the data and metadata that the pool is to have, in whole extents.
func (g Group) plan(v Volume, o ExtendOptions) (data, metadata uint64, err error) {
	free, want := g.Free, g.whole(o.Size)
	if want == 0 {
		want = v.Size + free
	}
	if o.Size != 0 && want < v.Size {
		return 0, 0, fmt.Errorf("the pool has %d bytes and cannot shrink to %d: %w", v.Size, o.Size, thinpool.ErrInvalid)
	}
	metadata = max(v.MetadataSize, g.whole(min(thinpool.MetadataSizeFor(want), maxMetadata)))
	more := 2 * (metadata - v.MetadataSize) // LVM's spare for repairs grows with it
	switch {
	case o.Size != 0:
		data = want
	case free > more:
		room := free - more
		if len(o.Devices) > 0 {
			room -= room / spare
		}
		data = v.Size + room/g.Extent*g.Extent
	}
	if need := max(data, v.Size) - v.Size + more; free < need || data == 0 || o.Size == 0 && data == v.Size {
		return 0, 0, fmt.Errorf("%w: volume group %s has %d bytes free, %d are needed: add a disk (--device)",
			thinpool.ErrNoSpace, g.Name, free, max(need, g.Extent))
	}
	return data, metadata, nil
}

// Room is what a group has free for a pool of its owner's, in bytes: for data or for metadata, not for both.
type Room struct{ Data, Metadata uint64 }

// Room looks at the owner's group. LVM's spare for repairs grows with the metadata.
func (t *Tool) Room(ctx context.Context, owner uuid.UUID) (Room, error) {
	g, err := t.ownGroup(ctx, owner)
	if err != nil {
		return Room{}, err
	}
	// Extend also gives the data the metadata that go with them.
	return Room{Data: (g.Free - g.Free/spare) / g.Extent * g.Extent, Metadata: g.Free / 2 / g.Extent * g.Extent}, nil
}

// ExtendMetadata makes a pool's metadata so many bytes large, in whole extents, if the group has them.
func (t *Tool) ExtendMetadata(ctx context.Context, owner uuid.UUID, v Volume, to uint64) error {
	g, err := t.ownGroup(ctx, owner)
	if err != nil {
		return err
	}
	if to = to / g.Extent * g.Extent; to <= v.MetadataSize {
		return fmt.Errorf("%w: volume group %s has no whole extent for more metadata: add a disk (--device)", thinpool.ErrNoSpace, g.Name)
	}
	_, err = t.run(ctx, "lvextend", "--poolmetadatasize", "+"+bytesOf(to-v.MetadataSize), v.Path())
	return err
}

// ErrorWhenFull has writers to a full pool fail, or wait.
func (t *Tool) ErrorWhenFull(ctx context.Context, v Volume, fail bool) error {
	_, err := t.run(ctx, "lvchange", "--errorwhenfull", map[bool]string{true: "y", false: "n"}[fail], v.Path())
	return err
}
