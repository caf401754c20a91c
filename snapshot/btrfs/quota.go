package btrfs

import (
	"errors"

	"blockstore.dev/blockstore/btrfsvol"
	"blockstore.dev/blockstore/snapshot"
)

// leastLimit is what a volume may add even where its layers fill its size: the
// snapshot itself takes a node of metadata, and changing anything some more.
const leastLimit = 1 << 20

// limitOf is what a volume of a size may add to the layers below it, NoLimit for
// size 0. Simple quotas charge an extent to the subvolume that first wrote it, so
// that layers are no part of what a container's group counts.
func limitOf(size, layers int64) btrfsvol.Bytes {
	if size == 0 {
		return btrfsvol.NoLimit
	}
	return btrfsvol.Bytes(max(size-layers, leastLimit))
}

// limitAbove takes what a finished layer holds off the limit of the volume next on top of it, and gives what the layers below
// that hold then; layers is the same below the finished one. It could not be counted earlier: before the snapshot's commit its
// data had no extents.
func (d *driver) limitAbove(done, next snapshot.VolumeID, size, layers int64) (int64, error) {
	if size == 0 || !d.config.SimpleQuota {
		return layers, nil
	}
	s, err := d.fs.Stat(pathOf(done))
	if err != nil {
		return layers, err
	}
	added, err := d.fs.UsageSince(s.ID, s.Created)
	if err != nil {
		return layers, err
	}
	layers += int64(added.Total())
	return layers, d.fs.LimitQgroup(groupOf(next), limitOf(size, layers))
}

// groupOf is the volume's quota group. Its level is 1, since what a container nests
// in its subvolume joins groups of this level, and only them.
func groupOf(id snapshot.VolumeID) btrfsvol.QgroupID { return btrfsvol.Qgroup(1, uint64(id)) }

// makeGroup makes the volume's group with its limit, if quotas are ours to use. A
// group may be left from a crash.
func (d *driver) makeGroup(id snapshot.VolumeID, limit btrfsvol.Bytes) ([]btrfsvol.QgroupID, error) {
	if !d.config.SimpleQuota || limit == btrfsvol.NoLimit {
		return nil, nil
	}
	group := groupOf(id)
	if err := d.fs.CreateQgroup(group); err != nil && !errors.Is(err, btrfsvol.ErrExists) {
		return nil, err
	}
	return []btrfsvol.QgroupID{group}, d.fs.LimitQgroup(group, limit)
}

// dropGroup removes the volume's group, whose members were the deleted subvolumes
// and perhaps others that the container had deleted before.
func (d *driver) dropGroup(id snapshot.VolumeID, deleted []btrfsvol.SubvolumeID) error {
	if !d.config.SimpleQuota {
		return nil
	}
	group := groupOf(id)
	for _, s := range deleted {
		// The kernel takes an empty group away by itself with its subvolume.
		err := d.fs.LeaveQgroup(btrfsvol.QgroupID(s), group)
		if err != nil && !errors.Is(err, btrfsvol.ErrNotFound) {
			return err
		}
	}
	err := d.fs.RemoveQgroup(group)
	if errors.Is(err, btrfsvol.ErrBusy) {
		err = d.emptyGroup(group)
	}
	if errors.Is(err, btrfsvol.ErrNotFound) {
		return nil
	}
	return err
}

func (d *driver) emptyGroup(group btrfsvol.QgroupID) error {
	groups, err := d.fs.Qgroups(group.Level())
	if err != nil {
		return err
	}
	for _, member := range groups[group] {
		if err := d.fs.LeaveQgroup(member, group); err != nil && !errors.Is(err, btrfsvol.ErrNotFound) {
			return err
		}
	}
	return d.fs.RemoveQgroup(group)
}

// sweepGroups removes groups whose volume does not exist: left from a crash.
func (d *driver) sweepGroups() error {
	if !d.config.SimpleQuota {
		return nil
	}
	groups, err := d.fs.Qgroups(1)
	if err != nil {
		return translate(err, "btrfs: list quota groups")
	}
	for group, members := range groups {
		if len(members) > 0 {
			continue
		}
		if err := d.fs.RemoveQgroup(group); err != nil && !errors.Is(err, btrfsvol.ErrNotFound) {
			return translate(err, "btrfs: sweep quota groups")
		}
	}
	return nil
}
