package dirdriver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"blockstore.dev/blockstore/snapshot"
)

// Name is what the driver calls itself; no product's driver has that name.
const Name = "directories"

// Kind makes and opens directories as volumes. Its drivers share Faults.
type Kind struct {
	Faults *Faults
}

// New returns a Kind that lets everything succeed.
func New() *Kind { return &Kind{Faults: &Faults{}} }

// Name returns [Name].
func (k *Kind) Name() string { return Name }

// Probe succeeds everywhere.
func (k *Kind) Probe(context.Context) error { return nil }

type config struct {
	StoreID string `json:"storeID"`
}

// Init makes the directories and the base.
func (k *Kind) Init(_ context.Context, o snapshot.InitOptions) (_ json.RawMessage, err error) {
	k.Faults.call("init")
	d := &Driver{root: filepath.Join(o.Root, "driver"), faults: k.Faults}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(d.path("volumes")), os.RemoveAll(d.path("epoch")))
		}
	}()
	if err := k.Faults.step("init.begin"); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(d.tree(snapshot.Base), 0o700); err != nil {
		return nil, err
	}
	if err := os.Chmod(d.tree(snapshot.Base), 0o755); err != nil {
		return nil, err
	}
	if err := k.Faults.step("init.base"); err != nil {
		return nil, err
	}
	if err := d.markSealed(snapshot.Base); err != nil {
		return nil, err
	}
	if err := d.writeEpoch(0); err != nil {
		return nil, err
	}
	if err := k.Faults.step("init.end"); err != nil {
		return nil, err
	}
	return json.Marshal(config{o.StoreID})
}

// Open finds the directories again.
func (k *Kind) Open(_ context.Context, o snapshot.OpenOptions) (snapshot.Driver, error) {
	k.Faults.call("open")
	if err := k.Faults.step("open"); err != nil {
		return nil, err
	}
	var c config
	if err := json.Unmarshal(o.Config, &c); err != nil || c.StoreID != o.StoreID {
		return nil, fmt.Errorf("configuration %q is not that of store %s: %w", o.Config, o.StoreID, snapshot.ErrCorrupt)
	}
	d := &Driver{root: filepath.Join(o.Root, "driver"), faults: k.Faults, active: map[snapshot.VolumeID]bool{}}
	if _, err := os.Stat(d.tree(snapshot.Base)); err != nil {
		return nil, fmt.Errorf("the base is missing: %w: %w", snapshot.ErrCorrupt, err)
	}
	return d, nil
}

// Destroy removes all directories.
func (k *Kind) Destroy(_ context.Context, o snapshot.OpenOptions) error {
	k.Faults.call("destroy")
	d := &Driver{root: filepath.Join(o.Root, "driver"), faults: k.Faults}
	entries, err := os.ReadDir(d.path("volumes"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		id, err := strconv.ParseUint(e.Name(), 10, 32)
		if err != nil {
			return err
		}
		if where, err := d.mountedAt(snapshot.VolumeID(id)); err != nil || where != "" {
			return errors.Join(err, fmt.Errorf("volume %d is mounted at %s: %w", id, where, snapshot.ErrBusy))
		}
	}
	if err := k.Faults.step("destroy.begin"); err != nil {
		return err
	}
	if err := os.RemoveAll(d.path("volumes")); err != nil {
		return err
	}
	if err := k.Faults.step("destroy.volumes"); err != nil {
		return err
	}
	return os.RemoveAll(d.path("epoch"))
}
