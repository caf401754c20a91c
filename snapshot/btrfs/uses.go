package btrfs

import (
	"fmt"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/mount"
)

// A location is a directory as mountinfo shows it: the file system's device, which
// all mounts of it share, and the path from the file system's root.
type location struct {
	major, minor uint32
	path         string
}

// locate finds a directory in this process's mounts.
func locate(dir string) (location, error) {
	table, err := mount.Table()
	if err != nil {
		return location{}, err
	}
	var best mount.Entry
	for _, e := range table {
		// The later of two at one place covers the earlier.
		if within(dir, e.Target) && len(e.Target) >= len(best.Target) {
			best = e
		}
	}
	if best.Type != "btrfs" {
		return location{}, fmt.Errorf("btrfs: %s: %w: it is shown by a mount of type %q", dir, snapshot.ErrCorrupt, best.Type)
	}
	below, err := filepath.Rel(best.Target, dir)
	if err != nil {
		return location{}, err
	}
	return location{major: best.Major, minor: best.Minor, path: path.Join(best.Root, below)}, nil
}

// within tells whether path is dir or lies beneath it.
func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// usesBelow lists the mount points that show something at or beneath a path of
// the location. Only mounts tell: the kernel lets a mounted subvolume be deleted.
func (l location) usesBelow(relative string) ([]string, error) {
	uses, err := l.uses()
	if err != nil {
		return nil, err
	}
	var targets []string
	for _, e := range uses {
		if within(e.Root, path.Join(l.path, relative)) {
			targets = append(targets, e.Target)
		}
	}
	return targets, nil
}

// uses lists the mounts of something beneath the location.
func (l location) uses() ([]mount.Entry, error) {
	table, err := mount.Table()
	if err != nil {
		return nil, err
	}
	var uses []mount.Entry
	for _, e := range table {
		if e.Major == l.major && e.Minor == l.minor && within(e.Root, l.path) && e.Root != l.path {
			uses = append(uses, e)
		}
	}
	return uses, nil
}

// busy is the error of a volume that is mounted, nil for one that is not.
func (l location) busy(uses []mount.Entry, id snapshot.VolumeID) error {
	for _, e := range uses {
		if within(e.Root, path.Join(l.path, pathOf(id))) {
			return fmt.Errorf("btrfs: volume %d: %w: it is mounted at %s: unmount it first (%w)", id, snapshot.ErrBusy, e.Target, unix.EBUSY)
		}
	}
	return nil
}
