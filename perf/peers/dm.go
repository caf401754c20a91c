package peers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/perf"
)

// poolBlock is what our own pools have.
const poolBlock dm.Sectors = 128

// busyWait is how long a device may be busy that is to go: whoever looks at new
// devices has them open for a moment.
const busyWait = 5 * time.Second

// pool is a thin pool in two files, with the device-mapper client that made it.
type pool struct {
	client *dm.Client
	name   string
	dev    dm.Number
	size   dm.Sectors // of each thin device
	numbers
}

// newPool makes a pool like our own: it zeroes blocks that a write does not cover.
func newPool(ctx context.Context, s *Site) (*pool, error) {
	client, err := dm.Open(dm.Options{})
	if err != nil {
		return nil, err
	}
	s.Undo.Add("device-mapper's client", client.Close)
	data, metadata, err := perf.LoopFiles(ctx, s.Dir, s.DiskSize)
	if err != nil {
		return nil, err
	}
	s.uses(data.Path())
	s.uses(metadata.Path())
	p := &pool{client: client, name: s.KernelName, size: dm.SectorsOf(uint64(s.VolumeSize)), numbers: numbers{of: map[string]uint32{}}}
	err = p.load(ctx, data.Path(), metadata.Path(), s)
	// The pool holds its devices by now.
	return p, errors.Join(err, data.Close(), metadata.Close())
}

func (p *pool) load(ctx context.Context, data, metadata string, s *Site) error {
	on, err := dm.BlockDeviceNumber(data)
	if err != nil {
		return err
	}
	about, err := dm.BlockDeviceNumber(metadata)
	if err != nil {
		return err
	}
	table := dm.NewTable(dm.SectorsOf(uint64(s.DiskSize)), dm.ThinPool{Metadata: about, Data: on, BlockSize: poolBlock, LowWater: 1024})
	info, err := p.client.CreateLoaded(ctx, p.name, "", table, dm.LoadOptions{})
	if err != nil {
		return err
	}
	p.dev = info.Dev
	s.Undo.Add(p.name, func() error { return p.removeAll() })
	s.accounts = append(s.accounts, account{space: p.space})
	return nil
}

// removeAll removes the thin devices that are still there, and the pool.
func (p *pool) removeAll() error {
	ctx, cancel := perf.Undoing()
	defer cancel()
	devices, err := p.client.List(ctx, dm.Prefix{Name: p.name + "-"})
	if err != nil {
		return err
	}
	var errs []error
	for _, d := range devices {
		errs = append(errs, p.drop(ctx, d.Name))
	}
	return errors.Join(append(errs, p.drop(ctx, p.name))...)
}

func (p *pool) drop(ctx context.Context, name string) error {
	_, err := p.client.Remove(ctx, dm.Name(name), dm.RemoveOptions{Wait: busyWait})
	return err
}

// device is a volume's name for the kernel.
func (p *pool) device(name string) string { return p.name + "-" + name }

// poolFloor does it by ioctls.
type poolFloor struct{ *pool }

func openPoolFloor(ctx context.Context, s *Site) (Store, error) {
	p, err := newPool(ctx, s)
	if err != nil {
		return nil, err
	}
	return openVolumes(s, poolFloor{p})
}

func (p poolFloor) message(ctx context.Context, text string) error {
	_, err := p.client.Message(ctx, dm.Dev(p.dev), 0, text)
	return err
}

func (p poolFloor) create(ctx context.Context, name string) error {
	return p.message(ctx, dm.CreateThinMessage(dm.DeviceID(p.take(name))))
}

func (p poolFloor) snapshot(ctx context.Context, layer, name string) error {
	id, origin, err := p.both(layer, name)
	if err != nil {
		return err
	}
	return p.message(ctx, dm.CreateSnapMessage(dm.DeviceID(id), dm.DeviceID(origin)))
}

func (p poolFloor) activate(ctx context.Context, name string) (string, error) {
	id, err := p.get(name)
	if err != nil {
		return "", err
	}
	table := dm.NewTable(p.size, dm.Thin{Pool: p.dev, ID: dm.DeviceID(id)})
	info, err := p.client.CreateLoaded(ctx, p.device(name), "", table, dm.LoadOptions{})
	return dm.Path(info.Dev), err
}

func (p poolFloor) deactivate(ctx context.Context, name string) error {
	return p.drop(ctx, p.device(name))
}

func (p poolFloor) remove(ctx context.Context, names ...string) error {
	return p.each(names, func(id uint32) error { return p.message(ctx, dm.DeleteMessage(dm.DeviceID(id))) })
}

// dmsetup does it by command line.
type dmsetup struct{ *pool }

func openDmsetup(ctx context.Context, s *Site) (Store, error) {
	p, err := newPool(ctx, s)
	if err != nil {
		return nil, err
	}
	return openVolumes(s, dmsetup{p})
}

func (d dmsetup) run(ctx context.Context, args ...string) error {
	_, err := perf.Output(ctx, "dmsetup", args...)
	return err
}

func (d dmsetup) message(ctx context.Context, text string) error {
	return d.run(ctx, "message", d.name, "0", text)
}

func (d dmsetup) create(ctx context.Context, name string) error {
	return d.message(ctx, fmt.Sprint("create_thin ", d.take(name)))
}

func (d dmsetup) snapshot(ctx context.Context, layer, name string) error {
	id, origin, err := d.both(layer, name)
	if err != nil {
		return err
	}
	return d.message(ctx, fmt.Sprintf("create_snap %d %d", id, origin))
}

// activate finds the node that the kernel makes: without udev there is none of the
// device's name unless dmsetup makes it.
func (d dmsetup) activate(ctx context.Context, name string) (string, error) {
	id, err := d.get(name)
	if err != nil {
		return "", err
	}
	table := fmt.Sprintf("0 %d thin %s %d", d.size, d.dev, id)
	if err := d.run(ctx, "create", d.device(name), "--table", table); err != nil {
		return "", err
	}
	return "/dev/mapper/" + d.device(name), nil
}

func (d dmsetup) deactivate(ctx context.Context, name string) error {
	return d.run(ctx, "remove", "--retry", d.device(name))
}

func (d dmsetup) remove(ctx context.Context, names ...string) error {
	return d.each(names, func(id uint32) error { return d.message(ctx, fmt.Sprint("delete ", id)) })
}

// openPlainThin has an ext4 on one thin device: its layers' blocks are its own.
func openPlainThin(ctx context.Context, s *Site) (Store, error) {
	store, err := openPoolFloor(ctx, s)
	if err != nil {
		return nil, err
	}
	v := store.(*volumes)
	const only = "plain"
	if err := v.format(ctx, only); err != nil {
		return nil, err
	}
	dir, err := v.Mount(ctx, only)
	if err != nil {
		return nil, err
	}
	return plain{copies{root: dir}}, os.Chmod(dir, 0o755)
}
