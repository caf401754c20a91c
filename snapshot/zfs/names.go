package zfs

import (
	"fmt"
	"strconv"
	"strings"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/mount"
	"blockstore.dev/blockstore/zfsds"
)

// storeProperty is set on the store's dataset.
const storeProperty = "blockstore:store"

// ghostPrefix begins the names of what is left of removed volumes.
const ghostPrefix = "gone-"

// A dataset is the name of the store's.
type dataset string

func (d dataset) volume(id snapshot.VolumeID) string { return fmt.Sprintf("%s/%d", d, id) }

// seal is the snapshot that a sealed volume is.
func (d dataset) seal(id snapshot.VolumeID) string { return d.made(id, id) }

// made is the snapshot of an origin that a volume is made of.
func (d dataset) made(origin, id snapshot.VolumeID) string {
	return fmt.Sprintf("%s@%d", d.volume(origin), id)
}

// instantPrefix begins the names of snapshots that a volume is looked at by, for a moment.
const instantPrefix = "look-"

func (d dataset) instant(id snapshot.VolumeID, n uint64) string {
	return fmt.Sprintf("%s@%s%d", d.volume(id), instantPrefix, n)
}

func (d dataset) ghost(id snapshot.VolumeID, guid uint64) string {
	return fmt.Sprintf("%s/%s%d-%016x", d, ghostPrefix, id, guid)
}

// isGhost tells whether a dataset's name is one that ghost made.
func (d dataset) isGhost(name string) bool {
	return strings.HasPrefix(name, string(d)+"/"+ghostPrefix)
}

// volumeID is the volume that a dataset's name is, or a snapshot's dataset's.
func (d dataset) volumeID(name string) (snapshot.VolumeID, bool) {
	name, _, _ = strings.Cut(name, "@")
	text, ok := strings.CutPrefix(name, string(d)+"/")
	if !ok {
		return 0, false
	}
	id, err := parseID(text)
	return id, err == nil
}

// parseID reads a number as volume writes it: 07 is none.
func parseID(text string) (snapshot.VolumeID, error) {
	id, err := strconv.ParseUint(text, 10, 32)
	if err == nil && (id > uint64(snapshot.MaxVolumeID) || strconv.FormatUint(id, 10) != text) {
		err = strconv.ErrRange
	}
	return snapshot.VolumeID(id), err
}

// ours tells whether a child of the store's dataset is a volume. Each is a clone of another one,
// but the base.
func (d dataset) ours(c zfsds.Dataset) (snapshot.VolumeID, bool) {
	id, ok := d.volumeID(c.Name)
	ok = ok && c.Type == zfsds.Filesystem && (id == snapshot.Base || strings.HasPrefix(c.Origin, string(d)+"/"))
	return id, ok
}

// uses lists the mounts of the store's dataset and of what lies below it, in this process's mount
// namespace. The kernel shows the present names, also of what was renamed.
func (d dataset) uses() ([]mount.Entry, error) {
	table, err := mount.Table()
	if err != nil {
		return nil, err
	}
	var uses []mount.Entry
	for _, e := range table {
		rest, ok := strings.CutPrefix(e.Source, string(d))
		if e.Type == name && ok && (rest == "" || rest[0] == '/' || rest[0] == '@') {
			uses = append(uses, e)
		}
	}
	return uses, nil
}

// mountsOf are those of one volume.
func (d dataset) mountsOf(uses []mount.Entry, id snapshot.VolumeID) []mount.Entry {
	var all []mount.Entry
	for _, e := range uses {
		if used, ok := d.volumeID(e.Source); ok && used == id {
			all = append(all, e)
		}
	}
	return all
}

// busy is the error of a volume that is mounted, nil for one that is not.
func (d dataset) busy(uses []mount.Entry, id snapshot.VolumeID) error {
	for _, e := range d.mountsOf(uses, id) {
		return fmt.Errorf("zfs: volume %d: %w: it is mounted at %s: unmount it first", id, snapshot.ErrBusy, e.Target)
	}
	return nil
}
