package thin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/dustin/go-humanize"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/internal/durable"
	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/failpoint"
	"blockstore.dev/blockstore/thinpool"
	"blockstore.dev/blockstore/thinpool/lvm"
)

// place makes and removes what a store stands on: a pool of its own, or a share of a thin pool that is LVM's or another's.
type place struct {
	kind   Kind
	client *dm.Client
	root   string
}

// lvmPool says which thin pool of LVM's a store is in, by LVM's uuids.
type lvmPool struct {
	GroupUUID string `json:"group_uuid,omitempty"`
	UUID      string `json:"uuid,omitempty"`
	// Made says that the volume group is ours.
	Made bool `json:"made,omitempty"`
}

func (l lvmPool) volume() lvm.Volume { return lvm.Volume{GroupUUID: l.GroupUUID, UUID: l.UUID} }

// lvm finds LVM's tools. They run at set-up, at growth, and to activate a pool after a boot.
func (k Kind) lvm(ctx context.Context) (*lvm.Tool, error) {
	return lvm.New(ctx, lvm.Options{Observer: func(command string) {
		failpoint.Hit("lvm." + command)
		if k.Commands != nil {
			k.Commands(command)
		}
	}})
}

// create makes the pool, or takes a share of one. On failure nothing is left of it.
func (at place) create(ctx context.Context, c config, o snapshot.InitOptions, own thinpool.CreateOptions) (config, *thinpool.Pool, error) {
	if o.ThinPool == "" && len(o.Devices) == 0 {
		pool, err := thinpool.Create(ctx, at.client, own)
		if err != nil {
			return c, nil, err
		}
		c.Pool = pool.Config()
		return c, pool, nil
	}
	c, err := at.choose(ctx, c, o)
	if err == nil {
		var pool *thinpool.Pool
		if pool, err = thinpool.Create(ctx, at.client, thinpool.CreateOptions{Config: c.Pool}); err == nil {
			return c, pool, nil
		}
		c.Pool.Share = nil // what Create could not make it has undone
	}
	return c, nil, errors.Join(err, at.undo(context.WithoutCancel(ctx), c))
}

// undo is for a create that failed before the share was taken.
func (at place) undo(ctx context.Context, c config) error {
	if c.LVM != nil && c.LVM.Made {
		return at.destroy(ctx, c)
	}
	return at.forgetNote()
}

// choose finds the share, in a volume group that it makes if disks were given.
func (at place) choose(ctx context.Context, c config, o snapshot.InitOptions) (config, error) {
	name := o.ThinPool
	if len(o.Devices) > 0 {
		v, err := at.makeGroup(ctx, &c, o)
		if err != nil {
			return c, err
		}
		name = v.Path()
	}
	device, err := at.resolve(ctx, &c, name)
	if err != nil {
		return c, err
	}
	if c.Pool, err = thinpool.FindShare(ctx, at.client, device, c.Pool); err != nil {
		return c, err
	}
	if c.LVM != nil {
		c.Pool.Share.FrontUUID = c.LVM.volume().FrontUUID()
	}
	return c, at.note(c)
}

// makeGroup makes volume group and pool on the disks that were given.
func (at place) makeGroup(ctx context.Context, c *config, o snapshot.InitOptions) (lvm.Volume, error) {
	tool, err := at.kind.lvm(ctx)
	if err != nil {
		return lvm.Volume{}, err
	}
	want := lvm.GroupOptions{Name: c.Pool.Name, Owner: c.Pool.Identity, Devices: o.Devices, Force: o.Force}
	size, err := tool.CheckDisks(ctx, want)
	if err != nil {
		return lvm.Volume{}, err
	}
	if !o.Yes && !o.Force {
		return lvm.Volume{}, fmt.Errorf("%s, %s together, would become the LVM volume group %s with a thin pool in it, and all of them would be taken: %w",
			strings.Join(o.Devices, ", "), humanize.IBytes(size), want.Name, snapshot.ErrUnconfirmed)
	}
	c.LVM = &lvmPool{Made: true}
	if err := at.note(*c); err != nil {
		return lvm.Volume{}, err
	}
	failpoint.Hit("thin.noted")
	return tool.CreateGroup(ctx, want)
}

// resolve gives the device-mapper name of an existing pool: it may be VG/LV, a name or a path. If LVM knows it, it is
// remembered as LVM's, and activated.
func (at place) resolve(ctx context.Context, c *config, name string) (string, error) {
	info, err := at.device(ctx, name)
	switch {
	case err == nil && !strings.HasPrefix(info.UUID, lvm.DevicePrefix):
		return info.Name, nil
	case err != nil && !errors.Is(err, dm.ErrNotFound):
		return "", err
	case err != nil && !strings.Contains(name, "/"):
		return name, nil // FindShare says that it is not there
	}
	tool, lerr := at.kind.lvm(ctx)
	if lerr != nil {
		return "", fmt.Errorf("looking for thin pool %s: %w", name, lerr)
	}
	var v lvm.Volume
	if err == nil {
		v, err = tool.Owner(ctx, info.UUID)
	} else {
		v, err = tool.Lookup(ctx, name)
	}
	if err != nil {
		return "", err
	}
	made := c.LVM != nil && c.LVM.Made
	c.LVM = &lvmPool{GroupUUID: v.GroupUUID, UUID: v.UUID, Made: made}
	up, err := at.isUp(ctx, v)
	if err == nil && !up {
		err = tool.Activate(ctx, v)
	}
	if err != nil {
		return "", err
	}
	info, err = at.client.Info(ctx, dm.UUID(v.DeviceUUID()))
	return info.Name, err
}

// isUp says whether LVM's pool is active itself, and not just because a thin volume in it is.
func (at place) isUp(ctx context.Context, v lvm.Volume) (bool, error) {
	info, err := at.client.Info(ctx, dm.UUID(v.DeviceUUID()))
	if err == nil && lvm.Fronted(info.Name) {
		_, err = at.client.Info(ctx, dm.UUID(v.FrontUUID()))
	}
	if errors.Is(err, dm.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// device looks for a device-mapper device by name or path; dm.ErrNotFound for anything else.
func (at place) device(ctx context.Context, name string) (dm.Info, error) {
	if !strings.Contains(name, "/") {
		return at.client.Info(ctx, dm.Name(name))
	}
	n, err := dm.BlockDeviceNumber(name)
	if err != nil || !filepath.IsAbs(name) {
		return dm.Info{}, fmt.Errorf("%s: %w", name, dm.ErrNotFound)
	}
	return at.client.Info(ctx, dm.Dev(n))
}

// wake activates LVM's pool where it is not active, as after a boot.
func (at place) wake(ctx context.Context, c config) error {
	if c.LVM == nil || c.Pool.Share == nil {
		return nil
	}
	if up, err := at.isUp(ctx, c.LVM.volume()); up || err != nil {
		return err
	}
	tool, err := at.kind.lvm(ctx)
	if err != nil {
		return err
	}
	v, err := tool.Find(ctx, c.LVM.GroupUUID, c.LVM.UUID)
	if err != nil {
		return fmt.Errorf("%w; are all disks of its volume group there (pvs)?", err)
	}
	return tool.Activate(ctx, v)
}

// destroy removes what the store stands on, and of others' pools gives the share back.
func (at place) destroy(ctx context.Context, c config) error {
	var err error
	switch {
	case c.LVM != nil && c.LVM.Made:
		err = at.removeGroup(ctx, c)
	default:
		if err = at.wake(ctx, c); err == nil {
			err = thinpool.Destroy(ctx, at.client, c.Pool)
		}
	}
	if err != nil {
		return err
	}
	return at.forgetNote()
}

func (at place) removeGroup(ctx context.Context, c config) error {
	tool, err := at.kind.lvm(ctx)
	if err != nil {
		return err
	}
	if err := thinpool.DeactivateAll(ctx, at.client, c.Pool); err != nil {
		return err
	}
	return tool.RemoveGroup(ctx, c.Pool.Identity, c.LVM.UUID)
}

// The note says what an Init is about to take that is not a file below the root, so that it can be given back after a
// crash. The catalog has the configuration only when Init has ended; from then on the note means nothing.
func notePath(root string) string { return filepath.Join(driverDir(root), "init.json") }

// note writes it durably.
func (at place) note(c config) error {
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	path := notePath(at.root)
	err = writeSynced(path+".new", b)
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err == nil {
		err = durable.Dir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("noting what the store stands on: %w", err)
	}
	return nil
}

func writeSynced(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

// readNote is nil where there is none.
func readNote(root string) ([]byte, error) {
	b, err := os.ReadFile(notePath(root))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

func (at place) forgetNote() error {
	var errs []error
	for _, path := range []string{notePath(at.root), notePath(at.root) + ".new"} {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
