package peers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/perf"
	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/mount"
	"blockstore.dev/blockstore/snapshot/thin"
)

// Site is where one store of a peer lies.
type Site struct {
	Dir string // an empty directory, the site's own
	// DiskSize is the size of each sparse file that stands for a disk, in bytes.
	DiskSize int64
	// VolumeSize is what a layer or container on a block device can hold, in bytes.
	VolumeSize int64
	// KernelName is for what the kernel has a name for; no other site has it.
	KernelName string
	Undo       *perf.Undo
	// Devices are the block devices that hold everything of the site, by their names
	// in /sys/block.
	Devices []string
	// accounts are those of its file systems and pools.
	accounts []account
}

// Beside is a second site, in a directory of that name below this one's.
func (s *Site) Beside(name string) (*Site, error) {
	beside := *s
	beside.Dir, beside.KernelName = filepath.Join(s.Dir, name), s.KernelName+"-"+name
	beside.Devices, beside.accounts = nil, nil
	return &beside, os.Mkdir(beside.Dir, 0o755)
}

// fileSystem makes the site's file system and an empty directory on it.
func (s *Site) fileSystem(ctx context.Context, kind string) (root string, err error) {
	at := filepath.Join(s.Dir, "fs")
	if err := perf.FileSystem(ctx, s.Undo, kind, filepath.Join(s.Dir, "disk.img"), at, s.DiskSize); err != nil {
		return "", err
	}
	below, err := mount.Below(at)
	if err != nil {
		return "", err
	}
	for _, m := range below {
		s.uses(m.Source)
	}
	if err := s.accountOf(kind, at); err != nil {
		return "", err
	}
	root = filepath.Join(at, "root")
	return root, os.Mkdir(root, 0o755)
}

// uses notes a device.
func (s *Site) uses(path string) {
	s.Devices = append(s.Devices, strings.TrimPrefix(path, "/dev/"))
}

// fileSystem says which file systems the kernel lacks.
func fileSystem(kinds ...string) func(context.Context) error {
	return func(context.Context) error {
		text, err := os.ReadFile("/proc/filesystems")
		if err != nil {
			return err
		}
		known := strings.Fields(string(text))
		for _, kind := range kinds {
			// What is a module is not listed until it is first mounted.
			if !slices.Contains(known, kind) && !isModule(kind) {
				return fmt.Errorf("this kernel has no %s", kind)
			}
		}
		return nil
	}
}

// isModule says whether a file system could be loaded.
func isModule(name string) bool {
	var uts unix.Utsname
	if unix.Uname(&uts) != nil {
		return false
	}
	dep, err := os.ReadFile(filepath.Join("/lib/modules", unix.ByteSliceToString(uts.Release[:]), "modules.dep"))
	return err == nil && strings.Contains(string(dep), "/"+name+".ko")
}

// thinPools says whether the kernel has them.
func thinPools(ctx context.Context) error {
	err := thin.Kind{}.Probe(ctx)
	if errors.Is(err, snapshot.ErrNotSupported) {
		return errors.New("this kernel has no device-mapper thin pools")
	}
	return err
}

// filled shows a new layer of a store to fill, until what that does is on disk.
func filled(ctx context.Context, s Store, name string, fill func(string) error) error {
	dir, err := s.Mount(ctx, name)
	if err != nil {
		return err
	}
	return errors.Join(fill(dir), written(dir), s.Unmount(ctx, name))
}

// written waits until a directory's file system has everything on disk.
func written(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(f.Fd())), f.Close())
}
