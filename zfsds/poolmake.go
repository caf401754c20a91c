package zfsds

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// PoolOptions are the options of CreatePool.
type PoolOptions struct {
	// Name of the new pool.
	Name string
	// File, an absolute path, and Size make the pool of a sparse file, which is made, too: the
	// loopback form. It takes no loop device.
	File string
	Size Bytes
	// Devices are given to the pool instead.
	Devices []string
	// Properties are those of the pool's root file system; mountpoint=none unless given.
	Properties Properties
}

// leastPool is SPA_MINDEVSIZE.
const leastPool = 64 << 20

// CreatePool makes a pool, by zpool(8), which no boot imports by itself (cachefile=none) and
// that gives freed blocks back to the file or the devices (autotrim=on). Without redundancy. A
// failure leaves no file.
func (h *Handle) CreatePool(ctx context.Context, o PoolOptions) (err error) {
	if err := ready(ctx, checkDataset(o.Name), o.Properties.check(), o.check()); err != nil {
		return err
	}
	vdevs := o.Devices
	if o.File != "" {
		if err := makeFile(o.File, o.Size); err != nil {
			return err
		}
		defer func() {
			if err != nil {
				err = errors.Join(err, os.Remove(o.File))
			}
		}()
		vdevs = []string{o.File}
	}
	p := Properties{"mountpoint": "none"}
	for name, value := range o.Properties {
		p[name] = value
	}
	arguments := []string{"create", "-o", "ashift=12", "-o", "cachefile=none", "-o", "autotrim=on"}
	for i, word := range p.options() {
		if i%2 == 0 {
			word = "-O"
		}
		arguments = append(arguments, word)
	}
	_, err = run(ctx, "zpool", slices.Concat(arguments, []string{o.Name}, vdevs)...)
	return failure("create pool", o.Name, err)
}

func (o PoolOptions) check() error {
	switch {
	case poolOf(o.Name) != o.Name:
		return fmt.Errorf("zfs: %w: %q is no name of a pool", ErrInvalid, o.Name)
	case (o.File == "") == (len(o.Devices) == 0):
		return fmt.Errorf("zfs: %w: a pool is made of a file, or of devices", ErrInvalid)
	case o.File != "" && (!filepath.IsAbs(o.File) || o.Size < leastPool):
		return fmt.Errorf("zfs: %w: a pool's file %q of %d bytes: an absolute path, and at least %d", ErrInvalid, o.File, o.Size, leastPool)
	}
	for _, device := range o.Devices {
		if !filepath.IsAbs(device) {
			return fmt.Errorf("zfs: %w: device %q: an absolute path is needed", ErrInvalid, device)
		}
	}
	return nil
}

func makeFile(path string, size Bytes) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("zfs: make a pool's file: %w", err)
	}
	if err := errors.Join(f.Truncate(int64(size)), f.Close()); err != nil {
		return errors.Join(fmt.Errorf("zfs: make a pool's file: %w", err), os.Remove(path))
	}
	return nil
}

// ImportPool brings up a pool that lies on devices or files in a directory, which is the only
// place that is looked into, without mounting anything. A pool that was not exported, since the
// machine stopped or it was another one, is taken all the same: the caller makes sure that no
// other machine has it. ErrNotFound when it is not there, ErrExists when it is imported.
func (h *Handle) ImportPool(ctx context.Context, name, dir string) error {
	if err := ready(ctx, checkDataset(name)); err != nil {
		return err
	}
	_, err := run(ctx, "zpool", "import", "-f", "-N", "-o", "cachefile=none", "-d", dir, name)
	return failure("import pool", name, err)
}

// ExportPool lets go of a pool, so that its files and devices are free and another machine may
// import it. zpool(8) unmounts what is mounted of it; ErrBusy when that is in use, or mounted in
// another mount namespace.
func (h *Handle) ExportPool(ctx context.Context, name string) error {
	if err := ready(ctx, checkDataset(name)); err != nil {
		return err
	}
	_, err := run(ctx, "zpool", "export", name)
	return failure("export pool", name, err)
}

// DestroyPool destroys a pool and everything in it, mounts as in ExportPool. A file that it was made
// of stays.
func (h *Handle) DestroyPool(ctx context.Context, name string) error {
	if err := ready(ctx, checkDataset(name)); err != nil {
		return err
	}
	_, err := run(ctx, "zpool", "destroy", name)
	return failure("destroy pool", name, err)
}

// growWait bounds the wait for a pool to have what it has been given.
const growWait = 2 * time.Second

// GrowPool has a pool use all of a file or device that has become larger. The kernel adds it in the background, which is
// waited for, but not longer than two seconds: how much it will be, if anything, nothing tells.
func (h *Handle) GrowPool(ctx context.Context, name, vdev string) error {
	if err := ready(ctx, checkDataset(name)); err != nil {
		return err
	}
	before, err := h.pool(ctx, name)
	if err == nil {
		_, err = run(ctx, "zpool", "online", "-e", name, vdev)
	}
	now := before
	for deadline := time.Now().Add(growWait); err == nil && now.Size == before.Size && time.Now().Before(deadline); {
		select {
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
			now, err = h.pool(ctx, name)
		}
	}
	return failure("grow pool", name, err)
}

// TrimPool gives a pool's free space back to its files and devices, and waits for it.
func (h *Handle) TrimPool(ctx context.Context, name string) error {
	if err := ready(ctx, checkDataset(name)); err != nil {
		return err
	}
	_, err := run(ctx, "zpool", "trim", "-w", name)
	return failure("trim pool", name, err)
}
