package dm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Path is a device-mapper device's node, /dev/dm-MINOR, which the kernel itself makes in
// devtmpfs at the first Load, before it returns. Minors are used again: [OpenDevice]
// opens the node and compares the number.
func Path(dev Number) string { return "/dev/" + nodeName(dev) }

func nodeName(dev Number) string { return "dm-" + strconv.FormatUint(uint64(dev.Minor), 10) }

// OpenDevice opens a device-mapper device's node with os.OpenFile's flags and verifies that it
// is that device. Where there is no node (a container without devtmpfs) it makes one
// in a private directory and removes it again.
func OpenDevice(dev Number, flag int) (*os.File, error) {
	file, err := openVerified(Path(dev), dev, flag)
	if !errors.Is(err, os.ErrNotExist) {
		return file, err
	}
	dir, err := os.MkdirTemp("", "dm-node-") // mode 0700
	if err != nil {
		return nil, fmt.Errorf("making a node for %s: %w", dev, err)
	}
	defer os.RemoveAll(dir)
	node := filepath.Join(dir, nodeName(dev))
	if err := unix.Mknod(node, unix.S_IFBLK|0o600, int(dev.Dev())); err != nil {
		return nil, fmt.Errorf("making a node for %s: %w", dev, err)
	}
	return openVerified(node, dev, flag)
}

func openVerified(path string, dev Number, flag int) (*os.File, error) {
	file, err := os.OpenFile(path, flag, 0)
	if err != nil {
		return nil, err
	}
	var stat unix.Stat_t
	if err := fstat(file, &stat); err != nil {
		return nil, errors.Join(fmt.Errorf("looking at %s: %w", path, err), file.Close())
	}
	if found := NumberOf(stat.Rdev); stat.Mode&unix.S_IFMT != unix.S_IFBLK || found != dev {
		return nil, errors.Join(fmt.Errorf("%w: %s is device %s, want %s", ErrNotFound, path, found, dev), file.Close())
	}
	return file, nil
}

func fstat(file *os.File, stat *unix.Stat_t) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	if err := raw.Control(func(fd uintptr) { result = unix.Fstat(int(fd), stat) }); err != nil {
		return err
	}
	return result
}

// Publish makes sure that /dev/mapper/NAME leads to the device, for people and programs that
// expect it, and returns that path. Where udev runs it is udev's to make and may
// appear a little later; elsewhere Publish makes the link, as [Client.Link] does.
func (c *Client) Publish(name string, dev Number) (string, error) {
	if err := validateName(name); err != nil {
		return "", err
	}
	if c.udevRuns() {
		return filepath.Join(c.dev, "mapper", name), nil
	}
	return c.Link(name, dev)
}

// Link makes /dev/mapper/NAME lead to the device, in place of a link that leads elsewhere, and
// returns that path. It does so beside a udev, too: for one that does not answer.
func (c *Client) Link(name string, dev Number) (string, error) {
	if err := validateName(name); err != nil {
		return "", err
	}
	link := filepath.Join(c.dev, "mapper", name)
	target := filepath.Join("..", nodeName(dev))
	if current, err := os.Readlink(link); err == nil && current == target {
		return link, nil
	}
	fresh := link + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("publishing %s: %w", name, err)
	}
	if err := os.Symlink(target, fresh); err != nil {
		return "", fmt.Errorf("publishing %s: %w", name, err)
	}
	if err := os.Rename(fresh, link); err != nil {
		return "", errors.Join(fmt.Errorf("publishing %s: %w", name, err), os.Remove(fresh))
	}
	return link, nil
}

// Published says whether there is a /dev/mapper/NAME, whoever made it. It asks device-mapper nothing.
func (c *Client) Published(name string) (bool, error) {
	if err := validateName(name); err != nil {
		return false, err
	}
	_, err := os.Lstat(filepath.Join(c.dev, "mapper", name))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Unpublish removes the link that [Client.Publish] or [Client.Link] made, or that udev made of a device
// that is gone: a udev that slept meanwhile knows nothing of it, and finds nothing missing.
// It does nothing where there is something else than a link.
func (c *Client) Unpublish(name string) error {
	if err := validateName(name); err != nil {
		return err
	}
	link := filepath.Join(c.dev, "mapper", name)
	if _, err := os.Readlink(link); err != nil {
		return nil
	}
	if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("unpublishing %s: %w", name, err)
	}
	return nil
}
