package btrfs

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/btrfsvol"
	"blockstore.dev/blockstore/ioctl"
	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/mount"
)

func needBtrfs(t testing.TB) {
	t.Helper()
	if err := (Kind{}).Probe(t.Context()); err != nil {
		t.Skip(err)
	}
	if _, err := exec.LookPath("mkfs.btrfs"); err != nil {
		t.Skip("no mkfs.btrfs (install btrfs-progs)")
	}
}

// A store is a root with what the catalog would keep of it.
type store struct {
	root   string
	config json.RawMessage
	driver snapshot.Driver
}

func newStore(t testing.TB, o snapshot.InitOptions) *store {
	t.Helper()
	needBtrfs(t)
	if o.Root == "" {
		o.Root = t.TempDir()
	}
	o.StoreID = "test"
	config, err := (Kind{}).Init(t.Context(), o)
	require.NoError(t, err)
	s := &store{root: o.Root, config: config}
	t.Cleanup(func() {
		if s.driver != nil {
			require.NoError(t, s.driver.Close(context.Background()))
		}
		require.NoError(t, Kind{}.Destroy(context.Background(), s.options()))
		require.NoDirExists(t, filepath.Join(o.Root, "driver"))
	})
	requireIdle(t, s)
	s.open(t)
	return s
}

func newLoopStore(t testing.TB) *store {
	return newStore(t, snapshot.InitOptions{Loopback: 1 << 30})
}

func (s *store) options() snapshot.OpenOptions {
	return snapshot.OpenOptions{Root: s.root, StoreID: "test", Config: s.config}
}

func (s *store) open(t testing.TB) {
	t.Helper()
	d, err := Kind{}.Open(t.Context(), s.options())
	require.NoError(t, err)
	s.driver = d
}

func (s *store) close(t testing.TB) {
	t.Helper()
	require.NoError(t, s.driver.Close(t.Context()))
	s.driver = nil
}

// requireIdle: nothing is mounted and no loop device attached.
func requireIdle(t testing.TB, s *store) {
	t.Helper()
	below, err := mount.Below(s.root)
	require.NoError(t, err)
	require.Empty(t, below)
	image := filepath.Join(s.root, "driver", "btrfs.img")
	if _, err := os.Stat(image); err == nil {
		loops, err := ioctl.LoopsOf(image)
		require.NoError(t, err)
		require.Empty(t, loops)
	}
}

var base = snapshot.Volume{ID: snapshot.Base, Sealed: true}

// make makes a volume and returns its directory.
func (s *store) create(t testing.TB, id snapshot.VolumeID, o snapshot.CreateOptions) string {
	t.Helper()
	require.NoError(t, s.driver.Create(t.Context(), id, o))
	return s.dir(t, snapshot.Volume{ID: id})
}

func (s *store) dir(t testing.TB, v snapshot.Volume) string {
	t.Helper()
	mounts, err := s.driver.Activate(t.Context(), v, false)
	require.NoError(t, err)
	require.Len(t, mounts, 1)
	return mounts[0].Source
}

func write(t testing.TB, path string, size int) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, make([]byte, size), 0o600))
}

func TestInitRefuses(t *testing.T) {
	needBtrfs(t)
	for name, o := range map[string]snapshot.InitOptions{
		"a file system of ext4": {FileSystem: "ext4"},
		"devices":               {Devices: []string{"/dev/null"}},
		"a thin pool":           {ThinPool: "pool"},
		"a dataset":             {Dataset: "tank"},
		"a data device":         {DataDevice: "/dev/null"},
		"a loopback file of":    {Loopback: 1 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			o.Root = t.TempDir()
			_, err := Kind{}.Init(t.Context(), o)
			require.ErrorIs(t, err, snapshot.ErrInvalid)
			require.ErrorContains(t, err, name)
			left, err := os.ReadDir(o.Root)
			require.NoError(t, err)
			require.Empty(t, left)
		})
	}
	s := newLoopStore(t)
	_, err := Kind{}.Init(t.Context(), snapshot.InitOptions{Root: s.root, Loopback: 1 << 30})
	require.ErrorIs(t, err, snapshot.ErrExists)
	s.dir(t, base)
}

func TestBase(t *testing.T) {
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	s := newLoopStore(t)
	info, err := os.Stat(s.dir(t, base))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o755), info.Mode().Perm())
	entries, err := os.ReadDir(s.dir(t, base))
	require.NoError(t, err)
	require.Empty(t, entries)
	require.ErrorIs(t, s.driver.Remove(t.Context(), snapshot.Base), snapshot.ErrInvalid)
	require.ErrorIs(t, os.WriteFile(filepath.Join(s.dir(t, base), "x"), nil, 0o600), unix.EROFS)
}

func TestNodesAreSmall(t *testing.T) {
	s := newLoopStore(t)
	fs, err := btrfsvol.Open(s.dir(t, base))
	require.NoError(t, err)
	defer fs.Close()
	info, err := fs.Info()
	require.NoError(t, err)
	require.EqualValues(t, max(8192, os.Getpagesize()), info.NodeSize)
}

func TestOpenAgain(t *testing.T) {
	s := newLoopStore(t)
	dir := s.create(t, 16, snapshot.CreateOptions{Origin: base})
	write(t, filepath.Join(dir, "file"), 10)
	s.close(t)
	requireIdle(t, s)
	s.open(t)
	require.FileExists(t, filepath.Join(s.dir(t, snapshot.Volume{ID: 16}), "file"))

	// A process that dies leaves the mount; the next one takes it over.
	left := s.driver
	s.open(t)
	require.FileExists(t, filepath.Join(s.dir(t, snapshot.Volume{ID: 16}), "file"))
	require.NoError(t, left.(loopDriver).fs.Close())

	// A volume in use survives Close, and Open finds its file system.
	target := t.TempDir()
	mounts, err := s.driver.Activate(t.Context(), snapshot.Volume{ID: 16}, false)
	require.NoError(t, err)
	require.NoError(t, mount.All(mounts, target))
	s.close(t)
	write(t, filepath.Join(target, "more"), 10)
	require.ErrorIs(t, Kind{}.Destroy(t.Context(), s.options()), snapshot.ErrBusy)
	s.open(t)
	require.FileExists(t, filepath.Join(s.dir(t, snapshot.Volume{ID: 16}), "more"))
	require.ErrorIs(t, s.driver.Deactivate(t.Context(), 16), snapshot.ErrBusy)
	require.ErrorIs(t, s.driver.Seal(t.Context(), snapshot.Volume{ID: 16}), snapshot.ErrBusy)
	err = s.driver.Remove(t.Context(), 16)
	require.ErrorIs(t, err, snapshot.ErrBusy)
	require.ErrorContains(t, err, target)
	require.NoError(t, mount.Unmount(target))
	require.NoError(t, s.driver.Deactivate(t.Context(), 16))
	require.NoError(t, s.driver.Remove(t.Context(), 16))
}

func TestOpenRefusesAnother(t *testing.T) {
	s, other := newLoopStore(t), newLoopStore(t)
	_, err := Kind{}.Open(t.Context(), snapshot.OpenOptions{Root: s.root, Config: other.config})
	require.ErrorIs(t, err, snapshot.ErrCorrupt)
	_, err = Kind{}.Open(t.Context(), snapshot.OpenOptions{Root: s.root, Config: json.RawMessage("{")})
	require.ErrorIs(t, err, snapshot.ErrCorrupt)
}

func TestSealAndSnapshot(t *testing.T) {
	s := newLoopStore(t)
	dir := s.create(t, 16, snapshot.CreateOptions{Origin: base})
	write(t, filepath.Join(dir, "file"), 1<<20)
	require.NoError(t, s.driver.Seal(t.Context(), snapshot.Volume{ID: 16}))
	require.ErrorIs(t, os.WriteFile(filepath.Join(dir, "more"), nil, 0o600), unix.EROFS)
	layer := snapshot.Volume{ID: 16, Sealed: true}
	usage, err := s.driver.Usage(t.Context(), layer)
	require.NoError(t, err)
	require.Equal(t, snapshot.Usage{Added: 1 << 20, Exact: true}, usage)

	box := s.create(t, 17, snapshot.CreateOptions{Origin: layer})
	write(t, filepath.Join(box, "own"), 8192)
	usage, err = s.driver.Usage(t.Context(), snapshot.Volume{ID: 17, Origin: 16})
	require.NoError(t, err)
	require.Equal(t, snapshot.Usage{Added: 8192, Exact: true}, usage)

	// A layer made of the container, on the container's layer.
	require.NoError(t, s.driver.Create(t.Context(), 18, snapshot.CreateOptions{Origin: snapshot.Volume{ID: 17, Origin: 16}}))
	require.NoError(t, s.driver.Seal(t.Context(), snapshot.Volume{ID: 18}))
	usage, err = s.driver.Usage(t.Context(), snapshot.Volume{ID: 18, Origin: 16, Sealed: true})
	require.NoError(t, err)
	require.Equal(t, snapshot.Usage{Added: 8192, Exact: true}, usage)

	referenced, err := s.driver.Referenced(t.Context(), layer, snapshot.Volume{ID: 17, Origin: 16}, snapshot.Volume{ID: 18, Origin: 16, Sealed: true})
	require.NoError(t, err)
	require.Equal(t, []int64{1 << 20, 1<<20 + 8192, 1<<20 + 8192}, referenced)
	_, err = s.driver.Referenced(t.Context(), layer, snapshot.Volume{ID: 99})
	require.ErrorIs(t, err, snapshot.ErrNotFound)

	// An id that was left over is made anew.
	require.NoError(t, s.driver.Create(t.Context(), 17, snapshot.CreateOptions{Origin: layer}))
	require.NoFileExists(t, filepath.Join(box, "own"))
	_, err = s.driver.Activate(t.Context(), snapshot.Volume{ID: 99}, false)
	require.ErrorIs(t, err, snapshot.ErrNotFound)
	require.ErrorIs(t, s.driver.Create(t.Context(), 20, snapshot.CreateOptions{Origin: snapshot.Volume{ID: 99}}), snapshot.ErrNotFound)
	require.NoError(t, s.driver.Remove(t.Context(), 99))

	ids, err := s.driver.Volumes(t.Context())
	require.NoError(t, err)
	require.Equal(t, []snapshot.VolumeID{16, 17, 18}, ids)
}

func TestRemoveNested(t *testing.T) {
	s := newLoopStore(t)
	dir := s.create(t, 16, snapshot.CreateOptions{Origin: base, Size: 64 << 20})
	fs := s.driver.(loopDriver).fs
	require.NoError(t, fs.Create(pathOf(16)+"/nested", btrfsvol.CreateOptions{}))
	require.NoError(t, fs.Create(pathOf(16)+"/gone", btrfsvol.CreateOptions{}))
	write(t, filepath.Join(dir, "gone", "file"), 1<<20)
	gone, _, err := fs.Lookup(pathOf(16) + "/gone")
	require.NoError(t, err)
	require.NoError(t, fs.Sync())
	_, err = fs.Delete(gone)
	require.NoError(t, err)
	write(t, filepath.Join(dir, "nested", "file"), 1<<20)
	require.NoError(t, s.driver.Remove(t.Context(), 16))
	ids, err := s.driver.Volumes(t.Context())
	require.NoError(t, err)
	require.Empty(t, ids)
	groups, err := fs.Qgroups(1)
	require.NoError(t, err)
	require.Empty(t, groups)
}

func TestUnpackChain(t *testing.T) {
	s := newLoopStore(t)
	u, err := s.driver.Unpack(t.Context(), snapshot.UnpackOptions{
		Origin: base, Volumes: []snapshot.VolumeID{16, 17, 18}, Size: 64 << 20, Target: t.TempDir(),
	})
	require.NoError(t, err)
	for i, name := range []string{"a", "b", "c"} {
		write(t, filepath.Join(u.Dir(), name), (i+1)<<20)
		require.NoError(t, u.Seal(t.Context()))
	}
	require.Empty(t, u.Dir())
	require.NoError(t, u.Close())
	require.NoError(t, u.Close())
	for i, files := range [][]string{{"a"}, {"a", "b"}, {"a", "b", "c"}} {
		v := snapshot.Volume{ID: snapshot.VolumeID(16 + i), Origin: snapshot.VolumeID(15 + i), Size: 64 << 20, Sealed: true}
		if i == 0 {
			v.Origin = snapshot.Base
		}
		entries, err := os.ReadDir(s.dir(t, v))
		require.NoError(t, err)
		require.Len(t, entries, len(files))
		usage, err := s.driver.Usage(t.Context(), v)
		require.NoError(t, err)
		require.EqualValues(t, (i+1)<<20, usage.Added)
		require.ErrorIs(t, os.WriteFile(filepath.Join(s.dir(t, v), "x"), nil, 0o600), unix.EROFS)
	}
	findings, err := s.driver.Check(t.Context(), []snapshot.Volume{{ID: 16, Sealed: true}, {ID: 17, Sealed: true}, {ID: 18, Sealed: true}})
	require.NoError(t, err)
	require.Empty(t, findings)
}

func TestSizeLimit(t *testing.T) {
	s := newLoopStore(t)
	if !s.driver.(loopDriver).config.SimpleQuota {
		t.Skip("no simple quotas in this kernel (Linux 6.7)")
	}
	u, err := s.driver.Unpack(t.Context(), snapshot.UnpackOptions{Origin: base, Volumes: []snapshot.VolumeID{16, 17}, Size: 32 << 20})
	require.NoError(t, err)
	write(t, filepath.Join(u.Dir(), "a"), 16<<20)
	require.NoError(t, u.Seal(t.Context()))
	err = os.WriteFile(filepath.Join(u.Dir(), "b"), make([]byte, 20<<20), 0o600)
	require.ErrorIs(t, err, unix.EDQUOT, "layers below count")
	require.NoError(t, os.Remove(filepath.Join(u.Dir(), "b")))
	require.NoError(t, u.Seal(t.Context()))
	layer := snapshot.Volume{ID: 17, Origin: 16, Size: 32 << 20, Sealed: true}

	require.ErrorIs(t, s.driver.Create(t.Context(), 18, snapshot.CreateOptions{Origin: layer, Size: 1 << 20}), snapshot.ErrInvalid)
	box := s.create(t, 18, snapshot.CreateOptions{Origin: layer, OriginBytes: 16 << 20})
	big := filepath.Join(box, "big")
	require.ErrorIs(t, os.WriteFile(big, make([]byte, 20<<20), 0o600), unix.EDQUOT)
	require.NoError(t, os.Remove(big), "what is full can be emptied")
	write(t, big, 12<<20)
	larger := s.create(t, 19, snapshot.CreateOptions{Origin: layer, Size: 64 << 20, OriginBytes: 16 << 20})
	write(t, filepath.Join(larger, "big"), 40<<20)

	require.NoError(t, s.driver.(snapshot.Stacker).SealBelow(t.Context(), snapshot.Volume{ID: 18, Origin: 17, Size: 32 << 20}, 20, 16<<20))
	require.ErrorIs(t, os.WriteFile(filepath.Join(box, "x"), nil, 0o600), unix.EROFS)
	above := filepath.Join(s.dir(t, snapshot.Volume{ID: 20}), "more")
	require.ErrorIs(t, os.WriteFile(above, make([]byte, 8<<20), 0o600), unix.EDQUOT, "what was sealed counts, and what is below it")
	require.NoError(t, os.Remove(above))
	write(t, above, 2<<20)
}

// TestSealBelow: what was written and not synced is in both, and a volume that is mounted is neither sealed nor gone on with.
func TestSealBelow(t *testing.T) {
	s := newLoopStore(t)
	stacker := s.driver.(snapshot.Stacker)
	dir := s.create(t, 16, snapshot.CreateOptions{Origin: base})
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a"), []byte("content"), 0o600))
	v := snapshot.Volume{ID: 16}
	target := t.TempDir()
	mounts, err := s.driver.Activate(t.Context(), v, false)
	require.NoError(t, err)
	require.NoError(t, mount.All(mounts, target))
	require.ErrorIs(t, stacker.SealBelow(t.Context(), v, 17, 0), snapshot.ErrBusy)
	require.NoError(t, os.WriteFile(filepath.Join(target, "b"), []byte("content"), 0o600))
	require.NoError(t, mount.Unmount(target))
	ids, err := s.driver.Volumes(t.Context())
	require.NoError(t, err)
	require.Equal(t, []snapshot.VolumeID{16}, ids)

	require.NoError(t, stacker.SealBelow(t.Context(), v, 17, 0))
	for _, id := range []snapshot.VolumeID{16, 17} {
		for _, name := range []string{"a", "b"} {
			text, err := os.ReadFile(filepath.Join(s.dir(t, snapshot.Volume{ID: id}), name))
			require.NoError(t, err)
			require.Equal(t, "content", string(text))
		}
	}
	require.ErrorIs(t, os.WriteFile(filepath.Join(dir, "c"), nil, 0o600), unix.EROFS)
	require.NoError(t, os.WriteFile(filepath.Join(s.dir(t, snapshot.Volume{ID: 17}), "c"), nil, 0o600))
	findings, err := s.driver.Check(t.Context(), []snapshot.Volume{{ID: 16, Sealed: true}, {ID: 17, Origin: 16}})
	require.NoError(t, err)
	require.Empty(t, findings)
}

func TestDirectoryOnBtrfs(t *testing.T) {
	outer := newLoopStore(t)
	root := filepath.Join(outer.root, "driver", "mnt", "store")
	require.NoError(t, os.Mkdir(root, 0o700))
	defer func() { require.NoError(t, os.Remove(root)) }()
	t.Run("native", func(t *testing.T) {
		s := newStore(t, snapshot.InitOptions{Root: root})
		_, grows := s.driver.(snapshot.Grower)
		require.False(t, grows)
		dir := s.create(t, 16, snapshot.CreateOptions{Origin: base, Size: 1 << 20})
		write(t, filepath.Join(dir, "file"), 4<<20)
		target := t.TempDir()
		mounts, err := s.driver.Activate(t.Context(), snapshot.Volume{ID: 16}, true)
		require.NoError(t, err)
		require.NoError(t, mount.All(mounts, target))
		require.ErrorIs(t, os.WriteFile(filepath.Join(target, "x"), nil, 0o600), unix.EROFS)
		require.ErrorIs(t, s.driver.Remove(t.Context(), 16), snapshot.ErrBusy)
		require.NoError(t, mount.Unmount(target))
		status, err := s.driver.Status(t.Context())
		require.NoError(t, err)
		require.True(t, status.Healthy, status.Problem)
	})
}

func TestCheck(t *testing.T) {
	s := newLoopStore(t)
	s.create(t, 16, snapshot.CreateOptions{Origin: base})
	s.create(t, 17, snapshot.CreateOptions{Origin: base})
	require.NoError(t, s.driver.(loopDriver).fs.Create("05/foreign", btrfsvol.CreateOptions{}))
	findings, err := s.driver.Check(t.Context(), []snapshot.Volume{{ID: 16, Sealed: true}, {ID: 18}})
	require.NoError(t, err)
	texts := map[snapshot.VolumeID]string{}
	for _, f := range findings {
		texts[f.Volume] += f.Text
	}
	require.Contains(t, texts[snapshot.Base], "foreign")
	require.Contains(t, texts[16], "writable")
	require.Contains(t, texts[17], "not in the catalog")
	require.Contains(t, texts[18], "not in the file system")
}

func TestGrowTrimStatus(t *testing.T) {
	s := newLoopStore(t)
	before, err := s.driver.Status(t.Context())
	require.NoError(t, err)
	require.True(t, before.Healthy, before.Problem)
	grower := s.driver.(snapshot.Grower)
	require.ErrorIs(t, grower.Grow(t.Context(), 1<<20), snapshot.ErrNotSupported)
	require.NoError(t, grower.Grow(t.Context(), 2<<30))
	after, err := s.driver.Status(t.Context())
	require.NoError(t, err)
	require.Greater(t, after.Data.Total, before.Data.Total+900<<20)
	_, err = s.driver.(snapshot.Trimmer).Trim(t.Context())
	require.NoError(t, err)
}

func TestRemoveFreesSpaceAndHost(t *testing.T) {
	s := newLoopStore(t)
	dir := s.create(t, 16, snapshot.CreateOptions{Origin: base})
	write(t, filepath.Join(dir, "file"), 64<<20)
	d := s.driver.(loopDriver)
	require.NoError(t, d.fs.Sync())
	full, err := d.Status(t.Context())
	require.NoError(t, err)
	require.GreaterOrEqual(t, full.Data.Used, int64(64<<20))
	_, occupied, err := d.places.file().Space()
	require.NoError(t, err)
	require.NoError(t, d.Remove(t.Context(), 16))
	require.Eventually(t, func() bool {
		status, err := d.Status(t.Context())
		return err == nil && status.Data.Used < 1<<20
	}, time.Minute, 5*time.Millisecond)
	_, err = d.Trim(t.Context())
	require.NoError(t, err)
	_, after, err := d.places.file().Space()
	require.NoError(t, err)
	require.Less(t, after, occupied-60<<20)
}

func TestConcurrentCreators(t *testing.T) {
	s := newLoopStore(t)
	const n = 64
	var wg sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		wg.Go(func() {
			errs[i] = s.driver.Create(t.Context(), snapshot.VolumeID(16+i), snapshot.CreateOptions{Origin: base, Size: 1 << 30})
		})
	}
	wg.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	ids, err := s.driver.Volumes(t.Context())
	require.NoError(t, err)
	require.Len(t, ids, n)
	require.NoError(t, s.driver.Remove(t.Context(), ids...))
}

func TestFull(t *testing.T) {
	s := newStore(t, snapshot.InitOptions{Loopback: 320 << 20})
	dir := s.create(t, 16, snapshot.CreateOptions{Origin: base})
	err := os.WriteFile(filepath.Join(dir, "file"), make([]byte, 400<<20), 0o600)
	require.ErrorIs(t, err, unix.ENOSPC)
	require.NoError(t, s.driver.(loopDriver).fs.Sync())
	status, err := s.driver.Status(t.Context())
	require.NoError(t, err)
	require.False(t, status.Healthy)
	err = s.driver.Create(t.Context(), 17, snapshot.CreateOptions{Origin: base})
	require.ErrorIs(t, err, snapshot.ErrNoSpace)
	_, err = s.driver.Unpack(t.Context(), snapshot.UnpackOptions{Origin: base, Volumes: []snapshot.VolumeID{17}})
	require.ErrorIs(t, err, snapshot.ErrNoSpace)
	// There is room to delete, and what was deleted is room at once.
	require.NoError(t, s.driver.Remove(t.Context(), 16))
	require.NoError(t, s.driver.Create(t.Context(), 17, snapshot.CreateOptions{Origin: base}))
	status, err = s.driver.Status(t.Context())
	require.NoError(t, err)
	require.True(t, status.Healthy, status.Problem)
}

// TestRemoveSealedWithSubvolumes: a container made them, and became a layer.
func TestRemoveSealedWithSubvolumes(t *testing.T) {
	s := newLoopStore(t)
	dir := s.create(t, 16, snapshot.CreateOptions{Origin: base})
	require.NoError(t, s.driver.(loopDriver).fs.Create(pathOf(16)+"/nested", btrfsvol.CreateOptions{}))
	require.NoError(t, s.driver.Seal(t.Context(), snapshot.Volume{ID: 16}))
	require.NoError(t, s.driver.Remove(t.Context(), 16))
	require.NoDirExists(t, dir)
	left, err := s.driver.Volumes(t.Context())
	require.NoError(t, err)
	require.Empty(t, left)
}
