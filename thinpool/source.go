package thinpool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/ioctl"
	"blockstore.dev/blockstore/thinpool/metadata"
)

// ReadOptions say which state ReadFrom reads of a pool that is down.
type ReadOptions struct {
	// Held asks for the metadata snapshot that the pool held, metadata.ErrNotHeld for none. Of an active pool ReadFrom
	// always takes and releases one of its own.
	Held bool
}

// ReadFrom calls use with a view of the metadata that name leads to: an active pool's device-mapper name or device, or a
// file or a block device that holds metadata. While an active pool uses that file or device it is read through the pool,
// see ReadMetadata; else as it lies there, and no pool may be made of it meanwhile.
//
// os.ErrNotExist for a name that leads nowhere; ErrInvalid for what can hold no metadata.
func ReadFrom(ctx context.Context, name string, o ReadOptions, use func(*metadata.View) error) error {
	client, err := dm.Open(dm.Options{})
	switch {
	case err == nil:
		defer client.Close()
	case errors.Is(err, dm.ErrNotSupported), errors.Is(err, dm.ErrPermission):
		client = nil // a file can be read all the same
	default:
		return err
	}
	pool, active, err := findPool(ctx, client, name)
	if err != nil {
		return fmt.Errorf("looking for a thin pool at %s: %w", name, err)
	}
	if active {
		return ReadMetadata(ctx, client, pool, use)
	}
	if err := readDown(name, o, use); err != nil {
		return fmt.Errorf("reading metadata in %s: %w", name, err)
	}
	return nil
}

// findPool finds the active pool that name is, or that uses it.
func findPool(ctx context.Context, client *dm.Client, name string) (dm.Ref, bool, error) {
	var st unix.Stat_t
	err := unix.Stat(name, &st)
	switch {
	case errors.Is(err, unix.ENOENT) && !strings.Contains(name, "/") && client != nil:
		_, err := client.Info(ctx, dm.Name(name))
		if errors.Is(err, dm.ErrNotFound) {
			err = fmt.Errorf("neither a file nor a device of that name: %w", os.ErrNotExist)
		}
		return dm.Name(name), true, err
	case err != nil:
		return dm.Ref{}, false, err
	case st.Mode&unix.S_IFMT == unix.S_IFREG:
		return poolOnFile(ctx, client, name)
	case st.Mode&unix.S_IFMT == unix.S_IFBLK:
		return poolOf(ctx, client, dm.NumberOf(st.Rdev))
	}
	return dm.Ref{}, false, fmt.Errorf("it is neither a file nor a block device: %w", ErrInvalid)
}

func poolOnFile(ctx context.Context, client *dm.Client, path string) (dm.Ref, bool, error) {
	loops, err := ioctl.LoopsOf(path)
	if err != nil {
		return dm.Ref{}, false, err
	}
	for _, l := range loops {
		n, err := dm.BlockDeviceNumber(fmt.Sprintf("/dev/loop%d", l))
		if err != nil {
			return dm.Ref{}, false, err
		}
		if ref, active, err := poolOf(ctx, client, n); active || err != nil {
			return ref, active, err
		}
	}
	return dm.Ref{}, false, nil
}

// poolOf is the active pool that a block device is, or that has its metadata there.
func poolOf(ctx context.Context, client *dm.Client, n dm.Number) (dm.Ref, bool, error) {
	if client == nil {
		return dm.Ref{}, false, nil
	}
	if _, ok := thinPoolAt(ctx, client, n); ok {
		return dm.Dev(n), true, nil
	}
	holders, err := filepath.Glob(filepath.Join("/sys/dev/block", n.String(), "holders", "dm-*", "dev"))
	if err != nil {
		return dm.Ref{}, false, err
	}
	for _, h := range holders {
		text, err := os.ReadFile(h)
		if err != nil {
			continue // it has gone
		}
		holder, err := dm.ParseNumber(strings.TrimSpace(string(text)))
		if err != nil {
			return dm.Ref{}, false, err
		}
		if pool, ok := thinPoolAt(ctx, client, holder); ok && pool.Metadata == n {
			return dm.Dev(holder), true, nil
		}
	}
	return dm.Ref{}, false, nil
}

// thinPoolAt is the table of an active pool.
func thinPoolAt(ctx context.Context, client *dm.Client, n dm.Number) (dm.ThinPool, bool) {
	_, lines, err := client.Table(ctx, dm.Dev(n), dm.TableOptions{})
	if err != nil || len(lines) != 1 {
		return dm.ThinPool{}, false
	}
	target, err := dm.ParseTarget(lines[0].Type, lines[0].Params)
	if err != nil {
		return dm.ThinPool{}, false
	}
	pool, ok := target.(dm.ThinPool)
	return pool, ok
}

// readDown reads what no active pool uses.
func readDown(path string, o ReadOptions, use func(*metadata.View) error) (err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	// What the kernel wrote while the pool was active did not go through the page cache.
	if err := ioctl.BlockFlushBuffers(f); err != nil && !errors.Is(err, unix.ENOTTY) && !errors.Is(err, unix.EACCES) {
		return err
	}
	open := metadata.Open
	if o.Held {
		open = metadata.OpenHeld
	}
	v, err := open(f)
	if err != nil {
		return err
	}
	return use(v)
}
