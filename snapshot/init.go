package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/uuid"

	"blockstore.dev/blockstore/snapshot/failpoint"
)

// The directories below a store's root, all mode 0700.
const (
	dirDriver = "driver" // the driver's own files
	dirMounts = "mnt"    // where Mount shows volumes, by id
	dirWork   = "work"   // where the store itself mounts volumes, by id
	dirTars   = "tar"    // what is needed to write a layer's tar again, by volume id
	dirDoors  = "doors"  // the doors' own files, in memory; made when first needed
	dirBegun  = "begun"  // of older programs, which kept records of creations under way there
)

const catalogFile = "catalog.db"

// ControlSocket is the name below the root that is kept for whoever has the store
// and does the work of others. One that a killed process left goes with the store.
const ControlSocket = "control.sock"

// DefaultBaseSize is the limit of volumes when Init is not given one: what
// Docker's devicemapper driver gave them.
const DefaultBaseSize = 10 << 30

// Init makes a store below o.Root with the given driver kind. chosen says why
// this driver, for Status. The root may be missing or empty; a root with a store
// in it is ErrExists, one with other files ErrInvalid, and neither is touched.
// What an earlier Init left when it was cut short is cleared away first.
func Init(ctx context.Context, kind Kind, o InitOptions, chosen string) (err error) {
	if o.Root, err = filepath.Abs(o.Root); err != nil {
		return err
	}
	made, err := claimRoot(o.Root)
	if err != nil {
		return err
	}
	lock, err := lockRoot(ctx, o.Root, 0, nil)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil && !errors.Is(err, ErrExists) {
			err = errors.Join(err, clearRoot(o.Root, made))
		}
		err = errors.Join(err, lock.Close())
	}()
	cat, err := openCatalog(filepath.Join(o.Root, catalogFile))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cat.close()) }()
	if err := dropUnfinished(ctx, cat, kind, o.Root); err != nil {
		return err
	}

	if o.StoreID == "" {
		o.StoreID = uuid.NewString()
	}
	if o.BaseSize == 0 {
		o.BaseSize = DefaultBaseSize
	}
	h := header{
		Version: catalogVersion, StoreID: o.StoreID, Driver: kind.Name(), Chosen: chosen,
		BaseSize: o.BaseSize, Created: time.Now().UTC(),
	}
	if err := cat.update(func(t *tx) error { return t.putHeader(h) }); err != nil {
		return err
	}
	failpoint.Hit("init.begun")
	for _, d := range []string{dirDriver, dirMounts, dirWork, dirTars} {
		if err := os.MkdirAll(filepath.Join(o.Root, d), 0o700); err != nil {
			return noSpace(err)
		}
	}
	failpoint.Hit("init.directories")
	if h.Config, err = kind.Init(ctx, o); err != nil {
		return fmt.Errorf("making the %s store: %w", kind.Name(), noSpace(err))
	}
	failpoint.Hit("init.driver")
	if err := finishInit(ctx, cat, kind, o, h); err != nil {
		open := OpenOptions{Root: o.Root, StoreID: o.StoreID, Config: h.Config}
		return errors.Join(err, kind.Destroy(context.WithoutCancel(ctx), open))
	}
	return nil
}

// finishInit ties the catalog to the backing store, which ends the init.
func finishInit(ctx context.Context, cat *catalog, kind Kind, o InitOptions, h header) error {
	d, err := kind.Open(ctx, OpenOptions{Root: o.Root, StoreID: o.StoreID, Config: h.Config})
	if err != nil {
		return fmt.Errorf("opening the new %s store: %w", kind.Name(), err)
	}
	ids := idRecord{PurgeFrom: FirstVolumeID, End: FirstVolumeID, Used: FirstVolumeID - 1}
	if e, ok := d.(Epoched); ok {
		ids.Epoch, err = e.Epoch(ctx)
	}
	if err = errors.Join(err, d.Close(ctx)); err != nil {
		return fmt.Errorf("opening the new %s store: %w", kind.Name(), err)
	}
	failpoint.Hit("init.opened")
	return cat.update(func(t *tx) error {
		if err := t.putIDs(ids); err != nil {
			return err
		}
		return t.putHeader(h)
	})
}

// claimRoot makes the root directory or sees that it is empty or a store. It
// says whether it made it.
func claimRoot(root string) (made bool, err error) {
	err = os.Mkdir(root, 0o700)
	if err == nil {
		return true, nil
	}
	if errors.Is(err, os.ErrNotExist) {
		return true, os.MkdirAll(root, 0o700)
	}
	if !errors.Is(err, os.ErrExist) {
		return false, noSpace(err)
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		return false, fmt.Errorf("looking into %s: %w", root, err)
	}
	ours := func(e os.DirEntry) bool {
		return slices.Contains([]string{"lost+found", "lock", ControlSocket, journalFile}, e.Name())
	}
	if !slices.ContainsFunc(entries, func(e os.DirEntry) bool { return !ours(e) }) {
		return false, os.Chmod(root, 0o700)
	}
	if _, err := os.Stat(filepath.Join(root, catalogFile)); err == nil {
		return false, nil
	}
	return false, fmt.Errorf("%s is not empty and holds no blockstore store; name an empty or new directory with --root: %w", root, ErrInvalid)
}

// dropUnfinished clears what an Init left that was cut short, or refuses a
// finished store.
func dropUnfinished(ctx context.Context, cat *catalog, kind Kind, root string) error {
	var h header
	if err := cat.view(func(t *tx) (err error) { h, err = t.header(); return err }); err != nil {
		return err
	}
	if h.StoreID == "" {
		return nil
	}
	if h.Config != nil {
		return fmt.Errorf("%s holds a %s store already (made %s); use it, or remove it with `destroy`: %w",
			root, h.Driver, h.Created.Format(time.DateTime), ErrExists)
	}
	if h.Driver != kind.Name() {
		return fmt.Errorf("%s holds an unfinished %s store; remove it with `destroy --yes` first: %w", root, h.Driver, ErrExists)
	}
	return kind.Destroy(ctx, OpenOptions{Root: root, StoreID: h.StoreID})
}

// clearRoot undoes what a failed Init did to the root directory.
func clearRoot(root string, made bool) error {
	var errs []error
	for _, name := range []string{dirDriver, dirMounts, dirWork, dirTars} {
		if err := os.Remove(filepath.Join(root, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 { // something is left in there: keep the catalog, which says what
		return errors.Join(errs...)
	}
	for _, name := range []string{ControlSocket, journalFile, catalogFile, "lock"} {
		if err := os.Remove(filepath.Join(root, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if made {
		errs = append(errs, os.Remove(root))
	}
	return errors.Join(errs...)
}
