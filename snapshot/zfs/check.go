package zfs

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/zfsds"
)

// Volumes lists the volumes that exist, from FirstVolumeID on. It costs a request for each, and
// none for others of the pool.
func (d *driver) Volumes(ctx context.Context) ([]snapshot.VolumeID, error) {
	all, err := d.children(ctx)
	if err != nil {
		return nil, translate(err, "zfs: list volumes")
	}
	var ids []snapshot.VolumeID
	for _, c := range all {
		if id, ours := d.root.ours(c); ours && id >= snapshot.FirstVolumeID {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// Exist costs a request for each.
func (d *driver) Exist(ctx context.Context, ids ...snapshot.VolumeID) ([]snapshot.VolumeID, error) {
	var exist []snapshot.VolumeID
	for _, id := range ids {
		c, err := d.zfs.Stat(ctx, d.root.volume(id))
		if errors.Is(err, zfsds.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, translate(err, "zfs: looking for volume %d", id)
		}
		if _, ours := d.root.ours(c); ours {
			exist = append(exist, id)
		}
	}
	return exist, nil
}

// Check compares the file systems and their seals with the catalog.
func (d *driver) Check(ctx context.Context, known []snapshot.Volume) ([]snapshot.Finding, error) {
	all, err := d.children(ctx)
	if err != nil {
		return nil, translate(err, "zfs: check")
	}
	var findings []snapshot.Finding
	found := func(id snapshot.VolumeID, mend, format string, args ...any) {
		findings = append(findings, snapshot.Finding{Volume: id, Text: fmt.Sprintf(format, args...), Mend: mend})
	}
	here := map[snapshot.VolumeID]bool{}
	for _, c := range all {
		id, ours := d.root.ours(c)
		switch {
		case ours:
			here[id] = true
		case !d.root.isGhost(c.Name):
			found(snapshot.Base, "if it is nobody's, destroy it; else rename it out of "+string(d.root), "%s is not the store's", c.Name)
		}
	}
	for _, v := range append([]snapshot.Volume{{ID: snapshot.Base, Sealed: true}}, known...) {
		if !here[v.ID] {
			found(v.ID, "remove what needs it and load it again", "volume %d is in the catalog but not in the pool", v.ID)
			continue
		}
		delete(here, v.ID)
		if !v.Sealed {
			continue
		}
		_, err := d.zfs.Stat(ctx, d.root.seal(v.ID))
		if errors.Is(err, zfsds.ErrNotFound) {
			found(v.ID, "remove what needs it and load it again", "volume %d is a layer without its snapshot %s", v.ID, d.root.seal(v.ID))
		} else if err != nil {
			return nil, translate(err, "zfs: check")
		}
	}
	for id := range here {
		if id >= snapshot.FirstVolumeID {
			found(id, "`check --repair` makes it a container", "volume %d is in the pool but not in the catalog", id)
		}
	}
	slices.SortFunc(findings, func(a, b snapshot.Finding) int { return int(a.Volume) - int(b.Volume) })
	status, err := d.Status(ctx)
	if err == nil && status.Problem != "" {
		findings = append(findings, snapshot.Finding{Text: status.Problem})
	}
	return findings, err
}
