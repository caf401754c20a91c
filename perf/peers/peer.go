package peers

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// ErrCannot says that a peer has no such operation.
var ErrCannot = errors.New("cannot do this")

// Store keeps layers and containers, in one space of names. Operations on different
// names may run at once; a layer may be the parent of several creations at once.
type Store interface {
	// Layer makes a layer: the parent's files, "" for none, and what fill does to
	// them. It is on disk when Layer returns.
	Layer(ctx context.Context, name, parent string, fill func(root string) error) error
	// Create makes a container of a layer.
	Create(ctx context.Context, name, layer string) error
	// Mount shows a container, for reading and writing.
	Mount(ctx context.Context, name string) (dir string, err error)
	// Unmount ends that. Who never mounts does nothing.
	Unmount(ctx context.Context, name string) error
	// Remove removes a container that is not mounted, or a layer that nothing stands on.
	Remove(ctx context.Context, name string) error
}

// ManyRemover is a Store that may remove many in one go.
type ManyRemover interface {
	RemoveMany(ctx context.Context, names []string) error
}

// Settler is a Store that does a part of its removals after they were answered.
type Settler interface {
	// Settle waits until all that was removed is gone.
	Settle(ctx context.Context) error
}

// Peer is a way to keep layers and containers.
type Peer struct {
	Name string
	Note string // on what it works and with which options
	// FileSystem: it is no store. A container is the layer itself, so that only what
	// is done inside can be compared.
	FileSystem bool
	// programs are what it starts.
	programs []string
	// lacks says what the kernel does not have, if anything.
	lacks func(context.Context) error
	open  func(context.Context, *Site) (Store, error)
}

// Lacking says why a peer cannot take part here, or nil.
func (p Peer) Lacking(ctx context.Context) error {
	for _, name := range p.programs {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("the program %s is not installed (scripts/deps installs what benchmarks need): %w", name, err)
		}
	}
	if p.lacks == nil {
		return nil
	}
	return p.lacks(ctx)
}

// Open makes the peer's store at a site.
func (p Peer) Open(ctx context.Context, s *Site) (Store, error) {
	store, err := p.open(ctx, s)
	if err != nil {
		return nil, fmt.Errorf("preparing %s: %w", p.Name, err)
	}
	return store, nil
}

// Ours begins the names of blockstore's own peers; the driver follows.
const Ours = "blockstore/"

// The peers that targets are stated of.
const (
	OursOnBtrfs   = Ours + "btrfs"
	OursOnPool    = Ours + "devicemapper"
	OursOnZFS     = Ours + "zfs"
	OverlayOnExt4 = "overlay/ext4"
	OverlayOnXFS  = "overlay/xfs"
	FloorOfBtrfs  = "floor/btrfs"
	FloorOfPool   = "floor/devicemapper"
	FloorOfZFS    = "floor/zfs"
	PlainExt4     = "plain/ext4"
	PlainBtrfs    = "plain/btrfs"
	PlainThin     = "plain/thin"
	PlainZFS      = "plain/zfs"
)

// All are the peers, in the order of columns.
func All() []Peer {
	return []Peer{
		{Name: PlainExt4, Note: "a file system, no layers: a container is the layer's directory", FileSystem: true, programs: []string{"mkfs.ext4"}, open: openPlain("ext4")},
		{Name: PlainBtrfs, Note: "the same on btrfs", FileSystem: true, programs: []string{"mkfs.btrfs"}, lacks: fileSystem("btrfs"), open: openPlain("btrfs")},
		{Name: PlainThin, Note: "the same, ext4 on one thin device whose blocks were all written before", FileSystem: true, programs: []string{"mkfs.ext4"}, lacks: thinPools, open: openPlainThin},
		{Name: PlainZFS, Note: "the same on ZFS", FileSystem: true, programs: []string{"zpool"}, lacks: zfsModule, open: openPlainZFS},
		{Name: OverlayOnExt4, Note: "overlay's mount alone, on ext4; the first write to a file copies all of it", programs: []string{"mkfs.ext4"}, lacks: fileSystem("overlay"), open: openOverlay("ext4")},
		{Name: OverlayOnXFS, Note: "the same on xfs with reflink: the first write shares the file's blocks", programs: []string{"mkfs.xfs"}, lacks: fileSystem("overlay", "xfs"), open: openOverlay("xfs")},
		{Name: "overlay/btrfs", Note: "the same on btrfs", programs: []string{"mkfs.btrfs"}, lacks: fileSystem("overlay", "btrfs"), open: openOverlay("btrfs")},
		{Name: "vfs", Note: "a copy of the directory by cp -a, on ext4, as Docker's vfs has it", programs: []string{"mkfs.ext4", "cp"}, open: openCopies("ext4", "never")},
		{Name: "reflink", Note: "a copy by cp -a --reflink=always, on xfs", programs: []string{"mkfs.xfs", "cp"}, lacks: fileSystem("xfs"), open: openCopies("xfs", "always")},
		{Name: "btrfs-progs", Note: "btrfs subvolume snapshot and delete, by command line", programs: []string{"mkfs.btrfs", "btrfs"}, lacks: fileSystem("btrfs"), open: openBtrfsProgs},
		{Name: FloorOfBtrfs, Note: "btrfs's ioctls alone, no mount: no account, nothing comes back after a crash", programs: []string{"mkfs.btrfs"}, lacks: fileSystem("btrfs"), open: openBtrfsFloor},
		{Name: "dmsetup", Note: "thin devices by dmsetup, ext4 inside; blocks of 64 KiB, zeroed", programs: []string{"mkfs.ext4", "dmsetup"}, lacks: thinPools, open: openDmsetup},
		{Name: "lvm", Note: "thin volumes by lvcreate -s, lvchange and lvremove, ext4 inside; blocks of 64 KiB, zeroed", programs: []string{"mkfs.ext4", "pvcreate", "vgcreate", "lvcreate", "lvchange", "lvremove"}, lacks: thinPools, open: openLVM},
		{Name: FloorOfPool, Note: "device-mapper's ioctls alone, ext4 inside; blocks of 64 KiB, zeroed: no account, nothing comes back after a crash", programs: []string{"mkfs.ext4"}, lacks: thinPools, open: openPoolFloor},
		{Name: "zfs", Note: "zfs clone and destroy by command line; a layer is a snapshot", programs: []string{"zpool", "zfs"}, lacks: zfsModule, open: openZFSCommands},
		{Name: FloorOfZFS, Note: "ZFS' ioctls alone: no account, nothing comes back after a crash", programs: []string{"zpool"}, lacks: zfsModule, open: openZFSFloor},
		{Name: OursOnBtrfs, Note: "the store's root on btrfs, without a server between", programs: []string{"mkfs.btrfs"}, lacks: fileSystem("btrfs"), open: openOursOnBtrfs},
		{Name: OursOnPool, Note: "the store's root on ext4, a pool in two files with blocks of 64 KiB that are zeroed, without a server between", programs: []string{"mkfs.ext4"}, lacks: thinPools, open: openOursOnPool},
		{Name: OursOnZFS, Note: "the store's root on ZFS, without a server between", programs: []string{"zpool"}, lacks: zfsModule, open: openOursOnZFS},
	}
}

// Ours says whether a peer is blockstore's own store.
func (p Peer) Ours() bool { return strings.HasPrefix(p.Name, Ours) }

// Commands says whether each operation is a command line or more of them: those are named by their programs alone.
func (p Peer) Commands() bool { return !strings.Contains(p.Name, "/") }

// Overlay says whether a peer is overlay, whose stores are Uppers.
func (p Peer) Overlay() bool { return strings.HasPrefix(p.Name, "overlay/") }

// Upper is a Store that keeps what a container changed in a directory.
type Upper interface {
	Upper(name string) string
}

// Named finds peers by their names.
func Named(names []string) ([]Peer, error) {
	byName := map[string]Peer{}
	var known []string
	for _, p := range All() {
		byName[p.Name] = p
		known = append(known, p.Name)
	}
	var found []Peer
	for _, name := range names {
		p, ok := byName[name]
		if !ok {
			return nil, fmt.Errorf("%q is no peer: there are %s", name, strings.Join(known, ", "))
		}
		found = append(found, p)
	}
	return found, nil
}
