package btrfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/btrfsvol"
	"blockstore.dev/blockstore/ioctl"
	"blockstore.dev/blockstore/snapshot"
)

// Status reads the file system's state.
func (d *driver) Status(context.Context) (snapshot.Status, error) {
	space, err := d.fs.Space()
	if err != nil {
		return snapshot.Status{}, translate(err, "btrfs: status")
	}
	mode, err := d.mode()
	if err != nil {
		return snapshot.Status{}, err
	}
	problem, err := d.problem(mode)
	if err != nil {
		return snapshot.Status{}, err
	}
	status := snapshot.Status{
		Healthy: problem == "",
		Problem: problem,
		Mode:    mode,
		Data:    snapshot.Space{Total: int64(space.Data.Total + space.Unallocated), Used: int64(space.Data.Used + space.Data.Reserved)},
		Metadata: snapshot.Space{
			Total: int64(space.Metadata.Total), Used: int64(space.Metadata.Used + space.Metadata.Reserved),
		},
	}
	status.Rows, err = d.rows(space)
	return status, err
}

func size(b btrfsvol.Bytes) string { return humanize.IBytes(uint64(b)) }

func (d *driver) rows(space btrfsvol.Space) ([]snapshot.Row, error) {
	var rows []snapshot.Row
	row := func(label, format string, args ...any) {
		rows = append(rows, snapshot.Row{Label: label, Value: fmt.Sprintf(format, args...)})
	}
	row("Backing Filesystem", "btrfs")
	row("Filesystem UUID", "%s", d.fs.FSID())
	if d.config.Loopback {
		if err := d.loopRows(row); err != nil {
			return nil, err
		}
	} else {
		row("Directory", "%s", d.fs.Dir())
	}
	row("Data Space Used", "%s", size(space.Data.Used+space.Data.Reserved))
	row("Data Space Total", "%s", size(space.Data.Total+space.Unallocated))
	row("Data Space Available", "%s", size(space.Data.Free()+space.Unallocated))
	row("Metadata Space Used", "%s", size(space.Metadata.Used+space.Metadata.Reserved))
	row("Metadata Space Allocated", "%s", size(space.Metadata.Total))
	row("Unallocated", "%s", size(space.Unallocated))
	if d.config.SimpleQuota {
		row("Size Limits", "simple quotas")
	} else {
		row("Size Limits", "none")
	}
	if mode, err := d.fs.QuotaMode(); err != nil {
		return nil, err
	} else if mode == btrfsvol.QuotaFull {
		row("Warning", "full quotas are on, which makes snapshots and removal slow: btrfs quota disable %s, if nobody needs them", d.fs.Dir())
	}
	backlog, err := d.fs.Backlog()
	row("Deleted And Not Yet Freed", "%d volumes", backlog)
	return rows, translate(err, "btrfs: status")
}

func (d *driver) loopRows(row func(label, format string, args ...any)) error {
	free, occupied, err := d.places.file().Space()
	if err != nil {
		return err
	}
	row("Loopback File", "%s", d.places.image)
	row("Loopback File Occupies", "%s", humanize.IBytes(uint64(occupied)))
	row("Host Space Available", "%s", humanize.IBytes(uint64(max(free, 0))))
	devices, err := d.fs.Devices()
	if err != nil {
		return err
	}
	for _, device := range devices {
		row("Loop Device", "%s", filepath.Base(device.Path))
	}
	return nil
}

// modeReadOnly is the mode of a file system that takes no more writes.
const modeReadOnly = "ro"

func (d *driver) mode() (string, error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(d.fs.Dir(), &stat); err != nil {
		return "", fmt.Errorf("btrfs: statfs %s: %w", d.fs.Dir(), err)
	}
	if stat.Flags&unix.ST_RDONLY != 0 {
		return modeReadOnly, nil
	}
	return "rw", nil
}

// problem says what a person must mend, "" for nothing.
func (d *driver) problem(mode string) (string, error) {
	if mode == modeReadOnly {
		return "the file system has become read-only after an error: see the kernel's log, then unmount and check it (btrfs check)", nil
	}
	devices, err := d.fs.Devices()
	if err != nil {
		return "", translate(err, "btrfs: status")
	}
	for _, device := range devices {
		if device.Errors.Any() {
			return fmt.Sprintf("device %s had errors (%+v): check it, then btrfs scrub, btrfs device stats --reset", device.Path, device.Errors), nil
		}
	}
	return d.shortage()
}

// shortage is problem's part about space.
func (d *driver) shortage() (string, error) {
	free, enough, err := d.free()
	if err != nil {
		return "", err
	}
	if !enough {
		return fmt.Sprintf("the file system is full, %s left: remove containers or images, or make it larger", humanize.IBytes(free)), nil
	}
	if !d.config.Loopback {
		return "", nil
	}
	if err = d.places.file().Room(); errors.Is(err, snapshot.ErrNoSpace) {
		return err.Error(), nil
	}
	return "", err
}

// Grow makes the loopback file and the file system on it larger, while in use.
func (d loopDriver) Grow(_ context.Context, size int64) error {
	err := d.grow(size)
	return translate(err, "btrfs: grow to %s", humanize.IBytes(uint64(max(size, 0))))
}

func (d loopDriver) grow(size int64) error {
	var stat unix.Stat_t
	if err := unix.Stat(d.places.image, &stat); err != nil {
		return err
	}
	if size < stat.Size {
		return fmt.Errorf("%w: it is %s already, and shrinking is not for loopback files", snapshot.ErrNotSupported, humanize.IBytes(uint64(stat.Size)))
	}
	if err := unix.Truncate(d.places.image, size); err != nil {
		return err
	}
	loop, err := ioctl.FindLoop(d.places.image)
	if err != nil {
		return err
	}
	err = loop.Refresh()
	if err == nil {
		err = d.fs.GrowToDevice()
	}
	return errors.Join(err, loop.Close())
}

// Trim gives free blocks back to the host: holes in the loopback file.
func (d loopDriver) Trim(context.Context) (int64, error) {
	// What the cleaner freed is pinned, and not trimmed, until the next commit.
	if err := d.fs.Commit(); err != nil {
		return 0, translate(err, "btrfs: trim")
	}
	dir, err := os.Open(d.fs.Dir())
	if err != nil {
		return 0, err
	}
	trimmed, err := ioctl.Trim(dir, 0)
	return int64(trimmed), errors.Join(translate(err, "btrfs: trim"), dir.Close())
}
