package faults

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/ioctl"
	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/failpoint"
	"blockstore.dev/blockstore/snapshot/mount"
	"blockstore.dev/blockstore/snapshot/thin"
)

const eventually = 20 * time.Second

// rig is a test's kernel: a directory on a real file system and device-mapper.
type rig struct {
	t   *testing.T
	dm  *dm.Client
	dir string
	// loops are the devices of files.
	loops map[string]string
}

func newRig(t *testing.T, targets ...string) *rig {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: the store mounts file systems")
	}
	client, err := dm.Open(dm.Options{})
	if errors.Is(err, dm.ErrNotSupported) || errors.Is(err, dm.ErrPermission) {
		t.Skipf("no device-mapper in this kernel: %v", err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	for _, target := range append(targets, "thin-pool") {
		if _, err := client.ProbeTarget(t.Context(), target); err != nil {
			t.Skipf("no device-mapper target %s in this kernel: %v", target, err)
		}
	}
	dir, err := os.MkdirTemp(os.Getenv("BSTEST_DIR"), "bstest-faults-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return &rig{t: t, dm: client, dir: dir, loops: map[string]string{}}
}

// marked skips a test that needs the steps marked.
func marked(t *testing.T) {
	t.Helper()
	if !failpoint.Enabled {
		t.Skip("the steps are not marked in this build: build it with -tags failpoints")
	}
}

func ctxOf() context.Context { return context.Background() }

func (r *rig) ctx() context.Context { return ctxOf() }

func (r *rig) ok(err error, what ...any) {
	r.t.Helper()
	require.NoError(r.t, err, what...)
}

// run runs one of the file systems' or the pool's own tools.
func (r *rig) run(name string, args ...string) {
	r.t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	r.ok(err, "%s: %s", name, out)
}

// loop makes a sparse file a disk.
func (r *rig) loop(path string, size int64) dm.Number {
	r.t.Helper()
	r.ok(os.WriteFile(path, nil, 0o600))
	r.ok(os.Truncate(path, size))
	l, err := ioctl.AttachLoop(r.ctx(), path, ioctl.LoopOptions{Buffered: true})
	r.ok(err)
	r.t.Cleanup(func() { r.ok(l.Detach()) })
	r.loops[path] = l.Path()
	n, err := dm.BlockDeviceNumber(l.Path())
	r.ok(err)
	return n
}

// device makes a device-mapper device.
func (r *rig) device(name string, length dm.Sectors, target dm.Target) dm.Number {
	r.t.Helper()
	info, err := r.dm.CreateLoaded(r.ctx(), name, "", dm.NewTable(length, target), dm.LoadOptions{})
	r.ok(err, "making %s", name)
	return info.Dev
}

func (r *rig) remove(names ...string) {
	r.t.Helper()
	for _, name := range names {
		_, err := r.dm.Remove(r.ctx(), dm.Name(name), dm.RemoveOptions{Wait: eventually})
		if !errors.Is(err, dm.ErrNotFound) {
			r.ok(err, "removing %s", name)
		}
	}
}

// disk is one device that holds all of a store: its pool's metadata and data, and the file system with its catalog.
// Whatever device lies below, the store finds the parts by the same links.
type disk struct {
	*rig
	metadata, data, catalog dm.Sectors
	under                   dm.Number // of disks whose parts are swapped
}

const mib = dm.Sectors(1 << 20 / dm.SectorSize)

func (r *rig) disk() *disk {
	d := &disk{rig: r, metadata: 8 * mib, data: 192 * mib, catalog: 24 * mib}
	r.ok(os.MkdirAll(d.mountPoint(), 0o700))
	return d
}

func (d *disk) length() dm.Sectors { return d.metadata + d.data + d.catalog }

func (d *disk) mountPoint() string { return filepath.Join(d.dir, "fs") }

func (d *disk) root() string { return filepath.Join(d.mountPoint(), "store") }

func (d *disk) part(name string) string { return filepath.Join(d.dir, name) }

func sliceName(part string) string { return "bstest-faults-" + part }

// slice cuts a device into the three parts.
func (d *disk) slice(under dm.Number) {
	d.t.Helper()
	at := dm.Sectors(0)
	for _, p := range []struct {
		name   string
		length dm.Sectors
	}{{"metadata", d.metadata}, {"data", d.data}, {"catalog", d.catalog}} {
		n := d.device(sliceName(p.name), p.length, dm.Linear{Device: under, Offset: at})
		at += p.length
		if err := os.Remove(d.part(p.name)); !errors.Is(err, os.ErrNotExist) {
			d.ok(err)
		}
		d.ok(os.Symlink(dm.Path(n), d.part(p.name)))
	}
}

func (d *disk) unslice() {
	d.t.Helper()
	d.remove(sliceName("metadata"), sliceName("data"), sliceName("catalog"))
}

func (d *disk) mount() error {
	return mount.At(mount.Mount{Type: "ext4", Source: d.part("catalog")}, d.mountPoint())
}

func (d *disk) unmount() {
	d.t.Helper()
	d.ok(mount.Unmount(d.mountPoint()))
}

func options(root string) snapshot.StoreOptions {
	return snapshot.StoreOptions{Root: root, Kinds: []snapshot.Kind{thin.Kind{}}}
}

// clear takes away what a store that could not be opened or closed left in the kernel.
func (d *disk) clear() {
	d.t.Helper()
	left, err := mount.Below(d.root())
	d.ok(err)
	for i := len(left) - 1; i >= 0; i-- {
		d.ok(mount.Unmount(left[i].Target))
	}
	for range 3 { // thin devices, the pool, what is below
		devices, err := d.dm.List(d.ctx(), dm.Prefix{Name: "blockstore-"})
		d.ok(err)
		for _, dev := range devices {
			_, _ = d.dm.Remove(d.ctx(), dm.Name(dev.Name), dm.RemoveOptions{Wait: time.Second})
		}
	}
	devices, err := d.dm.List(d.ctx(), dm.Prefix{Name: "blockstore-"})
	d.ok(err)
	require.Empty(d.t, devices)
}

// thinCheck runs Debian's thin_check on the pool's metadata, which must not be in use.
func (d *disk) thinCheck() error {
	out, err := exec.Command("thin_check", d.part("metadata")).CombinedOutput()
	if err != nil {
		return fmt.Errorf("thin_check: %w: %s", err, out)
	}
	return nil
}

// Flags of an entry of dm-log-writes. Kernel: admin-guide/device-mapper/log-writes.rst and drivers/md/dm-log-writes.c.
const (
	logFlush   = 1
	logFUA     = 2
	logDiscard = 4
	logMark    = 8

	logMagic = 0x6a736677736872
)

// entry is what was written, flushed or discarded at once, or a mark.
type entry struct {
	at, length int64 // on the disk, in bytes
	flags      uint64
	data       int64 // where the log has what was written
	mark       string
}

func (e entry) flush() bool { return e.flags&logFlush != 0 }

// readLog reads the index of a log.
func readLog(f *os.File) ([]entry, error) {
	head := make([]byte, 512)
	if _, err := f.ReadAt(head, 0); err != nil {
		return nil, err
	}
	sector := int64(binary.LittleEndian.Uint32(head[24:]))
	if binary.LittleEndian.Uint64(head) != logMagic || sector < 512 {
		return nil, errors.New("this is no log of dm-log-writes")
	}
	all := make([]entry, 0, binary.LittleEndian.Uint64(head[16:]))
	b := make([]byte, sector)
	for at := sector; len(all) < cap(all); {
		if _, err := f.ReadAt(b, at); err != nil {
			return nil, err
		}
		at += sector
		field := func(i int) int64 { return int64(binary.LittleEndian.Uint64(b[8*i:])) }
		e := entry{at: field(0) * sector, length: field(1) * sector, flags: uint64(field(2)), data: at}
		switch {
		case e.flags&logMark != 0:
			e.mark, _, _ = strings.Cut(string(b[32:32+field(3)]), "\x00")
			e.length = 0
		case e.flags&logDiscard == 0:
			at += e.length
		}
		all = append(all, e)
	}
	return all, nil
}

// target is what a log is replayed on.
type target interface {
	WriteAt(p []byte, off int64) (int, error)
}

// apply does on a disk what entry e did, between two of its bytes.
func (e entry) apply(log *os.File, to target, from, end int64) error {
	end = min(end, e.length)
	if from >= end {
		return nil
	}
	if e.flags&logDiscard != 0 {
		if f, ok := to.(*os.File); ok && unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, e.at+from, end-from) == nil {
			return nil
		}
	}
	for from < end {
		b := make([]byte, min(end-from, 1<<20))
		if e.flags&logDiscard == 0 {
			if _, err := log.ReadAt(b, e.data+from); err != nil {
				return err
			}
		}
		if _, err := to.WriteAt(b, e.at+from); err != nil {
			return err
		}
		from += int64(len(b))
	}
	return nil
}

// tear is the unit in which a disk writes a block or does not: the kernel's pool takes 4096 bytes of its metadata for one.
const tear = 4096

// applySome does as much of e as a disk that lost power may have done: all, nothing, or some of its parts.
func (e entry) applySome(log *os.File, to target, chance *rand.Rand) error {
	switch chance.IntN(4) {
	case 0:
		return nil
	case 1:
		for at := int64(0); at < e.length; at += tear {
			if chance.IntN(2) == 0 {
				if err := e.apply(log, to, at, at+tear); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return e.apply(log, to, 0, e.length)
}
