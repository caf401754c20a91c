package faults

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/mount"
	"blockstore.dev/blockstore/snapshot/thin"
)

// bounded is the longest that a writer may wait for its error: far below any time limit of the kernel's.
const bounded = 2 * time.Minute

// filling is a store that is about to be full, with writers in it.
type filling struct {
	*rig
	root   string
	fs     string
	s      *snapshot.Store
	layer  string
	size   int64 // of volumes
	number int
}

// full makes a store by o and opens it.
func (r *rig) full(fs, root string, o snapshot.InitOptions) *filling {
	r.t.Helper()
	f := &filling{rig: r, root: root, fs: fs, size: 256 << 20}
	if fs == "xfs" {
		f.size = 320 << 20 // mkfs.xfs makes none below 300 MiB
	}
	o.Root, o.FileSystem, o.BaseSize = root, fs, f.size
	r.ok(snapshot.Init(r.ctx(), thin.Kind{}, o, "the fault programme"))
	r.t.Cleanup(func() { r.destroy(root) })
	f.open()
	f.layer = loadBase(r.t, f.s).Layers[1]
	return f
}

func (f *filling) open() {
	f.t.Helper()
	var err error
	f.s, err = snapshot.Open(f.ctx(), options(f.root))
	f.ok(err)
}

// container makes and mounts one.
func (f *filling) container() (name, dir string) {
	f.t.Helper()
	f.number++
	name = fmt.Sprint("c", f.number)
	_, err := f.s.Create(f.ctx(), name, snapshot.CreateRequest{Parent: f.layer})
	f.ok(err)
	dir, err = f.s.Mount(f.ctx(), name)
	f.ok(err)
	return name, dir
}

// settled is a file whose blocks the pool has given already.
func (f *filling) settled(dir string) *os.File {
	f.t.Helper()
	file, err := os.OpenFile(filepath.Join(dir, "settled"), os.O_RDWR|os.O_CREATE, 0o600)
	f.ok(err)
	_, err = file.Write(make([]byte, 1<<20))
	f.ok(errors.Join(err, file.Sync()))
	f.t.Cleanup(func() { file.Close() })
	return file
}

// over writes to a settled file again, durably.
func over(file *os.File, b byte) error {
	body := make([]byte, 1<<20)
	for i := range body {
		body[i] = b
	}
	_, err := file.WriteAt(body, 0)
	return errors.Join(err, unix.Fdatasync(int(file.Fd())))
}

// fill writes files until that fails, a durable MiB at a time. The file system's own limit does not count.
func fill(dir string) (written int, err error) {
	f, err := os.OpenFile(filepath.Join(dir, "filling"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return 0, err
	}
	body := make([]byte, 1<<20)
	for i := range body {
		body[i] = byte(i * 7)
	}
	for ; err == nil; written++ {
		if _, err = f.Write(body); err == nil {
			err = f.Sync()
		}
	}
	return written - 1, errors.Join(err, f.Close())
}

// fillAll has writers fill all of dirs side by side and wants each to end with an error of the disk's, within a bound.
func (f *filling) fillAll(dirs ...string) {
	f.t.Helper()
	begun := time.Now()
	type end struct {
		written int
		err     error
	}
	ends := make([]end, len(dirs))
	var wg sync.WaitGroup
	for i, dir := range dirs {
		wg.Go(func() { ends[i].written, ends[i].err = fill(dir) })
	}
	all := make(chan struct{})
	go func() { wg.Wait(); close(all) }()
	select {
	case <-all:
	case <-time.After(bounded):
		f.t.Fatalf("a writer to a full store has no answer after %v", bounded)
	}
	for _, e := range ends {
		f.t.Logf("%s: a writer ended after %d MiB: %v", f.fs, e.written, e.err)
		require.True(f.t, errors.Is(e.err, unix.ENOSPC) || errors.Is(e.err, unix.EIO) || errors.Is(e.err, unix.EROFS), "%v", e.err)
	}
	f.t.Logf("%s: all of them after %v", f.fs, time.Since(begun).Round(time.Millisecond))
}

// again unmounts and mounts a container, as a restart of it does: a file system that gave up comes back.
func (f *filling) again(name string) string {
	f.t.Helper()
	f.ok(f.s.Unmount(f.ctx(), name))
	dir, err := f.s.Mount(f.ctx(), name)
	f.ok(err)
	return dir
}

// write is a small durable write.
func (f *filling) write(dir, name string) {
	f.t.Helper()
	file, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE, 0o600)
	f.ok(err)
	_, err = file.Write(make([]byte, 100_000))
	f.ok(errors.Join(err, file.Sync(), file.Close()))
}

// end wants the store whole, also after it was opened again, and nothing mounted that was not.
func (f *filling) end() {
	f.t.Helper()
	all, err := f.s.List(f.ctx())
	f.ok(err)
	for _, in := range all {
		if in.Mounted != "" {
			f.ok(f.s.Unmount(f.ctx(), in.Name))
		}
	}
	f.ok(f.s.Close(f.ctx()))
	f.open()
	report, err := f.s.Check(f.ctx(), snapshot.CheckOptions{Content: true})
	f.ok(err)
	require.Empty(f.t, report.Findings)
	f.ok(f.s.Close(f.ctx()))
}

// eachFileSystem runs a test with ext4 and with xfs.
func eachFileSystem(t *testing.T, run func(r *rig, fs string)) {
	for _, fs := range []string{"ext4", "xfs"} {
		t.Run(fs, func(t *testing.T) { run(newRig(t), fs) })
	}
}

// TestFullData: the pool has no block left.
func TestFullData(t *testing.T) {
	where(t)
	eachFileSystem(t, func(r *rig, fs string) {
		f := r.full(fs, filepath.Join(r.dir, "store"), snapshot.InitOptions{Loopback: 192 << 20})
		_, quiet := f.container()
		settled := f.settled(quiet)
		first, firstDir := f.container()
		second, secondDir := f.container()
		f.fillAll(firstDir, secondDir)
		f.ok(over(settled, 1), "another container goes on")
		_, err := f.s.Create(f.ctx(), "refused", snapshot.CreateRequest{Parent: f.layer})
		require.ErrorIs(f.t, err, snapshot.ErrNoSpace, "and a new one is refused")

		f.ok(f.s.Unmount(f.ctx(), first))
		f.ok(f.s.Remove(f.ctx(), first), "removing makes room")
		secondDir = f.again(second)
		f.write(secondDir, "after the removal")
		f.ok(over(settled, 2))

		third, thirdDir := f.container()
		f.fillAll(secondDir, thirdDir)
		f.ok(f.s.Driver().(snapshot.Grower).Grow(f.ctx(), 320<<20), "growing makes room")
		f.write(f.again(second), "after growing")
		f.write(f.again(third), "after growing")
		f.ok(over(settled, 3))
		f.ok(settled.Close())
		f.end()
	})
}

// TestFullMetadata: the pool cannot map another block.
func TestFullMetadata(t *testing.T) {
	where(t)
	eachFileSystem(t, func(r *rig, fs string) {
		data, metadata := filepath.Join(r.dir, "data"), filepath.Join(r.dir, "metadata")
		r.loop(data, 1<<30)
		r.loop(metadata, 2<<20)
		f := r.full(fs, filepath.Join(r.dir, "store"), snapshot.InitOptions{DataDevice: r.loopPath(data), MetadataDevice: r.loopPath(metadata)})
		_, quiet := f.container()
		settled := f.settled(quiet)
		writer, dir := f.container()
		var err error
		made := []string{}
		begun := time.Now()
		for err == nil { // each snapshot of a changed container costs nodes of its own
			require.Less(f.t, len(made), 3000, "the metadata do not fill")
			require.Less(f.t, time.Since(begun), bounded)
			name := fmt.Sprint("m", len(made))
			if _, err = f.s.Create(f.ctx(), name, snapshot.CreateRequest{Parent: f.layer}); err != nil {
				break
			}
			made = append(made, name)
			var there string
			if there, err = f.s.Mount(f.ctx(), name); err == nil {
				err = os.WriteFile(filepath.Join(there, "file"), make([]byte, 200_000), 0o600)
				err = errors.Join(err, f.s.Unmount(f.ctx(), name))
			}
		}
		f.t.Logf("%s: after %d containers, %v: %v", fs, len(made), time.Since(begun).Round(time.Millisecond), err)
		require.ErrorIs(f.t, err, snapshot.ErrNoSpace)
		f.ok(over(settled, 1), "another container goes on")
		f.write(dir, "while creations are refused")
		for _, name := range made[:len(made)/2] {
			f.ok(f.s.Remove(f.ctx(), name), "removing makes room")
		}
		next, nextDir := f.container()
		f.write(nextDir, "after the removal")
		f.ok(f.s.Unmount(f.ctx(), next))
		f.ok(f.s.Unmount(f.ctx(), writer))
		f.ok(settled.Close())
		f.end()
	})
}

// loopPath is the device of a file that loop attached.
func (r *rig) loopPath(file string) string {
	r.t.Helper()
	return r.loops[file]
}

// small makes a file system of its own, in which things are going to be full.
func (r *rig) small(size int64) string {
	r.t.Helper()
	image, dir := filepath.Join(r.dir, "small"), filepath.Join(r.dir, "small.d")
	r.loop(image, size)
	r.run("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", r.loopPath(image))
	r.ok(os.Mkdir(dir, 0o700))
	r.ok(mount.At(mount.Mount{Type: "ext4", Source: r.loopPath(image)}, dir))
	r.t.Cleanup(func() { r.ok(mount.Unmount(dir)) })
	return dir
}

// stuff fills a file system to the last block and returns what to remove.
func (r *rig) stuff(dir string) string {
	r.t.Helper()
	path := filepath.Join(dir, "stuff")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	r.ok(err)
	for size := 1 << 20; size >= 1<<12; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			require.ErrorIs(r.t, err, unix.ENOSPC)
			size >>= 1
		}
	}
	r.ok(errors.Join(f.Sync(), f.Close()))
	return path
}

// TestFullCatalog: the file system with the store's own files is full, the pool is not.
func TestFullCatalog(t *testing.T) {
	where(t)
	eachFileSystem(t, func(r *rig, fs string) {
		data, metadata := filepath.Join(r.dir, "data"), filepath.Join(r.dir, "metadata")
		r.loop(data, 512<<20)
		r.loop(metadata, 8<<20)
		small := r.small(24 << 20)
		f := r.full(fs, filepath.Join(small, "store"), snapshot.InitOptions{DataDevice: r.loopPath(data), MetadataDevice: r.loopPath(metadata)})
		_, quiet := f.container()
		settled := f.settled(quiet)
		victim, _ := f.container()
		f.ok(f.s.Unmount(f.ctx(), victim))
		stuffed := f.stuff(small)

		begun := time.Now()
		err := error(nil)
		n := 0
		for ; err == nil; n++ { // the catalog has free pages of its own for a while
			require.Less(f.t, n, 5000)
			_, err = f.s.Create(f.ctx(), fmt.Sprint("n", n), snapshot.CreateRequest{Parent: f.layer})
		}
		f.t.Logf("%s: after %d containers, %v: %v", fs, n-1, time.Since(begun).Round(time.Millisecond), err)
		require.ErrorIs(f.t, err, snapshot.ErrNoSpace)
		_, err = f.s.Load(f.ctx(), snapshot.LoadRequest{Layers: []snapshot.LayerSource{source(tarOf("big", make([]byte, 1<<20)))}})
		require.Error(f.t, err, "a load needs a file for its record")
		require.ErrorIs(f.t, err, snapshot.ErrNoSpace)
		f.ok(over(settled, 1), "containers go on")
		f.write(quiet, "while the catalog is full")
		f.ok(f.s.Remove(f.ctx(), victim), "there is room to remove")

		f.ok(os.Remove(stuffed))
		next, nextDir := f.container()
		f.write(nextDir, "afterwards")
		f.ok(f.s.Unmount(f.ctx(), next))
		f.ok(settled.Close())
		f.end()
	})
}

// TestFullHost: the file system that holds a loopback pool's files is full, the pool itself is not.
func TestFullHost(t *testing.T) {
	where(t)
	eachFileSystem(t, func(r *rig, fs string) {
		small := r.small(320 << 20)
		f := r.full(fs, filepath.Join(small, "store"), snapshot.InitOptions{Loopback: 512 << 20})
		_, quiet := f.container()
		settled := f.settled(quiet)
		writer, dir := f.container()
		second, secondDir := f.container()
		stuffed := f.stuff(small)

		f.fillAll(dir, secondDir)
		st := f.poolStatus(f.s)
		require.Equal(f.t, dm.PoolReadWrite, st.Mode, "the pool is not broken by it")
		require.False(f.t, st.NeedsCheck)
		f.ok(over(settled, 1), "another container goes on")
		_, err := f.s.Create(f.ctx(), "refused", snapshot.CreateRequest{Parent: f.layer})
		require.ErrorIs(f.t, err, snapshot.ErrNoSpace, "and a new one is refused")

		f.ok(os.Remove(stuffed))
		f.write(f.again(writer), "with room again")
		f.write(f.again(second), "with room again")
		f.ok(over(settled, 2))
		next, _ := f.container()
		f.ok(f.s.Unmount(f.ctx(), next))
		f.ok(settled.Close())
		f.end()
	})
}
