package zfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/gauge"
	"blockstore.dev/blockstore/zfsds"
)

// Destroy destroys all volumes, the store's dataset and the loopback file. It needs no
// configuration.
func (k Kind) Destroy(ctx context.Context, o snapshot.OpenOptions) (err error) {
	p, err := placesOf(o.Root)
	if err != nil {
		return err
	}
	noted, err := os.ReadFile(p.note)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(noted) == 0 { // Init had made nothing yet
		return errors.Join(absentIsFine(os.Remove(p.note)), removeIfEmpty(p.driver))
	}
	if err != nil {
		return err
	}
	root := dataset(strings.TrimSpace(string(noted)))
	h, err := zfsds.Open(ctx, zfsds.Options{Access: k.Access})
	if err != nil {
		return translate(err, "zfs: destroy")
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	if _, err := os.Lstat(p.image); err == nil {
		err := importPool(ctx, h, root, p)
		if err != nil && !errors.Is(err, snapshot.ErrNotFound) { // the file of an Init that made no pool of it
			return err
		}
	}
	d := &driver{places: p, zfs: h, root: root}
	if err := d.unused(ctx, o.StoreID); err != nil {
		return err
	}
	return wipe(ctx, h, root, p)
}

// unused refuses to destroy what is mounted, or was not made by the store.
func (d *driver) unused(ctx context.Context, storeID string) error {
	details, err := d.zfs.Get(ctx, string(d.root))
	if errors.Is(err, zfsds.ErrNotFound) {
		return nil
	}
	if err != nil {
		return translate(err, "zfs: destroy")
	}
	if of := details.User[storeProperty].Value; of != storeID {
		return fmt.Errorf("zfs: %s: %w: it is of store %q, not of %s: look at it", d.root, snapshot.ErrCorrupt, of, storeID)
	}
	uses, err := d.root.uses()
	if err != nil {
		return err
	}
	if len(uses) > 0 {
		return fmt.Errorf("zfs: %w: %s is mounted at %s: unmount it first", snapshot.ErrBusy, uses[0].Source, uses[0].Target)
	}
	all, err := d.children(ctx)
	if err != nil {
		return translate(err, "zfs: destroy")
	}
	for _, c := range all {
		if _, ours := d.root.ours(c); !ours && !d.root.isGhost(c.Name) {
			return fmt.Errorf("zfs: %s: %w: it was not made by the store: move it away, or destroy it", c.Name, snapshot.ErrBusy)
		}
	}
	return nil
}

// wipe destroys what Init and a store made, as much of it as there is.
func wipe(ctx context.Context, h *zfsds.Handle, root dataset, p places) error {
	var err error
	if strings.Contains(string(root), "/") {
		err = (&driver{places: p, zfs: h, root: root}).destroyAll(ctx)
	} else {
		err = h.DestroyPool(ctx, string(root))
	}
	if err != nil && !errors.Is(err, zfsds.ErrNotFound) {
		return translate(err, "zfs: destroy")
	}
	return errors.Join(gauge.Remove(p.gauge), absentIsFine(os.Remove(p.tidy)), absentIsFine(os.Remove(p.image)), absentIsFine(os.Remove(p.note)), removeIfEmpty(p.driver))
}

// destroyAll destroys the youngest first, since what something was made of is older.
func (d *driver) destroyAll(ctx context.Context) error {
	all, err := d.children(ctx)
	if err != nil {
		return err
	}
	for _, c := range slices.Backward(all) {
		if err := d.dropSnapshots(ctx, c.Name); err != nil {
			return err
		}
		if err := d.zfs.Destroy(ctx, c.Name); err != nil {
			return err
		}
	}
	return d.zfs.Destroy(ctx, string(d.root))
}

func absentIsFine(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// removeIfEmpty leaves a directory alone where others keep something.
func removeIfEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		return absentIsFine(err)
	}
	return absentIsFine(os.Remove(dir))
}
