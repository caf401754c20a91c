package peers

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"blockstore.dev/blockstore/ioctl"
	"blockstore.dev/blockstore/perf"
)

// lvm keeps thin volumes in a volume group on one loop device.
type lvm struct {
	group string
	size  int64
	// config has the tools look at this device alone, and not wait for udev, which may
	// not be there.
	config string
}

func openLVM(ctx context.Context, s *Site) (Store, error) {
	file := s.Dir + "/disk.img"
	if err := perf.Sparse(file, s.DiskSize); err != nil {
		return nil, err
	}
	loop, err := ioctl.AttachLoop(ctx, file, ioctl.LoopOptions{AutoClear: true})
	if err != nil {
		return nil, err
	}
	// No volume is active between two commands: somebody has to hold the device.
	s.Undo.Add("LVM's loop device", loop.Close)
	s.uses(loop.Path())
	l := lvm{group: strings.ReplaceAll(s.KernelName, "/", "-"), size: s.VolumeSize, config: fmt.Sprintf(
		`devices { filter=["a|^%s$|","r|.*|"] use_devicesfile=0 } activation { udev_sync=0 udev_rules=0 monitoring=0 } backup { backup=0 archive=0 }`, loop.Path())}
	if err := l.run(ctx, "pvcreate", "-f", loop.Path()); err != nil {
		return nil, err
	}
	s.Undo.Add(l.group, func() error {
		back, cancel := perf.Undoing()
		defer cancel()
		return l.run(back, "vgremove", "-ff", l.group)
	})
	if err := l.run(ctx, "vgcreate", l.group, loop.Path()); err != nil {
		return nil, err
	}
	err = l.run(ctx, "lvcreate", "--type", "thin-pool", "-l", "90%FREE", "--chunksize", "64k", "--zero", "y",
		"--poolmetadatasize", fmt.Sprint(int64(perf.PoolMetadata))+"b", "-n", "pool", l.group)
	if err != nil {
		return nil, err
	}
	return openVolumes(s, l)
}

func (l lvm) run(ctx context.Context, name string, args ...string) error {
	_, err := perf.Output(ctx, name, append([]string{"-qq", "-y", "--config", l.config}, args...)...)
	return err
}

func (l lvm) volume(name string) string { return l.group + "/" + name }

func (l lvm) create(ctx context.Context, name string) error {
	return errors.Join(
		l.run(ctx, "lvcreate", "-V", fmt.Sprint(l.size)+"b", "--thinpool", "pool", "-n", name, l.group),
		l.deactivate(ctx, name))
}

func (l lvm) snapshot(ctx context.Context, layer, name string) error {
	return l.run(ctx, "lvcreate", "-s", "-kn", "-an", "-n", name, l.volume(layer))
}

func (l lvm) activate(ctx context.Context, name string) (string, error) {
	return "/dev/" + l.volume(name), l.run(ctx, "lvchange", "-ay", l.volume(name))
}

func (l lvm) deactivate(ctx context.Context, name string) error {
	return l.run(ctx, "lvchange", "-an", l.volume(name))
}

func (l lvm) remove(ctx context.Context, names ...string) error {
	args := []string{"-f"}
	for _, name := range names {
		args = append(args, l.volume(name))
	}
	return l.run(ctx, "lvremove", args...)
}
