package lvm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"blockstore.dev/blockstore/thinpool"
)

const (
	// poolName is the thin pool's in a group of ours.
	poolName = "pool"
	tagKey   = "blockstore.owner="
	// maxDisks bounds the uuids that follow from an owner's identity.
	maxDisks = 256
	// spare is the part of a group that stays free, a twentieth: it extends a pool that has become full before a disk is
	// at hand.
	spare = 20
	// leastGroup is what the disks of a group must have together.
	leastGroup = 512 << 20
	// maxMetadata is within what all versions of LVM take.
	maxMetadata = 15 << 30
)

// GroupOptions say what CreateGroup makes.
type GroupOptions struct {
	Name string
	// Owner is the identity by which the group and its disks are known.
	Owner uuid.UUID
	// Devices are the disks; all of them is taken.
	Devices []string
	// Force takes disks that hold old data.
	Force bool
}

func tag(owner uuid.UUID) string { return tagKey + owner.String() }

// diskUUID is the uuid of an owner's n-th disk, in LVM's form. Who was killed after the label was written and before the
// disk was in a group knows it by that.
func diskUUID(owner uuid.UUID, n int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s disk %d", owner, n))
	s := hex.EncodeToString(sum[:16])
	return s[:6] + "-" + s[6:10] + "-" + s[10:14] + "-" + s[14:18] + "-" + s[18:22] + "-" + s[22:26] + "-" + s[26:]
}

func diskUUIDs(owner uuid.UUID) map[string]bool {
	all := map[string]bool{}
	for n := range maxDisks {
		all[diskUUID(owner, n)] = true
	}
	return all
}

// CreateGroup makes a volume group on the disks and in it a thin pool with blocks of 64 KiB, zeroing on, errors when it is
// full, and metadata for its data. A twentieth stays free. A failure leaves nothing behind; what a crash leaves RemoveGroup
// removes.
func (t *Tool) CreateGroup(ctx context.Context, o GroupOptions) (Volume, error) {
	v, err := t.createGroup(ctx, o)
	if err == nil || errors.Is(err, errUntouched) {
		return v, err
	}
	return v, errors.Join(err, t.RemoveGroup(context.WithoutCancel(ctx), o.Owner, ""))
}

// errUntouched says that nothing was changed.
var errUntouched = errors.New("no disk was changed")

func (t *Tool) createGroup(ctx context.Context, o GroupOptions) (Volume, error) {
	disks, err := t.checkDisks(ctx, o, "")
	if err != nil {
		return Volume{}, fmt.Errorf("%w; %w", err, errUntouched)
	}
	if total := disks.total(); total < leastGroup {
		return Volume{}, fmt.Errorf("the disks have %d bytes, a pool needs %d: %w; %w", total, uint64(leastGroup), thinpool.ErrInvalid, errUntouched)
	}
	if err := t.label(ctx, o, disks); err != nil {
		return Volume{}, err
	}
	if _, err := t.run(ctx, append([]string{"vgcreate", "--addtag", tag(o.Owner), o.Name}, disks.fresh.paths()...)...); err != nil {
		return Volume{}, err
	}
	g, err := t.ownGroup(ctx, o.Owner)
	if err != nil {
		return Volume{}, err
	}
	metadata := g.whole(min(thinpool.MetadataSizeFor(g.Free), maxMetadata))
	if g.Free < 2*metadata+g.Extent*spare {
		return Volume{}, fmt.Errorf("volume group %s has %d bytes: %w", g.Name, g.Free, thinpool.ErrInvalid)
	}
	room := g.Free - 2*metadata // LVM keeps as much again for repairs
	data := (room - room/spare) / g.Extent * g.Extent
	_, err = t.run(ctx, "lvcreate", "--yes", "--type", "thin-pool", "--name", poolName, "--size", bytesOf(data),
		"--poolmetadatasize", bytesOf(metadata), "--chunksize", "64k", "--zero", "y", "--discards", "passdown",
		"--addtag", tag(o.Owner), g.Name)
	if err != nil {
		return Volume{}, err
	}
	if _, err := t.run(ctx, "lvchange", "--errorwhenfull", "y", g.Name+"/"+poolName); err != nil {
		return Volume{}, err
	}
	return t.Lookup(ctx, g.Name+"/"+poolName)
}

// whole rounds up to extents.
func (g Group) whole(size uint64) uint64 { return (size + g.Extent - 1) / g.Extent * g.Extent }

func bytesOf(n uint64) string { return fmt.Sprintf("%db", n) }

// ownGroup finds the group with the owner's tag.
func (t *Tool) ownGroup(ctx context.Context, owner uuid.UUID) (Group, error) {
	all, err := t.Groups(ctx)
	if err != nil {
		return Group{}, err
	}
	for _, g := range all {
		if slices.Contains(g.Tags, tag(owner)) {
			return g, nil
		}
	}
	return Group{}, fmt.Errorf("volume group with the tag %s: %w", tag(owner), ErrNotFound)
}

// RemoveGroup removes the owner's group with the pool in it, and makes its disks blank. A group in which there are logical
// volumes of others is ErrForeign, and stays. pool is the uuid of the pool; it is "" of a group whose making was
// cut short, when LVM may have left it in pieces. Disks that somebody else added to the group stay physical volumes. What
// is gone already is no error.
func (t *Tool) RemoveGroup(ctx context.Context, owner uuid.UUID, pool string) error {
	g, err := t.ownGroup(ctx, owner)
	switch {
	case err == nil:
		if err := t.onlyOurs(ctx, g, pool); err != nil {
			return err
		}
		if _, err := t.run(ctx, "vgremove", "--yes", "--force", g.Name); err != nil {
			return err
		}
	case !errors.Is(err, ErrNotFound):
		return err
	}
	return t.wipeOrphans(ctx, owner)
}

// wipeOrphans makes the owner's disks blank that are in no group.
func (t *Tool) wipeOrphans(ctx context.Context, owner uuid.UUID) error {
	disks, err := t.Disks(ctx)
	if err != nil {
		return err
	}
	ours := diskUUIDs(owner)
	var errs []error
	for _, d := range disks {
		if ours[d.UUID] && d.Group == "" {
			errs = append(errs, t.wipe(d.Path))
		}
	}
	return errors.Join(errs...)
}

// onlyOurs refuses a group in which others have volumes.
func (t *Tool) onlyOurs(ctx context.Context, g Group, pool string) error {
	if pool == "" {
		return nil
	}
	foreign, err := t.Foreign(ctx, g.UUID, pool)
	if err != nil {
		return err
	}
	if len(foreign) > 0 {
		return fmt.Errorf("volume group %s has logical volumes that are not blockstore's: %v: move or remove them (lvremove): %w", g.Name, foreign, ErrForeign)
	}
	return nil
}

// Foreign lists the logical volumes of a group beside the pool, thin volumes in the pool among them.
func (t *Tool) Foreign(ctx context.Context, groupUUID, pool string) ([]string, error) {
	all, err := t.Volumes(ctx)
	if err != nil {
		return nil, err
	}
	var foreign []string
	for _, v := range all {
		if v.GroupUUID == groupUUID && v.UUID != pool && !v.Internal {
			foreign = append(foreign, v.Path())
		}
	}
	return foreign, nil
}

// wipe takes LVM's label away.
func (t *Tool) wipe(path string) error {
	if t.options.Observer != nil {
		t.options.Observer("wipe")
	}
	return thinpool.Wipe(path)
}
