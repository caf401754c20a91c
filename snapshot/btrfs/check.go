package btrfs

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"blockstore.dev/blockstore/btrfsvol"
	"blockstore.dev/blockstore/snapshot"
)

// A present volume is one that the kernel has.
type present struct {
	subvolume btrfsvol.Subvolume
	id        snapshot.VolumeID
	known     bool // its name is a volume's and it lies in that volume's shard
}

// present lists the subvolumes that lie in shards, by one walk of the tree of roots.
// Those that containers nested in volumes are not among them.
func (d *driver) present() ([]present, error) {
	all, err := d.fs.Subvolumes()
	if err != nil {
		return nil, translate(err, "btrfs: list volumes")
	}
	var here []present
	for _, s := range all {
		shard, ours := d.shards[s.DirInode]
		if s.Parent != d.id || !ours {
			continue
		}
		id, err := strconv.ParseUint(s.Name, 10, 32)
		known := err == nil && id <= uint64(snapshot.MaxVolumeID) && int(id%shards) == shard
		here = append(here, present{subvolume: s, id: snapshot.VolumeID(id), known: known})
	}
	return here, nil
}

// Volumes lists the volumes that exist, from FirstVolumeID on.
func (d *driver) Volumes(context.Context) ([]snapshot.VolumeID, error) {
	here, err := d.present()
	if err != nil {
		return nil, err
	}
	var ids []snapshot.VolumeID
	for _, p := range here {
		if p.known && p.id >= snapshot.FirstVolumeID {
			ids = append(ids, p.id)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// Check compares the subvolumes with the catalog, and looks for what the file
// system itself reports.
func (d *driver) Check(_ context.Context, known []snapshot.Volume) ([]snapshot.Finding, error) {
	here, err := d.present()
	if err != nil {
		return nil, err
	}
	var findings []snapshot.Finding
	found := func(id snapshot.VolumeID, mend, format string, args ...any) {
		findings = append(findings, snapshot.Finding{Volume: id, Text: fmt.Sprintf(format, args...), Mend: mend})
	}
	subvolumes := map[snapshot.VolumeID]btrfsvol.Subvolume{}
	for _, p := range here {
		if p.known {
			subvolumes[p.id] = p.subvolume
			continue
		}
		found(snapshot.Base, "if it is nobody's, delete it: btrfs subvolume delete",
			"subvolume %q in shard %s is not the store's", p.subvolume.Name, shardName(d.shards[p.subvolume.DirInode]))
	}
	for _, v := range append([]snapshot.Volume{{ID: snapshot.Base, Sealed: true}}, known...) {
		s, ok := subvolumes[v.ID]
		delete(subvolumes, v.ID)
		switch {
		case !ok:
			found(v.ID, "remove what needs it and load it again", "volume %d is in the catalog but not in the file system", v.ID)
		case v.Sealed && !s.ReadOnly:
			found(v.ID, "if nothing has written to it: btrfs property set "+d.dirOf(v.ID)+" ro true", "volume %d is a layer but writable", v.ID)
		}
	}
	for id := range subvolumes {
		if id >= snapshot.FirstVolumeID {
			found(id, "`check --repair` makes it a container", "volume %d is in the file system but not in the catalog", id)
		}
	}
	slices.SortFunc(findings, func(a, b snapshot.Finding) int { return int(a.Volume) - int(b.Volume) })
	mode, err := d.mode()
	if err != nil {
		return findings, err
	}
	problem, err := d.problem(mode)
	if problem != "" {
		findings = append(findings, snapshot.Finding{Text: problem})
	}
	return findings, err
}
