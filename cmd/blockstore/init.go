package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"blockstore.dev/blockstore/snapshot"
)

// initOptions are the flags of init.
type initOptions struct {
	driver                     string
	loopback, baseSize         sizeFlag
	fileSystem                 string
	dataDevice, metadataDevice string
	dataset                    string
	devices                    []string
	thinPool                   string
	yes, force                 bool
}

// made is what init prints with --json.
type made struct {
	Root   string `json:"root"`
	Driver string `json:"driver"`
	Chosen string `json:"chosen"`
}

func (a *app) initCommand() *cobra.Command {
	var o initOptions
	cmd := a.command(spec{
		use:   "init [flags]",
		short: "make a store in an empty or new directory",
		long: `Makes a store. The root directory must be empty or missing: what holds another
store, or anything else, is refused.

--driver auto takes btrfs or zfs where the root directory lies on btrfs or ZFS;
else device-mapper on a loopback pool where the kernel has thin pools; else btrfs
in a loopback file. "blockstore info" shows which was chosen and why.

--driver zfs makes a dataset of its own in the one named by --dataset, or in the
one that the root directory lies on; else, or with --loopback, a pool in a file.

--device makes an LVM volume group of blank disks and a thin pool in it, which lvs
and vgs show; a twentieth stays free for emergencies. Without --yes it only says
what it would do. --thin-pool puts the store into a thin pool that there is
already, LVM's or another's: nothing of others in it is touched.

Sizes are in powers of 1024: 10G, 10GB and 10GiB are 10·2^30 bytes.`,
		example: `
blockstore init
blockstore init --driver btrfs --loopback 20G
blockstore --root /srv/store init --driver devicemapper --data-device /dev/sdb1 --metadata-device /dev/sdb2
blockstore init --dataset tank/containers
blockstore init --device /dev/sdb --device /dev/sdc --yes
blockstore init --thin-pool vg0/containers`,
		run: func(ctx context.Context, _ []string) error { return a.init(ctx, o) },
	})
	f := cmd.Flags()
	f.StringVar(&o.driver, "driver", driverAuto, "auto, devicemapper, btrfs or zfs")
	f.Var(&o.loopback, "loopback", "size of the loopback file (grows with use; default: the driver's)")
	f.Var(&o.baseSize, "base-size", "limit of every image and container (default: the driver's)")
	f.StringVar(&o.fileSystem, "fs", "", "file system of devicemapper's volumes: ext4 or xfs (default ext4)")
	f.StringVar(&o.dataDevice, "data-device", "", "block `DEV`ice for a thin pool's data; all of it is taken")
	f.StringVar(&o.metadataDevice, "metadata-device", "", "block `DEV`ice for a thin pool's metadata")
	f.StringVar(&o.dataset, "dataset", "", "existing ZFS pool or file `SYSTEM` that the store's dataset is made in")
	f.StringArrayVar(&o.devices, "device", nil, "blank disk `DEV`ice for an LVM volume group of the store's; may be repeated")
	f.StringVar(&o.thinPool, "thin-pool", "", "existing thin `POOL`: VG/LV, a device-mapper name, or a path")
	f.BoolVar(&o.yes, "yes", false, "the disks of --device may be taken whole")
	f.BoolVar(&o.force, "force", false, "take devices that hold old data; it is lost")
	return cmd
}

// wish reads the driver out of the flags.
func (o initOptions) wish() (wish, error) {
	w := wish{driver: o.driver}
	switch o.driver {
	case driverAuto, driverDM, driverBtrfs, driverZFS:
	default:
		return w, usagef("--driver %q: it must be auto, devicemapper, btrfs or zfs", o.driver)
	}
	switch {
	case (o.dataDevice == "") != (o.metadataDevice == ""):
		return w, usagef("--data-device and --metadata-device belong together: name both")
	case len(o.backings()) > 1:
		return w, usagef("%s exclude each other", strings.Join(o.backings(), " and "))
	case o.dataset != "" && o.fileSystem != "":
		return w, usagef("--dataset excludes --fs")
	case o.yes && len(o.devices) == 0:
		return w, usagef("--yes is for --device")
	case o.dataset != "":
		w.flag, w.flagDriver = "--dataset", driverZFS
	case o.loopback == 0 && len(o.backings()) == 1:
		w.flag, w.flagDriver = o.backings()[0], driverDM
	case o.fileSystem != "":
		w.flag, w.flagDriver = "--fs", driverDM
	}
	if fs := o.fileSystem; fs != "" && fs != "ext4" && fs != "xfs" {
		return w, usagef("--fs %q: it must be ext4 or xfs", fs)
	}
	return w, nil
}

// backings are the flags that name what the store is to stand on.
func (o initOptions) backings() []string {
	var named []string
	for _, b := range []struct {
		flag  string
		given bool
	}{
		{"--loopback", o.loopback != 0},
		{"--data-device", o.dataDevice != ""},
		{"--device", len(o.devices) > 0},
		{"--thin-pool", o.thinPool != ""},
		{"--dataset", o.dataset != ""},
	} {
		if b.given {
			named = append(named, b.flag)
		}
	}
	return named
}

func (a *app) init(ctx context.Context, o initOptions) error {
	w, err := o.wish()
	if err != nil {
		return err
	}
	if err := a.mustBeRoot(); err != nil {
		return err
	}
	if err := a.refuseServed(ctx); err != nil {
		return err
	}
	c, err := a.choose(ctx, w)
	if err != nil {
		return err
	}
	err = snapshot.Init(ctx, c.kind, snapshot.InitOptions{
		Root: a.root, BaseSize: int64(o.baseSize), FileSystem: o.fileSystem, Loopback: int64(o.loopback),
		DataDevice: o.dataDevice, MetadataDevice: o.metadataDevice, Devices: o.devices, ThinPool: o.thinPool,
		Dataset: o.dataset, Yes: o.yes, Force: o.force,
	}, c.why)
	if err != nil {
		return hintForInit(err)
	}
	m := made{Root: a.root, Driver: c.kind.Name(), Chosen: c.why}
	return a.emit(m, func(w io.Writer) { fmt.Fprintf(w, "%s store at %s\n%s\n", m.Driver, m.Root, m.Chosen) })
}

// hintForInit knows what the store cannot: which flags there are.
func hintForInit(err error) error {
	var m mended
	if errors.As(err, &m) {
		return err
	}
	switch {
	case errors.Is(err, snapshot.ErrUnconfirmed):
		return mendf(err, "say --yes if that is meant")
	case errors.Is(err, snapshot.ErrExists):
		return mendf(err, "use that store, name another directory with --root, or remove it with: blockstore destroy --yes")
	case errors.Is(err, snapshot.ErrNoSpace):
		return mendf(err, "name a directory on a larger file system with --root, or a smaller --loopback")
	}
	return err
}
