package thinpool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/thinpool/metadata"
)

// DeviceDetails is what the metadata say of a thin device, active or not.
type DeviceDetails = metadata.Device

// listTries bounds how often Devices begins again.
const listTries = 16

// errMoved says that the pool's metadata changed while they were read.
var errMoved = errors.New("metadata changed while being read")

// Devices lists all thin devices of the pool in order of their numbers, from its metadata as of a commit that it
// makes. It reads them beside the running kernel and begins again when they changed meanwhile.
func (p *Pool) Devices(ctx context.Context) ([]DeviceDetails, error) {
	if _, err := p.Commit(ctx); err != nil && !errors.Is(err, ErrReadOnly) {
		return nil, err
	}
	backing, err := p.config.open(ctx)
	if err != nil {
		return nil, err
	}
	defer backing.close()
	f, err := os.OpenFile(backing.metadata.path, os.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("reading metadata of pool %s: %w", p.config.Name, err)
	}
	defer f.Close()
	for range listTries {
		all, err := readDevices(ctx, f)
		switch {
		case err == nil:
			return all, nil
		case !errors.Is(err, errMoved):
			return nil, fmt.Errorf("reading metadata of pool %s: %w", p.config.Name, err)
		}
	}
	return nil, fmt.Errorf("reading metadata of pool %s: %w: %w", p.config.Name, ErrBusy, errMoved)
}

// readDevices reads the superblock, the tree and the superblock again. A block that the kernel freed and wrote anew
// meanwhile would be no part of the tree any more, and the superblock another: it names the roots, and each commit
// moves them.
func readDevices(ctx context.Context, f *os.File) ([]DeviceDetails, error) {
	before, err := readBlock0(f)
	if err != nil {
		return nil, err
	}
	var all []DeviceDetails
	v, readErr := metadata.Open(f)
	if readErr == nil {
		all, readErr = v.Devices(ctx)
	}
	after, err := readBlock0(f)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(before, after) {
		return nil, errMoved
	}
	return all, readErr
}
