package peers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"blockstore.dev/blockstore/perf"
	"blockstore.dev/blockstore/snapshot/mount"
)

// volumes are block devices with a file system each, mounted below mnt while they
// are shown.
type volumes struct {
	mnt string
	ops volumeOps
}

// volumeOps are what floor, dmsetup and LVM do differently.
type volumeOps interface {
	// create makes an empty volume, snapshot one with a layer's content.
	create(ctx context.Context, name string) error
	snapshot(ctx context.Context, layer, name string) error
	// activate makes a volume's device appear, deactivate disappear.
	activate(ctx context.Context, name string) (path string, err error)
	deactivate(ctx context.Context, name string) error
	remove(ctx context.Context, names ...string) error
}

// mkfsOptions lay a file system out for blocks of 64 KiB, as our own store does, so
// that writes of whole blocks need no copy, with a small journal.
var mkfsOptions = []string{"-q", "-E", "stride=16,stripe_width=16,lazy_itable_init=1,nodiscard", "-J", "size=4"}

func openVolumes(s *Site, ops volumeOps) (Store, error) {
	v := &volumes{filepath.Join(s.Dir, "mnt"), ops}
	s.Undo.Add(v.mnt, func() error { return perf.UnmountAll(v.mnt) })
	return v, os.Mkdir(v.mnt, 0o755)
}

func (v *volumes) path(name string) string { return filepath.Join(v.mnt, name) }

func (v *volumes) Layer(ctx context.Context, name, parent string, fill func(string) error) error {
	var err error
	if parent == "" {
		err = v.format(ctx, name)
	} else {
		err = v.Create(ctx, name, parent)
	}
	if err != nil {
		return err
	}
	return filled(ctx, v, name, fill)
}

func (v *volumes) format(ctx context.Context, name string) error {
	if err := v.ops.create(ctx, name); err != nil {
		return err
	}
	path, err := v.ops.activate(ctx, name)
	if err != nil {
		return err
	}
	_, err = perf.Output(ctx, "mkfs.ext4", append(append([]string{}, mkfsOptions...), path)...)
	return errors.Join(err, v.ops.deactivate(ctx, name))
}

func (v *volumes) Create(ctx context.Context, name, layer string) error {
	return v.ops.snapshot(ctx, layer, name)
}

func (v *volumes) Mount(ctx context.Context, name string) (string, error) {
	path, err := v.ops.activate(ctx, name)
	if err != nil {
		return "", err
	}
	dir := v.path(name)
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	return dir, mount.At(mount.Mount{Type: "ext4", Source: path, Options: []string{"noatime", "noinit_itable"}}, dir)
}

func (v *volumes) Unmount(ctx context.Context, name string) error {
	if err := mount.Unmount(v.path(name)); err != nil {
		return err
	}
	return errors.Join(os.Remove(v.path(name)), v.ops.deactivate(ctx, name))
}

func (v *volumes) Remove(ctx context.Context, name string) error { return v.ops.remove(ctx, name) }

// RemoveMany is one command where it is LVM's.
func (v *volumes) RemoveMany(ctx context.Context, names []string) error {
	return v.ops.remove(ctx, names...)
}

// numbers gives thin devices their ids.
type numbers struct {
	mu   sync.Mutex
	next uint32
	of   map[string]uint32
}

// take gives a name a number.
func (n *numbers) take(name string) uint32 {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.next++
	n.of[name] = n.next
	return n.next
}

func (n *numbers) get(name string) (uint32, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	id, ok := n.of[name]
	if !ok {
		return 0, fmt.Errorf("no volume %s: %w", name, os.ErrNotExist)
	}
	return id, nil
}

// each does something with the numbers of names, one after the other.
func (n *numbers) each(names []string, do func(id uint32) error) error {
	for _, name := range names {
		id, err := n.get(name)
		if err != nil {
			return err
		}
		if err := do(id); err != nil {
			return err
		}
	}
	return nil
}

// both are the numbers of a layer and of a new child.
func (n *numbers) both(layer, name string) (id, origin uint32, err error) {
	if origin, err = n.get(layer); err != nil {
		return 0, 0, err
	}
	return n.take(name), origin, nil
}
