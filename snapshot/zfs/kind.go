package zfs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/failpoint"
	"blockstore.dev/blockstore/snapshot/loopback"
	"blockstore.dev/blockstore/zfsds"
)

const name = "zfs"

// Kind is the driver before it has a store. Its zero value is ready.
type Kind struct {
	// Access forces a way to speak to ZFS.
	Access zfsds.Access
}

var _ snapshot.Kind = Kind{}

func (Kind) Name() string { return name }

// Probe looks for root rights and for ZFS in the kernel.
func (k Kind) Probe(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("zfs: %w without root rights: run as root", snapshot.ErrNotSupported)
	}
	h, err := zfsds.Open(ctx, zfsds.Options{Access: k.Access})
	if errors.Is(err, zfsds.ErrNotSupported) {
		return fmt.Errorf("%w: %w", snapshot.ErrNotSupported, err)
	}
	if err != nil {
		return err
	}
	return h.Close()
}

// Init makes the store's dataset: in the one that it is given, or that the root lies on; or, where
// it lies on another file system or a loopback size is given, as the root of a pool of its own.
func (k Kind) Init(ctx context.Context, o snapshot.InitOptions) (_ json.RawMessage, err error) {
	if err := refuse(o); err != nil {
		return nil, err
	}
	if err := k.Probe(ctx); err != nil {
		return nil, err
	}
	p, err := placesOf(o.Root)
	if err != nil {
		return nil, err
	}
	parent := o.Dataset
	if parent == "" && o.Loopback == 0 {
		if parent, err = datasetBelow(p.driver); err != nil {
			return nil, err
		}
	}
	if err := p.vacant(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(p.driver, 0o700); err != nil {
		return nil, err
	}
	h, err := zfsds.Open(ctx, zfsds.Options{Access: k.Access})
	if err != nil {
		return nil, translate(err, "zfs: init")
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	b := builder{places: p, zfs: h, o: o, parent: parent}
	c, err := b.build(ctx)
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(p.gauge, 0o755); err != nil {
		return nil, errors.Join(err, k.Destroy(context.WithoutCancel(ctx), snapshot.OpenOptions{Root: o.Root, StoreID: o.StoreID}))
	}
	return json.Marshal(c)
}

// refuse names the options that this driver cannot follow.
func refuse(o snapshot.InitOptions) error {
	what := o.ForBlocks()
	if what == "" && o.Dataset != "" && o.Loopback != 0 {
		what = "both a dataset and a loopback size"
	}
	if what != "" {
		return fmt.Errorf("zfs: %w: the driver zfs cannot use %s: it takes a dataset, a root on ZFS, or a loopback size", snapshot.ErrInvalid, what)
	}
	return nil
}

// vacant refuses a directory where an earlier store's files are.
func (p places) vacant() error {
	for _, path := range []string{p.image, p.note} {
		_, err := os.Lstat(path)
		if err == nil {
			return fmt.Errorf("zfs: %s: %w: destroy the old store, or choose another root", path, snapshot.ErrExists)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// builder makes a store.
type builder struct {
	places places
	zfs    *zfsds.Handle
	o      snapshot.InitOptions
	parent string // "" for a pool of its own
}

// Properties are those of a store's dataset, which volumes inherit.
func Properties() zfsds.Properties {
	return zfsds.Properties{
		"mountpoint": "legacy", "atime": "off", "xattr": "sa", "acltype": "posix", "dnodesize": "auto",
		"compression": "lz4", "recordsize": "131072", "snapdir": "hidden",
		"devices": "on", "setuid": "on", "exec": "on", "readonly": "off",
		"com.sun:auto-snapshot": "false",
	}
}

// properties are those, and whose the dataset is.
func (b builder) properties() zfsds.Properties {
	p := Properties()
	p[storeProperty] = b.o.StoreID
	return p
}

// build makes the dataset and the base in it. The note comes first, so that Destroy finds what a
// crash leaves.
func (b builder) build(ctx context.Context) (c config, err error) {
	root := poolName(b.o.StoreID)
	c = config{Loopback: b.parent == ""}
	var size int64
	if c.Loopback {
		if size, err = loopback.Size(b.places.driver, b.o.Loopback); err != nil {
			err = fmt.Errorf("zfs: %w", err)
		}
	} else {
		root = dataset(b.parent) + "/" + root
		err = b.checkParent(ctx)
	}
	if err != nil {
		return c, errors.Join(err, removeIfEmpty(b.places.driver))
	}
	c.Dataset = string(root)
	if err := os.WriteFile(b.places.note, []byte(root), 0o600); err != nil {
		return c, err
	}
	failpoint.Hit("zfs: noted, nothing made")
	defer func() {
		if err != nil {
			err = errors.Join(err, wipe(context.WithoutCancel(ctx), b.zfs, root, b.places))
		}
	}()
	if c.Loopback {
		err = b.zfs.CreatePool(ctx, zfsds.PoolOptions{
			Name: string(root), File: b.places.image, Size: zfsds.Bytes(size), Properties: b.properties(),
		})
	} else {
		err = b.zfs.Create(ctx, string(root), b.properties())
	}
	failpoint.Hit("zfs: dataset made, base not")
	if err == nil {
		err = b.makeBase(ctx, root)
	}
	if err != nil {
		return c, translate(err, "zfs: init")
	}
	d, err := b.zfs.Stat(ctx, string(root))
	if err != nil {
		return c, translate(err, "zfs: init")
	}
	c.GUID = d.GUID
	if c.Loopback {
		err = translate(b.zfs.ExportPool(ctx, string(root)), "zfs: init")
	}
	return c, err
}

// makeBase makes the empty file system, whose root directory has the mode 0755 by ZFS.
func (b builder) makeBase(ctx context.Context, root dataset) error {
	if err := b.zfs.Create(ctx, root.volume(snapshot.Base), nil); err != nil {
		return err
	}
	return b.zfs.Snapshot(ctx, nil, root.seal(snapshot.Base))
}

// checkParent refuses what no store can be made in.
func (b builder) checkParent(ctx context.Context) error {
	d, err := b.zfs.Get(ctx, b.parent)
	switch {
	case errors.Is(err, zfsds.ErrNotFound):
		return fmt.Errorf("zfs: %s: %w: import its pool (zpool import), or make it: zfs create %s", b.parent, errors.Join(snapshot.ErrNotFound, err), b.parent)
	case err != nil:
		return translate(err, "zfs: init")
	case d.Type != zfsds.Filesystem:
		return fmt.Errorf("zfs: %w: %s is a %s: name a file system", snapshot.ErrInvalid, b.parent, d.Type)
	}
	return keyLoaded(d)
}

func keyLoaded(d zfsds.Details) error {
	if d.KeyLoaded {
		return nil
	}
	return fmt.Errorf("zfs: %s: %w: it is encrypted and its key is not loaded: zfs load-key %s", d.Name, snapshot.ErrNotSupported, d.Name)
}
