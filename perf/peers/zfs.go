package peers

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/perf"
	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/zfs"
	"blockstore.dev/blockstore/zfsds"
)

// zfsModule says whether the kernel has ZFS.
func zfsModule(ctx context.Context) error {
	err := zfs.Kind{}.Probe(ctx)
	if errors.Is(err, snapshot.ErrNotSupported) {
		return errors.New("this kernel has no ZFS")
	}
	return err
}

// zpool makes the site's pool, on a loop device.
func (s *Site) zpool(ctx context.Context) (h *zfsds.Handle, pool string, err error) {
	pool = strings.ReplaceAll(s.KernelName, "/", "-")
	h, device, err := perf.ZPool(ctx, s.Undo, pool, filepath.Join(s.Dir, "disk.img"), s.DiskSize)
	if err != nil {
		return nil, "", err
	}
	s.uses(device)
	s.accounts = append(s.accounts, account{
		space: func(ctx context.Context) (Space, error) {
			if err := h.Sync(ctx, pool); err != nil {
				return Space{}, err
			}
			p, err := h.Pool(ctx, pool)
			return Space{Data: int64(p.Allocated)}, err
		},
		settle: func(ctx context.Context) error { return freed(ctx, h, pool) },
	})
	return h, pool, nil
}

// freed waits until a pool has given back what destroyed datasets held.
func freed(ctx context.Context, h *zfsds.Handle, pool string) error {
	for {
		if err := h.Sync(ctx, pool); err != nil {
			return err
		}
		p, err := h.Pool(ctx, pool)
		if err != nil || p.Freeing == 0 {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// rootOnZFS makes a file system of the pool and mounts it.
func (s *Site) rootOnZFS(ctx context.Context) (root string, err error) {
	h, pool, err := s.zpool(ctx)
	if err != nil {
		return "", err
	}
	root = filepath.Join(s.Dir, "fs")
	return root, perf.ZFSRoot(ctx, s.Undo, h, pool, root)
}

func openPlainZFS(ctx context.Context, s *Site) (Store, error) {
	root, err := s.rootOnZFS(ctx)
	return plain{copies{root: root}}, err
}

func openOursOnZFS(ctx context.Context, s *Site) (Store, error) {
	root, err := s.rootOnZFS(ctx)
	if err != nil {
		return nil, err
	}
	return openOurs(ctx, s, zfs.Kind{}, snapshot.InitOptions{Root: filepath.Join(root, "store")})
}

// datasets are a pool's file systems, mounted below mnt while they are shown. A layer is
// the snapshot of one.
type datasets struct {
	pool, mnt string
	ops       datasetOps
	layers    sync.Map // by name
}

// datasetOps are what a floor and the command line do differently. Names are whole.
type datasetOps interface {
	create(ctx context.Context, name string) error
	snapshot(ctx context.Context, name string) error
	clone(ctx context.Context, snapshot, name string) error
	mount(ctx context.Context, name, dir string) error
	unmount(ctx context.Context, dir string) error
	destroy(ctx context.Context, name string) error
	// destroyLayer removes a file system and its one snapshot.
	destroyLayer(ctx context.Context, name string) error
}

const layerSnapshot = "@layer"

func openDatasets(ctx context.Context, s *Site, of func(*zfsds.Handle) datasetOps) (Store, error) {
	h, pool, err := s.zpool(ctx)
	if err != nil {
		return nil, err
	}
	d := &datasets{pool: pool, mnt: filepath.Join(s.Dir, "mnt"), ops: of(h)}
	s.Undo.Add(d.mnt, func() error { return perf.UnmountAll(d.mnt) })
	return d, os.Mkdir(d.mnt, 0o755)
}

func (d *datasets) name(name string) string { return d.pool + "/" + name }
func (d *datasets) path(name string) string { return filepath.Join(d.mnt, name) }

func (d *datasets) Layer(ctx context.Context, name, parent string, fill func(string) error) error {
	var err error
	if parent == "" {
		err = d.ops.create(ctx, d.name(name))
	} else {
		err = d.Create(ctx, name, parent)
	}
	if err != nil {
		return err
	}
	if err := filled(ctx, d, name, fill); err != nil {
		return err
	}
	d.layers.Store(name, true)
	return d.ops.snapshot(ctx, d.name(name)+layerSnapshot)
}

func (d *datasets) Create(ctx context.Context, name, layer string) error {
	return d.ops.clone(ctx, d.name(layer)+layerSnapshot, d.name(name))
}

func (d *datasets) Mount(ctx context.Context, name string) (string, error) {
	dir := d.path(name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	return dir, d.ops.mount(ctx, d.name(name), dir)
}

func (d *datasets) Unmount(ctx context.Context, name string) error {
	if err := d.ops.unmount(ctx, d.path(name)); err != nil {
		return err
	}
	return os.Remove(d.path(name))
}

func (d *datasets) Remove(ctx context.Context, name string) error {
	if _, layer := d.layers.LoadAndDelete(name); layer {
		return d.ops.destroyLayer(ctx, d.name(name))
	}
	return d.ops.destroy(ctx, d.name(name))
}

// zfsIoctls are the module's requests.
type zfsIoctls struct{ *zfsds.Handle }

func openZFSFloor(ctx context.Context, s *Site) (Store, error) {
	return openDatasets(ctx, s, func(h *zfsds.Handle) datasetOps { return zfsIoctls{h} })
}

func (z zfsIoctls) create(ctx context.Context, name string) error { return z.Create(ctx, name, nil) }

func (z zfsIoctls) snapshot(ctx context.Context, name string) error {
	return z.Snapshot(ctx, nil, name)
}

func (z zfsIoctls) clone(ctx context.Context, snapshot, name string) error {
	return z.Clone(ctx, snapshot, name, nil)
}

func (zfsIoctls) mount(_ context.Context, name, dir string) error {
	return zfsds.Mount(name, dir, false)
}

func (zfsIoctls) unmount(_ context.Context, dir string) error { return unix.Unmount(dir, 0) }

func (z zfsIoctls) destroy(ctx context.Context, name string) error { return z.Destroy(ctx, name) }

func (z zfsIoctls) destroyLayer(ctx context.Context, name string) error {
	if err := z.DestroySnapshots(ctx, false, name+layerSnapshot); err != nil {
		return err
	}
	return z.Destroy(ctx, name)
}

// zfsCommands is the command line.
type zfsCommands struct{}

func openZFSCommands(ctx context.Context, s *Site) (Store, error) {
	return openDatasets(ctx, s, func(*zfsds.Handle) datasetOps { return zfsCommands{} })
}

func (zfsCommands) run(ctx context.Context, args ...string) error {
	_, err := perf.Output(ctx, "zfs", args...)
	return err
}

func (z zfsCommands) create(ctx context.Context, name string) error {
	return z.run(ctx, "create", name)
}

func (z zfsCommands) snapshot(ctx context.Context, name string) error {
	return z.run(ctx, "snapshot", name)
}

func (z zfsCommands) clone(ctx context.Context, snapshot, name string) error {
	return z.run(ctx, "clone", snapshot, name)
}

func (zfsCommands) mount(ctx context.Context, name, dir string) error {
	_, err := perf.Output(ctx, "mount", "-t", "zfs", name, dir)
	return err
}

func (zfsCommands) unmount(ctx context.Context, dir string) error {
	_, err := perf.Output(ctx, "umount", dir)
	return err
}

func (z zfsCommands) destroy(ctx context.Context, name string) error {
	return z.run(ctx, "destroy", name)
}

func (z zfsCommands) destroyLayer(ctx context.Context, name string) error {
	return z.run(ctx, "destroy", "-r", name)
}
