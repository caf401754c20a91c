package zfsds

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/ioctl"
	"blockstore.dev/blockstore/zfsds/nvlist"
)

const (
	devicePath  = "/dev/zfs"
	versionPath = "/sys/module/zfs/version"
)

// openKernel opens /dev/zfs and makes sure that the module means what this package means.
func openKernel(ctx context.Context) (*kernel, error) {
	file, err := openDevice()
	if err != nil {
		return nil, err
	}
	k := &kernel{file: file}
	k.call = func(request uintptr, b *ioctl.ZFSBuffer, source, destination []byte) error {
		return ioctl.ZFSCall(int(file.Fd()), request, b, source, destination)
	}
	version, err := os.ReadFile(versionPath)
	if err == nil {
		err = checkVersion(strings.TrimSpace(string(version)))
	}
	if err == nil {
		err = k.selfTest(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return k, nil
}

// openDevice opens the device without O_NONBLOCK, so that the runtime leaves it alone.
func openDevice() (*os.File, error) {
	fd, err := unix.Open(devicePath, unix.O_RDWR|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV):
		return nil, fmt.Errorf("zfs: %w: install OpenZFS 2.0 or later and load it (modprobe zfs)", errNoModule)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return nil, fmt.Errorf("zfs: open %s: %w: run as root", devicePath, err)
	case err != nil:
		return nil, &fs.PathError{Op: "open", Path: devicePath, Err: err}
	}
	return os.NewFile(uintptr(fd), devicePath), nil
}

// checkVersion accepts the releases whose headers were compared: see ioctl.ZFSCmd.
func checkVersion(version string) error {
	release, _, _ := strings.Cut(version, "-")
	parts := strings.Split(release, ".")
	var numbers [3]int
	for i, part := range parts[:min(len(parts), len(numbers))] {
		n, err := strconv.Atoi(part)
		if err != nil {
			return fmt.Errorf("zfs: %w: the module's version %q", ErrNotSupported, version)
		}
		numbers[i] = n
	}
	if numbers[0] != 2 || numbers[1] > 4 || release == "2.3.1" {
		return fmt.Errorf("zfs: %w: requests to a module of version %q: known are 2.0 to 2.4 except 2.3.1", ErrNotSupported, version)
	}
	return nil
}

// selfTest reads something, and, where there is a pool, compares fields of the struct with the
// same said in a list.
func (k *kernel) selfTest(ctx context.Context) error {
	pools, err := k.pools(ctx)
	if err != nil {
		return failure("self-test:", "list pools", err)
	}
	for _, pool := range pools {
		err := errors.Join(k.testLayout(pool), k.testArguments(pool))
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EIO) { // exported meanwhile, or suspended
			return fmt.Errorf("zfs: self-test with pool %s: %w", pool, err)
		}
	}
	return nil
}

func (k *kernel) testLayout(pool string) error {
	b, properties, err := k.do(request{number: ioctl.ZFS_IOC_OBJSET_STATS, name: pool, room: firstRoom, repeat: true})
	if err != nil {
		return err
	}
	d := datasetOf(b, pool)
	for name, field := range map[string]uint64{"guid": d.GUID, "createtxg": d.Created} {
		said, err := nvlist.Get[*nvlist.List](properties, name)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrNotSupported, err)
		}
		value, err := nvlist.Get[uint64](said, "value")
		if err != nil || value != field {
			return fmt.Errorf("%w: %s is %d in the struct and %d in the list", ErrNotSupported, name, field, value)
		}
	}
	return nil
}

// testArguments makes sure that a new-style request refuses arguments that it does not know. The
// snapshot that it names cannot exist, so that nothing is made whatever the module does.
func (k *kernel) testArguments(pool string) error {
	unknown := new(nvlist.List).Set("origin", pool+"@blockstore%none").Set("blockstore", nvlist.Flag{})
	_, _, err := k.do(request{number: ioctl.ZFS_IOC_CLONE, name: pool + "/blockstore-self-test", arguments: unknown})
	if !errors.Is(err, unix.Errno(ioctl.ZFS_ERR_IOC_ARG_UNAVAIL)) {
		return fmt.Errorf("%w: a request with an unknown argument gave %v", ErrNotSupported, err)
	}
	return nil
}
