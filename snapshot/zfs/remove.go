package zfs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/failpoint"
	"blockstore.dev/blockstore/zfsds"
)

// Remove destroys volumes. It is done for good when it returns; the space of large ones comes back
// as the pool gets to it.
func (d *driver) Remove(ctx context.Context, ids ...snapshot.VolumeID) error {
	uses, err := d.root.uses()
	if err != nil {
		return err
	}
	var errs []error
	for _, id := range ids {
		err := ctx.Err()
		if err == nil && id == snapshot.Base {
			err = fmt.Errorf("zfs: %w: the base is not removed", snapshot.ErrInvalid)
		}
		if err == nil {
			err = d.root.busy(uses, id)
		}
		if err == nil {
			err = translate(d.remove(ctx, id), "zfs: remove volume %d", id)
		}
		failpoint.Hit("zfs: volume removed")
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// remove destroys a volume, if it exists, or makes a ghost of it.
func (d *driver) remove(ctx context.Context, id snapshot.VolumeID) (err error) {
	defer d.tidy.leftIf(&err)
	volume, err := d.zfs.Stat(ctx, d.root.volume(id))
	if errors.Is(err, zfsds.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, ours := d.root.ours(volume); !ours {
		return fmt.Errorf("%w: %s was not made by the store: look at it, and destroy or rename it", snapshot.ErrCorrupt, volume.Name)
	}
	if err := d.tidy.begin(); err != nil {
		return err
	}
	if err := d.dropSnapshots(ctx, volume.Name); err != nil {
		return err
	}
	failpoint.Hit("zfs: snapshots dropped, volume not")
	err = d.zfs.Destroy(ctx, volume.Name)
	if errors.Is(err, zfsds.ErrDependents) {
		err = d.makeGhost(ctx, id, volume)
	}
	failpoint.Hit("zfs: volume destroyed, its origin's ghost not")
	if err != nil && !errors.Is(err, zfsds.ErrNotFound) {
		return err
	}
	return d.reap(ctx, volume.Origin)
}

// dropSnapshots destroys a volume's snapshots, or marks those that other volumes are made of to
// go with them. Snapshots of others are left alone, and are in the way.
func (d *driver) dropSnapshots(ctx context.Context, volume string) error {
	var drop, foreign []string
	for s, err := range d.zfs.Snapshots(ctx, volume) {
		if err != nil {
			return err
		}
		_, text, _ := strings.Cut(s.Name, "@")
		if _, err := parseID(text); err != nil {
			foreign = append(foreign, s.Name)
			continue
		}
		drop = append(drop, s.Name)
	}
	if len(foreign) > 0 {
		return fmt.Errorf("%w: snapshots that the store did not make: destroy them first: zfs destroy %s", snapshot.ErrBusy, strings.Join(foreign, " "))
	}
	return d.zfs.DestroySnapshots(ctx, true, drop...)
}

// worthRolling is how much a ghost must hold beyond its snapshots for that to be given back.
const worthRolling = 1 << 20

// makeGhost puts a volume that other volumes are made of out of the way, and gives back what
// only itself holds.
func (d *driver) makeGhost(ctx context.Context, id snapshot.VolumeID, volume zfsds.Dataset) error {
	details, err := d.zfs.Get(ctx, volume.Name)
	if err != nil {
		return err
	}
	if details.Written >= worthRolling {
		if err := d.rollBack(ctx, volume.Name); err != nil {
			return err
		}
	}
	failpoint.Hit("zfs: ghost rolled back, not renamed")
	ghost := d.root.ghost(id, volume.GUID)
	if err := d.zfs.Rename(ctx, volume.Name, ghost); err != nil {
		return err
	}
	failpoint.Hit("zfs: ghost renamed")
	_, err = d.destroyGhost(ctx, ghost) // the last of those volumes may have gone meanwhile
	return err
}

func (d *driver) rollBack(ctx context.Context, volume string) error {
	latest := ""
	for s, err := range d.zfs.Snapshots(ctx, volume) {
		if err != nil {
			return err
		}
		latest = s.Name
	}
	if latest == "" {
		return nil
	}
	return d.zfs.Rollback(ctx, latest)
}

// destroyGhost destroys one that nothing is made of any more. One that is in use stays for the next
// Open: nobody waits for it.
func (d *driver) destroyGhost(ctx context.Context, ghost string) (gone bool, err error) {
	err = d.zfs.Destroy(ctx, ghost)
	switch {
	case err == nil, errors.Is(err, zfsds.ErrNotFound):
		return true, nil
	case errors.Is(err, zfsds.ErrDependents):
		return false, nil
	case errors.Is(err, zfsds.ErrBusy):
		d.tidy.left()
		return false, nil
	}
	return false, err
}

// reap destroys the ghosts that a volume was made of, up to the first one that something else is
// made of, too. Their snapshots went with the volume.
func (d *driver) reap(ctx context.Context, origin string) error {
	for origin != "" {
		of, _, _ := strings.Cut(origin, "@")
		ghost, err := d.zfs.Stat(ctx, of)
		if errors.Is(err, zfsds.ErrNotFound) {
			return d.reapAll(ctx) // it became a ghost just now, or another call has reaped it
		}
		if err != nil || !d.root.isGhost(of) {
			return err
		}
		gone, err := d.destroyGhost(ctx, of)
		if err != nil || !gone {
			return err
		}
		origin = ghost.Origin
	}
	return nil
}

// reapAll destroys all ghosts that nothing is made of.
func (d *driver) reapAll(ctx context.Context) error {
	all, err := d.children(ctx)
	if err != nil {
		return err
	}
	return d.reapAmong(ctx, all)
}

// reapAmong is reapAll with what children listed: the youngest first, since what something is made of is
// older.
func (d *driver) reapAmong(ctx context.Context, all []zfsds.Dataset) error {
	for _, c := range slices.Backward(all) {
		if !d.root.isGhost(c.Name) {
			continue
		}
		// Others' snapshots of it are in the way, and no reason not to open.
		err := d.dropSnapshots(ctx, c.Name)
		d.tidy.leftIf(&err)
		if err != nil && !errors.Is(err, snapshot.ErrBusy) && !errors.Is(err, zfsds.ErrBusy) {
			return err
		}
		if _, err := d.destroyGhost(ctx, c.Name); err != nil {
			return err
		}
	}
	return nil
}

// children lists what lies in the store's dataset, the oldest first.
func (d *driver) children(ctx context.Context) ([]zfsds.Dataset, error) {
	var all []zfsds.Dataset
	for c, err := range d.zfs.Children(ctx, string(d.root)) {
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	slices.SortStableFunc(all, func(a, b zfsds.Dataset) int { return int(int64(a.Created) - int64(b.Created)) })
	return all, nil
}

// sweepUntidy is sweep, unless the last stop was a clean one.
func (d *driver) sweepUntidy(ctx context.Context) error {
	tidy, err := d.tidy.look()
	if tidy || err != nil {
		return err
	}
	d.tidy.settled() // but for what the sweep leaves
	if err := d.sweep(ctx); err != nil {
		d.tidy.left()
		return err
	}
	return nil
}

// sweep finishes what a crash cut short: ghosts that nothing is made of, and snapshots of
// unsealed volumes that no volume was made of yet.
func (d *driver) sweep(ctx context.Context) error {
	all, err := d.children(ctx)
	if err != nil {
		return err
	}
	if err := d.reapAmong(ctx, all); err != nil {
		return err
	}
	sealed := map[string]bool{} // what something is made of is known for that without a request
	for _, c := range all {
		if of, text, _ := strings.Cut(c.Origin, "@"); strings.HasSuffix(of, "/"+text) {
			sealed[of] = true
		}
	}
	for _, c := range all {
		id, ours := d.root.ours(c)
		if !ours || sealed[c.Name] {
			continue
		}
		if err := d.dropStrays(ctx, id, c.Name); err != nil {
			return err
		}
	}
	return nil
}

// dropStrays destroys the snapshots of an unsealed volume that a crash has left before a volume was made of them. Those that
// one was made of go with it.
func (d *driver) dropStrays(ctx context.Context, id snapshot.VolumeID, volume string) error {
	var drop []string
	for s, err := range d.zfs.Snapshots(ctx, volume) {
		if err != nil {
			return err
		}
		_, text, _ := strings.Cut(s.Name, "@")
		of, err := parseID(text)
		if err == nil && of != id || strings.HasPrefix(text, instantPrefix) {
			drop = append(drop, s.Name)
		}
	}
	err := d.zfs.DestroySnapshots(ctx, true, drop...)
	d.tidy.leftIf(&err)
	if errors.Is(err, zfsds.ErrBusy) {
		return nil
	}
	return err
}
