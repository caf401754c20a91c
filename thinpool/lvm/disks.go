package lvm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/ioctl"
	"blockstore.dev/blockstore/thinpool"
)

// aDisk is a disk that is to be taken.
type aDisk struct {
	path string
	size uint64
	// wipe says that it holds old data, or our label from an attempt that was cut short.
	wipe bool
}

type diskList []aDisk

func (l diskList) paths() []string {
	var paths []string
	for _, d := range l {
		paths = append(paths, d.path)
	}
	return paths
}

// checked are the disks that were named and are to be taken.
type checked struct {
	fresh diskList
	// used are the uuids that physical volumes have.
	used map[string]bool
}

func (c checked) total() uint64 {
	var n uint64
	for _, d := range c.fresh {
		n += d.size
	}
	return n
}

// CheckDisks says whether CreateGroup or Extend would take the disks, and how many bytes those have that are not in the
// owner's group already. It changes nothing.
func (t *Tool) CheckDisks(ctx context.Context, o GroupOptions) (uint64, error) {
	group := ""
	if g, err := t.ownGroup(ctx, o.Owner); err == nil {
		group = g.Name
	} else if !errors.Is(err, ErrNotFound) {
		return 0, err
	}
	c, err := t.checkDisks(ctx, o, group)
	return c.total(), err
}

// checkDisks looks at the disks before anything is done to one of them. A disk that is in the group already is passed
// over.
func (t *Tool) checkDisks(ctx context.Context, o GroupOptions, group string) (checked, error) {
	var c checked
	if len(o.Devices) == 0 {
		return c, fmt.Errorf("no disk is named: %w", thinpool.ErrInvalid)
	}
	labelled, err := t.labelled(ctx)
	if err != nil {
		return c, err
	}
	c.used = map[string]bool{}
	for _, d := range labelled {
		c.used[d.UUID] = true
	}
	ours := diskUUIDs(o.Owner)
	seen := map[dm.Number]string{}
	for _, path := range o.Devices {
		if path, err = filepath.Abs(path); err != nil {
			return c, err
		}
		number, err := dm.BlockDeviceNumber(path)
		if err != nil {
			return c, fmt.Errorf("%w: %w", thinpool.ErrInvalid, err)
		}
		if other, ok := seen[number]; ok {
			return c, fmt.Errorf("%s and %s are the same disk: %w", other, path, thinpool.ErrInvalid)
		}
		seen[number] = path
		label, ok := labelled[number]
		if ok && label.Group != "" && label.Group == group {
			continue
		}
		if ok && label.Group != "" {
			return c, fmt.Errorf("%s belongs to volume group %s: take it out first (vgreduce, vgremove): %w", path, label.Group, thinpool.ErrBusy)
		}
		d, err := look(path, o.Force || ok && ours[label.UUID])
		if err != nil {
			return c, err
		}
		c.fresh = append(c.fresh, d)
	}
	return c, nil
}

// labelled are the physical volumes by device number: paths have many names.
func (t *Tool) labelled(ctx context.Context) (map[dm.Number]Disk, error) {
	disks, err := t.Disks(ctx)
	if err != nil {
		return nil, err
	}
	all := map[dm.Number]Disk{}
	for _, d := range disks {
		if n, err := dm.BlockDeviceNumber(d.Path); err == nil { // one that is missing has no path
			all[n] = d
		}
	}
	return all, nil
}

// look makes sure that a disk is free, and blank unless old data may go.
func look(path string, force bool) (aDisk, error) {
	d := aDisk{path: path}
	err := thinpool.CheckBlank(path)
	d.wipe = errors.Is(err, thinpool.ErrNotBlank) && force
	if err != nil && !d.wipe {
		return d, err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return d, fmt.Errorf("looking at disk: %w", err)
	}
	defer f.Close()
	if d.size, err = ioctl.BlockSize(f); err != nil {
		return d, err
	}
	readOnly, err := ioctl.BlockReadOnly(f)
	if err == nil && readOnly {
		err = fmt.Errorf("%s is read-only: %w", path, thinpool.ErrInvalid)
	}
	return d, err
}

// label makes physical volumes of disks, with uuids by which they are known as the owner's.
func (t *Tool) label(ctx context.Context, o GroupOptions, disks checked) error {
	n := 0
	for _, d := range disks.fresh {
		if d.wipe {
			if err := t.wipe(d.path); err != nil {
				return err
			}
		}
		for n < maxDisks && disks.used[diskUUID(o.Owner, n)] {
			n++
		}
		if n == maxDisks {
			return fmt.Errorf("a group takes %d disks: %w", maxDisks, thinpool.ErrInvalid)
		}
		if _, err := t.run(ctx, "pvcreate", "--yes", "--norestorefile", "--uuid", diskUUID(o.Owner, n), d.path); err != nil {
			return err
		}
		n++
	}
	return nil
}
