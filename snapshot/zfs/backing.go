package zfs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/loopback"
	"blockstore.dev/blockstore/snapshot/mount"
	"blockstore.dev/blockstore/zfsds"
)

// config is what the catalog keeps of a backing store. Paths follow from the store's root,
// which may move.
type config struct {
	// Loopback: a pool of our own in a file.
	Loopback bool `json:"loopback"`
	// Dataset is the store's, GUID what it is known by.
	Dataset string `json:"dataset"`
	GUID    uint64 `json:"guid"`
}

func parseConfig(text json.RawMessage) (config, error) {
	var c config
	err := json.Unmarshal(text, &c)
	if err == nil && c.Dataset == "" {
		err = errors.New("no dataset in it")
	}
	if err != nil {
		return c, fmt.Errorf("zfs: the catalog's configuration: %w: %w", snapshot.ErrCorrupt, err)
	}
	return c, nil
}

// places are the paths of a store.
type places struct {
	driver string // everything below
	image  string // the loopback file
	note   string // the file with the dataset's name, for Destroy
	tidy   string // see tidiness
	gauge  string // where statfs(2) tells how full the dataset is, while the driver shows it
}

func placesOf(root string) (places, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return places{}, err
	}
	driver := filepath.Join(root, "driver")
	return places{
		driver: driver, image: filepath.Join(driver, "zfs.img"), note: filepath.Join(driver, "dataset"), tidy: filepath.Join(driver, "tidy"),
		gauge: filepath.Join(driver, "gauge"),
	}, nil
}

func (p places) file() loopback.File { return loopback.File(p.image) }

// datasetBelow is the dataset, as mountinfo has it, of the ZFS that a directory, or what of its
// path exists, lies on; "" where it lies on another file system.
func datasetBelow(dir string) (string, error) {
	for {
		resolved, err := filepath.EvalSymlinks(dir)
		if errors.Is(err, os.ErrNotExist) && dir != "/" {
			dir = filepath.Dir(dir)
			continue
		}
		if err != nil {
			return "", err
		}
		dir = resolved
		break
	}
	table, err := mount.Table()
	if err != nil {
		return "", err
	}
	var best mount.Entry
	for _, e := range table {
		// The later of two at one place covers the earlier.
		below := dir == e.Target || strings.HasPrefix(dir, strings.TrimSuffix(e.Target, "/")+"/")
		if below && len(e.Target) >= len(best.Target) {
			best = e
		}
	}
	if best.Type != name || strings.Contains(best.Source, "@") {
		return "", nil
	}
	return best.Source, nil
}

// poolName is the name of a loopback file's pool, which all pools of a machine share a name
// space with.
func poolName(storeID string) dataset { return dataset("blockstore-" + storeID) }

// bringUp imports a loopback file's pool, unless it is imported still. The store's lock is held,
// so that nobody else has it who keeps to that.
func (d *driver) bringUp(ctx context.Context) error {
	if !d.config.Loopback {
		return nil
	}
	return importPool(ctx, d.zfs, d.root, d.places)
}

func importPool(ctx context.Context, h *zfsds.Handle, pool dataset, p places) error {
	here, err := h.Pools(ctx)
	if err != nil || slices.Contains(here, string(pool)) {
		return translate(err, "zfs: open")
	}
	return translate(h.ImportPool(ctx, string(pool), p.driver), "zfs: open %s", p.image)
}

// takeDown exports the pool. While a volume is mounted it stays, and bringUp finds it again:
// zpool(8) would unmount those that nobody has a file open in.
func (d *driver) takeDown(ctx context.Context) error {
	uses, err := d.root.uses()
	if err != nil || len(uses) > 0 {
		return err
	}
	err = d.zfs.ExportPool(ctx, string(d.root))
	if errors.Is(err, zfsds.ErrBusy) || errors.Is(err, zfsds.ErrNotFound) { // mounted in another mount namespace; not up
		return nil
	}
	return translate(err, "zfs: close")
}
