package btrfs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/btrfsvol"
	"blockstore.dev/blockstore/ioctl"
	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/loopback"
	"blockstore.dev/blockstore/snapshot/mount"
)

// config is what the catalog keeps of a backing store. Paths follow from the
// store's root, which may move.
type config struct {
	// Loopback: a file system of our own in a file, else the root's.
	Loopback bool `json:"loopback"`
	// FSID and Volumes identify the file system and the volumes' subvolume in it.
	FSID    uuid.UUID `json:"fsid"`
	Volumes uuid.UUID `json:"volumes"`
	// SimpleQuota: size limits act.
	SimpleQuota bool `json:"simpleQuota"`
}

func parseConfig(text json.RawMessage) (config, error) {
	var c config
	if err := json.Unmarshal(text, &c); err != nil {
		return c, fmt.Errorf("btrfs: the catalog's configuration: %w: %w", snapshot.ErrCorrupt, err)
	}
	return c, nil
}

// places are the paths of a store.
type places struct {
	driver string // everything below
	image  string // the loopback file
	mount  string // where it is mounted
}

func placesOf(root string) (places, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return places{}, err
	}
	// mountinfo shows resolved paths.
	if resolved, err := filepath.EvalSymlinks(root); err == nil {
		root = resolved
	}
	driver := filepath.Join(root, "driver")
	return places{driver: driver, image: filepath.Join(driver, "btrfs.img"), mount: filepath.Join(driver, "mnt")}, nil
}

func (p places) file() loopback.File { return loopback.File(p.image) }

// top is the directory that the volumes' subvolume lies in.
func (p places) top(loopback bool) string {
	if loopback {
		return p.mount
	}
	return p.driver
}

// onBtrfs tells whether the directory, or what of its path exists, lies on btrfs.
func onBtrfs(dir string) (bool, error) {
	for {
		var stat unix.Statfs_t
		err := unix.Statfs(dir, &stat)
		if errors.Is(err, unix.ENOENT) && dir != "/" {
			dir = filepath.Dir(dir)
			continue
		}
		if err != nil {
			return false, &os.PathError{Op: "statfs", Path: dir, Err: err}
		}
		return stat.Type == unix.BTRFS_SUPER_MAGIC, nil
	}
}

// nodeSize is half of mkfs' choice, as far as the machine's pages allow: the first change in a snapshot copies each shared node
// that it touches, and counts a reference for every extent in there. See docs/adr/0011.
func nodeSize() btrfsvol.Bytes { return btrfsvol.Bytes(max(8<<10, os.Getpagesize())) }

// makeImage makes and formats the loopback file.
func (p places) makeImage(ctx context.Context, size int64) error {
	f, err := os.OpenFile(p.image, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = errors.Join(f.Truncate(size), f.Close())
	if err == nil {
		err = btrfsvol.Format(ctx, p.image, btrfsvol.FormatOptions{Label: "blockstore", NodeSize: nodeSize()})
	}
	return err
}

// bringUp mounts the loopback file, unless it is mounted already, on the loop
// device that it has already, if it has one. The device goes with its last mount.
func (p places) bringUp(ctx context.Context) error {
	if mounted, err := p.mounted(); mounted || err != nil {
		return err
	}
	if err := os.MkdirAll(p.mount, 0o700); err != nil {
		return err
	}
	loop, err := ioctl.FindLoop(p.image)
	if errors.Is(err, ioctl.ErrLoopNotFound) {
		loop, err = ioctl.AttachLoop(ctx, p.image, ioctl.LoopOptions{AutoClear: true})
	}
	if err != nil {
		return err
	}
	// noatime, since reading would copy metadata; discard, so that what is deleted is
	// a hole in the file soon after (btrfs(5)).
	err = mount.At(mount.Mount{Type: "btrfs", Source: loop.Path(), Options: []string{"noatime", "discard=async"}}, p.mount)
	if err == nil {
		// What is bound from here is not copied to other mount namespaces, where it
		// would keep volumes busy.
		err = unix.Mount("", p.mount, "", unix.MS_PRIVATE, "")
	}
	return errors.Join(err, loop.Close())
}

// detachWait bounds the waiting for a loop device to go. It goes with its last
// user, and anybody on the host who looks through the loop devices is one for a moment.
const detachWait = 2 * time.Second

// takeDown unmounts it. Volumes that are mounted elsewhere hold the file system
// and the loop device until they go; bringUp finds both again.
func (p places) takeDown() error {
	mine, err := p.entry()
	if err != nil || mine == nil {
		return err
	}
	err = mount.Unmount(p.mount)
	if errors.Is(err, unix.EBUSY) {
		return nil
	}
	if err != nil {
		return err
	}
	table, err := mount.Table()
	if err != nil {
		return err
	}
	for _, e := range table {
		if e.Major == mine.Major && e.Minor == mine.Minor {
			return nil
		}
	}
	return p.waitDetached(mine.Source)
}

// waitDetached looks into sysfs rather than at the device, which would be to use it.
func (p places) waitDetached(device string) error {
	file := filepath.Join("/sys/block", filepath.Base(device), "loop/backing_file")
	for end := time.Now().Add(detachWait); time.Now().Before(end); time.Sleep(time.Millisecond) {
		backing, err := os.ReadFile(file)
		if errors.Is(err, unix.ENODEV) { // it went between open and read
			return nil
		}
		if err != nil || strings.TrimSpace(string(backing)) != p.image {
			return absentIsFine(err)
		}
	}
	return nil
}

// entry is the file system's line in mountinfo, nil if it is not mounted.
func (p places) entry() (*mount.Entry, error) {
	table, err := mount.Table()
	if err != nil {
		return nil, err
	}
	for _, e := range table {
		if e.Target == p.mount && e.Type == "btrfs" {
			return &e, nil
		}
	}
	return nil, nil
}

func (p places) mounted() (bool, error) {
	mine, err := p.entry()
	return mine != nil, err
}
