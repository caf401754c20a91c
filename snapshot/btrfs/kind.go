package btrfs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/google/uuid"

	"blockstore.dev/blockstore/btrfsvol"
	"blockstore.dev/blockstore/ioctl"
	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/loopback"
)

const name = "btrfs"

// volumesName is the name of the volumes' subvolume.
const volumesName = "volumes"

// Kind is the driver before it has a store. Its zero value is ready.
type Kind struct{}

var _ snapshot.Kind = Kind{}

func (Kind) Name() string { return name }

// Probe looks for root rights and for btrfs in the kernel, which loads its module for it where it
// can.
func (Kind) Probe(context.Context) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("btrfs: %w without root rights: run as root", snapshot.ErrNotSupported)
	}
	known, err := kernelHas()
	if err == nil && !known {
		loadModule()
		known, err = kernelHas()
	}
	if known || err != nil {
		return err
	}
	return fmt.Errorf("btrfs: %w by this kernel as it runs: load the module (modprobe btrfs), or boot a kernel with CONFIG_BTRFS_FS",
		snapshot.ErrNotSupported)
}

// kernelHas looks for btrfs among the file systems that the kernel has at this moment.
func kernelHas() (bool, error) {
	known, err := os.ReadFile("/proc/filesystems")
	return strings.Contains(string(known), "\tbtrfs\n"), err
}

// loadModule opens the module's control device, which has the kernel load it
// (MODULE_ALIAS("devname:btrfs-control")).
func loadModule() {
	if control, err := os.Open("/dev/btrfs-control"); err == nil {
		_ = control.Close()
	}
}

// Init makes the volumes' subvolume on the btrfs that the root lies on, or on one in
// a loopback file where it lies on another file system or a loopback size is given.
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
	native, err := onBtrfs(p.driver)
	if err != nil {
		return nil, err
	}
	c := config{Loopback: !native || o.Loopback != 0}
	if err := p.vacant(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(p.driver, 0o700); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.wipe(c.Loopback))
		}
	}()
	if err := p.build(ctx, &c, o.Loopback); err != nil {
		return nil, err
	}
	return json.Marshal(c)
}

// refuse names the options that this driver cannot follow.
func refuse(o snapshot.InitOptions) error {
	what := o.ForBlocks()
	if what == "" && o.Dataset != "" {
		what = "a dataset"
	}
	if what != "" {
		return fmt.Errorf("btrfs: %w: the driver btrfs cannot use %s: it takes a root on btrfs, or a loopback size", snapshot.ErrInvalid, what)
	}
	return nil
}

// vacant refuses a directory where an earlier store's files are.
func (p places) vacant() error {
	for _, path := range []string{p.image, p.mount, filepath.Join(p.driver, volumesName)} {
		_, err := os.Lstat(path)
		if err == nil {
			return fmt.Errorf("btrfs: %s: %w: destroy the old store, or choose another root", path, snapshot.ErrExists)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// build makes everything and leaves nothing mounted.
func (p places) build(ctx context.Context, c *config, asked int64) (err error) {
	if c.Loopback {
		if _, err := exec.LookPath("mkfs.btrfs"); err != nil {
			return fmt.Errorf("btrfs: %w: mkfs.btrfs is not installed: install btrfs-progs", snapshot.ErrNotSupported)
		}
		size, err := loopback.Size(p.driver, asked)
		if err != nil {
			return err
		}
		if err := p.makeImage(ctx, size); err != nil {
			return err
		}
		if err := p.bringUp(ctx); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, p.takeDown()) }()
	}
	top, err := btrfsvol.Open(p.top(c.Loopback))
	if err != nil {
		return translate(err, "init")
	}
	defer func() { err = errors.Join(err, top.Close()) }()
	c.FSID = top.FSID()
	if c.Loopback {
		// The file system is our own and new, so that quotas may be switched on.
		err := top.EnableSimpleQuota()
		if err != nil && !errors.Is(err, btrfsvol.ErrNotSupported) {
			return translate(err, "init")
		}
		c.SimpleQuota = err == nil
	}
	c.Volumes, err = makeVolumes(top)
	return translate(err, "init")
}

// makeVolumes makes the volumes' subvolume, its shards and the base, durably.
func makeVolumes(top *btrfsvol.FS) (uuid.UUID, error) {
	if err := top.Create(volumesName, btrfsvol.CreateOptions{}); err != nil {
		return uuid.Nil, err
	}
	dir := filepath.Join(top.Dir(), volumesName)
	if err := os.Chmod(dir, 0o700); err != nil {
		return uuid.Nil, err
	}
	for i := range shards {
		if err := os.Mkdir(filepath.Join(dir, shardName(i)), 0o700); err != nil {
			return uuid.Nil, err
		}
	}
	base := filepath.Join(volumesName, pathOf(snapshot.Base))
	if err := top.Create(base, btrfsvol.CreateOptions{}); err != nil {
		return uuid.Nil, err
	}
	if err := os.Chmod(filepath.Join(top.Dir(), base), 0o755); err != nil { // whatever the umask
		return uuid.Nil, err
	}
	if err := top.SetReadOnly(base, true); err != nil {
		return uuid.Nil, err
	}
	if err := top.Sync(); err != nil {
		return uuid.Nil, err
	}
	s, err := top.Stat(volumesName)
	return s.UUID, err
}

// Destroy deletes all volumes and the loopback file. It needs no configuration.
func (Kind) Destroy(ctx context.Context, o snapshot.OpenOptions) error {
	p, err := placesOf(o.Root)
	if err != nil {
		return err
	}
	_, err = os.Lstat(p.image)
	loopback := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if loopback {
		// A failed Init may have left a file that is not formatted yet.
		if err := p.bringUp(ctx); err != nil {
			return p.wipe(loopback)
		}
	}
	busy, err := p.inUse(loopback)
	if err != nil || len(busy) > 0 {
		if loopback {
			err = errors.Join(err, p.takeDown())
		}
		if len(busy) > 0 {
			err = errors.Join(err, fmt.Errorf("btrfs: %w: volumes are mounted: %s", snapshot.ErrBusy, strings.Join(busy, ", ")))
		}
		return err
	}
	return p.wipe(loopback)
}

// inUse lists where volumes are mounted.
func (p places) inUse(loopback bool) ([]string, error) {
	dir := filepath.Join(p.top(loopback), volumesName)
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	where, err := locate(dir)
	if err != nil {
		return nil, err
	}
	return where.usesBelow("")
}

// wipe removes what Init makes, as much of it as there is.
func (p places) wipe(loopback bool) error {
	if loopback {
		if err := p.takeDown(); err != nil {
			return err
		}
		if mounted, err := p.mounted(); err != nil || mounted {
			return errors.Join(err, fmt.Errorf("btrfs: %s: %w: leave the directory", p.mount, snapshot.ErrBusy))
		}
		return errors.Join(absentIsFine(os.Remove(p.mount)), p.detach(), absentIsFine(os.Remove(p.image)), removeIfEmpty(p.driver))
	}
	if native, err := onBtrfs(p.driver); err != nil || !native {
		return errors.Join(err, removeIfEmpty(p.driver))
	}
	if _, err := os.Lstat(filepath.Join(p.driver, volumesName)); errors.Is(err, fs.ErrNotExist) {
		return removeIfEmpty(p.driver)
	}
	top, err := btrfsvol.Open(p.driver)
	if err != nil {
		return translate(err, "destroy")
	}
	s, err := top.Stat(volumesName)
	if err == nil {
		_, err = top.Delete(s.ID)
	}
	if err == nil {
		err = top.Sync()
	}
	return errors.Join(translate(err, "destroy"), top.Close(), removeIfEmpty(p.driver))
}

// detach takes the loopback file off a device that has it without a mount.
func (p places) detach() error {
	loop, err := ioctl.FindLoop(p.image)
	if errors.Is(err, ioctl.ErrLoopNotFound) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return loop.Detach()
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
