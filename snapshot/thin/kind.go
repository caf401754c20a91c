package thin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/uuid"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/failpoint"
	"blockstore.dev/blockstore/snapshot/gauge"
	"blockstore.dev/blockstore/thinpool"
)

const (
	// Name is the driver's name, as Docker's users know it.
	Name = "devicemapper"
	// DefaultBaseSize is the size of volumes that are not given one.
	DefaultBaseSize int64 = 10 << 30
	// DefaultLoopback is the size of a loopback pool's data file. It is sparse.
	DefaultLoopback int64 = 100 << 30

	minBaseSize int64 = 64 << 20
	// minXFS is the least that mkfs.xfs makes.
	minXFS int64 = 300 << 20
)

// Kind makes and opens stores on thin pools.
type Kind struct {
	// Observer, if set, is told each device-mapper ioctl, see dm.Options: for tests that count them.
	Observer func(dm.Call)
	// Commands, if set, is told each command of LVM's before it runs.
	Commands func(command string)
}

var _ snapshot.Kind = Kind{}

// config is what the catalog keeps.
type config struct {
	Pool       thinpool.Config `json:"pool"`
	FileSystem fileSystem      `json:"file_system"`
	BaseSize   int64           `json:"base_size"`
	// LVM says that the pool is LVM's.
	LVM *lvmPool `json:"lvm,omitempty"`
}

// Name is "devicemapper".
func (Kind) Name() string { return Name }

// Probe asks the kernel for device-mapper's thin-pool target and loop devices.
func (k Kind) Probe(ctx context.Context) error {
	client, err := k.client()
	if errors.Is(err, dm.ErrNotSupported) {
		return fmt.Errorf("no device-mapper in this kernel, or not loaded (modprobe dm-thin-pool): %w", snapshot.ErrNotSupported)
	}
	if err != nil {
		return err
	}
	defer client.Close()
	if _, err := client.ProbeTarget(ctx, "thin-pool"); err != nil {
		return translate(fmt.Errorf("this kernel has no thin pools (CONFIG_DM_THIN_PROVISIONING; modprobe dm-thin-pool): %w", err))
	}
	return nil
}

func (k Kind) client() (*dm.Client, error) {
	client, err := dm.Open(dm.Options{Observer: func(c dm.Call) {
		failpoint.Hit("dm." + c.Command) // also where a device is suspended
		if k.Observer != nil {
			k.Observer(c)
		}
	}})
	if err != nil {
		return nil, translate(fmt.Errorf("driver %s: %w", Name, err))
	}
	return client, nil
}

// Init makes the pool and the golden base in it.
func (k Kind) Init(ctx context.Context, o snapshot.InitOptions) (json.RawMessage, error) {
	c, create, err := plan(o)
	if err != nil {
		return nil, err
	}
	if err := c.FileSystem.findMkfs(); err != nil {
		return nil, err
	}
	client, err := k.client()
	if err != nil {
		return nil, err
	}
	defer client.Close()
	if err := os.MkdirAll(driverDir(o.Root), 0o700); err != nil {
		return nil, translate(err)
	}
	at := place{kind: k, client: client, root: o.Root}
	c, pool, err := at.create(ctx, c, o, create)
	if err != nil {
		return nil, translate(err)
	}
	err = errors.Join(c.makeBase(ctx, pool), pool.Close(context.WithoutCancel(ctx)))
	if err == nil {
		err = os.Mkdir(gaugeDir(o.Root), 0o755)
	}
	if err != nil {
		return nil, translate(errors.Join(err, at.destroy(context.WithoutCancel(ctx), c)))
	}
	return json.Marshal(c)
}

// plan turns the options into a pool, and refuses those of other drivers by name.
func plan(o snapshot.InitOptions) (config, thinpool.CreateOptions, error) {
	var none thinpool.CreateOptions
	switch {
	case o.Dataset != "":
		return config{}, none, fmt.Errorf("--dataset is for the driver zfs: %w", snapshot.ErrInvalid)
	case backings(o) > 1:
		return config{}, none, fmt.Errorf("--loopback, --device, --data-device and --thin-pool exclude each other: %w", snapshot.ErrInvalid)
	case (o.DataDevice == "") != (o.MetadataDevice == ""):
		return config{}, none, fmt.Errorf("--data-device and --metadata-device belong together: %w", snapshot.ErrInvalid)
	case o.BaseSize < 0 || o.Loopback < 0:
		return config{}, none, fmt.Errorf("negative size: %w", snapshot.ErrInvalid)
	}
	fs, err := parseFileSystem(o.FileSystem)
	if err != nil {
		return config{}, none, err
	}
	c := config{FileSystem: fs, BaseSize: deviceSize(o.BaseSize)}
	if c.BaseSize == 0 {
		c.BaseSize = DefaultBaseSize
	}
	if c.BaseSize < minBaseSize || fs == xfs && c.BaseSize < minXFS {
		return config{}, none, fmt.Errorf("base size of %d bytes is too small for %s: %w", c.BaseSize, fs, snapshot.ErrInvalid)
	}
	if c.Pool, err = poolConfig(o.Root, o.StoreID); err != nil {
		return config{}, none, err
	}
	create := thinpool.CreateOptions{Force: o.Force}
	if o.DataDevice != "" {
		c.Pool.Loopback, c.Pool.Data, c.Pool.Metadata = false, o.DataDevice, o.MetadataDevice
	} else if create.DataSize = uint64(o.Loopback); o.Loopback == 0 {
		create.DataSize = uint64(DefaultLoopback)
	}
	create.Config = c.Pool
	return c, create, nil
}

// backings counts how many things to stand on are named.
func backings(o snapshot.InitOptions) int {
	n := 0
	for _, named := range []bool{o.Loopback != 0, len(o.Devices) > 0, o.DataDevice != "", o.ThinPool != ""} {
		if named {
			n++
		}
	}
	return n
}

// ballastID is a number below those of volumes that the pool has for itself; another is a share's mark.
const ballastID dm.DeviceID = 2

// poolConfig is the loopback pool of a store: all of it follows from the store's identity and directory, so that an
// Init that was cut short can be cleared away by what the catalog knew before.
func poolConfig(root, storeID string) (thinpool.Config, error) {
	id, err := uuid.Parse(storeID)
	if err != nil {
		return thinpool.Config{}, fmt.Errorf("store identity: %w: %w", snapshot.ErrInvalid, err)
	}
	return thinpool.Config{
		Identity: id, Name: "blockstore-" + id.String()[:8], Loopback: true, BlockSize: thinpool.DefaultBlockSize,
		Data: filepath.Join(driverDir(root), "data"), Metadata: filepath.Join(driverDir(root), "metadata"), Tidy: filepath.Join(driverDir(root), "tidy"),
		Ballast: ballastID,
	}, nil
}

func driverDir(root string) string { return filepath.Join(root, "driver") }

// gaugeDir is where statfs(2) tells how full the pool is, while the driver shows it.
func gaugeDir(root string) string { return filepath.Join(driverDir(root), "gauge") }

// deviceSize rounds a size up to whole file system blocks.
func deviceSize(size int64) int64 { return (size + fsBlock - 1) / fsBlock * fsBlock }

// makeBase makes volume 0.
func (c config) makeBase(ctx context.Context, pool *thinpool.Pool) error {
	id := dm.DeviceID(snapshot.Base)
	if err := pool.CreateThin(ctx, id); err != nil {
		return err
	}
	d, err := pool.Activate(ctx, id, thinpool.ActivateOptions{Size: uint64(c.BaseSize)})
	if err != nil {
		return err
	}
	err = c.makeFileSystem(ctx, d.Path)
	failpoint.Hit("thin.base.made")
	if err == nil {
		_, err = pool.Commit(ctx)
	}
	return errors.Join(err, pool.Deactivate(context.WithoutCancel(ctx), id))
}

// Open brings the pool up or takes it over, and deactivates what nobody uses.
func (k Kind) Open(ctx context.Context, o snapshot.OpenOptions) (snapshot.Driver, error) {
	c, err := parseConfig(o)
	if err != nil {
		return nil, err
	}
	client, err := k.client()
	if err != nil {
		return nil, err
	}
	if err := (place{kind: k, client: client, root: o.Root}).wake(ctx, c); err != nil {
		return nil, translate(errors.Join(err, client.Close()))
	}
	pool, err := thinpool.Open(ctx, client, c.Pool)
	if err != nil {
		return nil, translate(errors.Join(err, client.Close()))
	}
	d := &driver{kind: k, client: client, pool: pool, config: c, keep: o.Keep, gauge: gauge.At(gaugeDir(o.Root))}
	st, err := pool.Status(ctx)
	if err = errors.Join(err, gauge.Clear(gaugeDir(o.Root))); err == nil {
		d.setReserve(st)
		_, err = d.deactivateIdle(ctx)
	}
	if err != nil {
		return nil, errors.Join(translate(err), d.Close(context.WithoutCancel(ctx)))
	}
	return d, nil
}

// Destroy removes pool and files; of a store whose Init was cut short what is there of it.
func (k Kind) Destroy(ctx context.Context, o snapshot.OpenOptions) error {
	c, err := parseConfig(o)
	if err != nil {
		return err
	}
	client, err := k.client()
	if err != nil {
		return err
	}
	defer client.Close()
	if err := (place{kind: k, client: client, root: o.Root}).destroy(ctx, c); err != nil {
		return translate(err)
	}
	return translate(gauge.Remove(gaugeDir(o.Root)))
}

// parseConfig reads what Init returned; without it, of an Init that was cut short, what it noted of others' devices, or
// else it is a loopback pool's.
func parseConfig(o snapshot.OpenOptions) (config, error) {
	pool, err := poolConfig(o.Root, o.StoreID)
	if err != nil {
		return config{}, err
	}
	c := config{Pool: pool}
	kept := []byte(o.Config)
	if len(kept) == 0 {
		if kept, err = readNote(o.Root); err != nil || kept == nil {
			return c, err
		}
	}
	if err := json.Unmarshal(kept, &c); err != nil {
		return config{}, fmt.Errorf("reading the driver's configuration: %w: %w", snapshot.ErrCorrupt, err)
	}
	if c.Pool.Identity != pool.Identity {
		return config{}, fmt.Errorf("the driver's configuration is of store %s, not %s: %w", c.Pool.Identity, pool.Identity, snapshot.ErrCorrupt)
	}
	if c.Pool.Loopback { // the root may have been moved or be mounted elsewhere
		c.Pool.Data, c.Pool.Metadata = pool.Data, pool.Metadata
	}
	return c, nil
}
