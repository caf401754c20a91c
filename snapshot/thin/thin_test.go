package thin_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/mount"
	"blockstore.dev/blockstore/snapshot/thin"
)

// store is a driver on a loopback pool of its own, and a count of its device-mapper ioctls.
type store struct {
	t      *testing.T
	kind   thin.Kind
	open   snapshot.OpenOptions
	base   snapshot.Volume
	driver snapshot.Driver

	mu    sync.Mutex
	calls []string
}

func newStore(t *testing.T, change ...func(*snapshot.InitOptions)) *store {
	t.Helper()
	s := &store{t: t}
	s.kind.Observer = func(c dm.Call) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.calls = append(s.calls, c.Command)
	}
	err := s.kind.Probe(t.Context())
	if errors.Is(err, snapshot.ErrNotSupported) || errors.Is(err, dm.ErrPermission) {
		t.Skipf("no device-mapper in this kernel: %v", err)
	}
	require.NoError(t, err)
	before := leftovers(t)
	o := snapshot.InitOptions{Root: t.TempDir(), StoreID: uuid.NewString(), Loopback: 2 << 30, BaseSize: 1 << 30}
	for _, f := range change {
		f(&o)
	}
	config, err := s.kind.Init(t.Context(), o)
	require.NoError(t, err)
	s.open = snapshot.OpenOptions{Root: o.Root, StoreID: o.StoreID, Config: config}
	s.base = snapshot.Volume{ID: snapshot.Base, Size: o.BaseSize, Sealed: true}
	s.reopen()
	t.Cleanup(func() {
		if s.driver != nil {
			require.NoError(t, s.driver.Close(context.Background()))
		}
		require.NoError(t, s.kind.Destroy(context.Background(), s.open))
		require.NoError(t, s.kind.Destroy(context.Background(), s.open), "destroying twice is no error")
		entries, err := os.ReadDir(filepath.Join(o.Root, "driver"))
		require.NoError(t, err)
		require.Empty(t, entries)
		require.Equal(t, before, leftovers(t))
	})
	return s
}

func (s *store) reopen() {
	s.t.Helper()
	if s.driver != nil {
		require.NoError(s.t, s.driver.Close(s.t.Context()))
	}
	d, err := s.kind.Open(s.t.Context(), s.open)
	require.NoError(s.t, err)
	s.driver = d
}

func leftovers(t *testing.T) []string {
	t.Helper()
	client, err := dm.Open(dm.Options{})
	require.NoError(t, err)
	defer client.Close()
	devices, err := client.List(context.Background(), dm.Prefix{})
	require.NoError(t, err)
	var names []string
	for _, d := range devices {
		names = append(names, d.Name)
	}
	loops, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	require.NoError(t, err)
	return append(names, loops...)
}

func (s *store) called(f func()) []string {
	s.mu.Lock()
	s.calls = nil
	s.mu.Unlock()
	f()
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string{}, s.calls...)
}

func (s *store) create(id snapshot.VolumeID, origin snapshot.Volume) snapshot.Volume {
	s.t.Helper()
	require.NoError(s.t, s.driver.Create(s.t.Context(), id, snapshot.CreateOptions{Origin: origin}))
	return snapshot.Volume{ID: id, Origin: origin.ID, Size: origin.Size}
}

// with mounts a volume for the length of use.
func (s *store) with(v snapshot.Volume, readOnly bool, use func(dir string)) {
	s.t.Helper()
	ms, err := s.driver.Activate(s.t.Context(), v, readOnly)
	require.NoError(s.t, err)
	dir := s.t.TempDir()
	require.NoError(s.t, mount.All(ms, dir))
	func() {
		defer func() { require.NoError(s.t, mount.Unmount(dir)) }()
		use(dir)
	}()
	require.NoError(s.t, s.driver.Deactivate(s.t.Context(), v.ID))
}

func (s *store) used() int64 {
	s.t.Helper()
	st, err := s.driver.Status(s.t.Context())
	require.NoError(s.t, err)
	require.True(s.t, st.Healthy, st.Problem)
	return st.Data.Used
}

func write(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(b)
}

func fileSystems(t *testing.T, test func(t *testing.T, fs string)) {
	for _, fs := range []string{"ext4", "xfs"} {
		t.Run(fs, func(t *testing.T) { test(t, fs) })
	}
}

func TestBaseIsEmptyAndSealed(t *testing.T) {
	fileSystems(t, func(t *testing.T, fs string) {
		s := newStore(t, func(o *snapshot.InitOptions) { o.FileSystem = fs })
		t.Logf("the base of 1 GiB maps %d KiB", s.used()>>10)
		s.with(s.base, false, func(dir string) {
			entries, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Empty(t, entries, "no lost+found")
			var st unix.Stat_t
			require.NoError(t, unix.Stat(dir, &st))
			require.EqualValues(t, 0o755, st.Mode&0o7777)
			require.ErrorIs(t, os.WriteFile(dir+"/f", nil, 0o644), unix.EROFS)
		})
	})
}

func TestCreateIsOneMessage(t *testing.T) {
	s := newStore(t)
	var v snapshot.Volume
	calls := s.called(func() { v = s.create(16, s.base) })
	require.Equal(t, []string{"TARGET_MSG", "TABLE_STATUS"}, calls)
	calls = s.called(func() { s.with(v, false, func(string) {}) })
	require.Equal(t, []string{"DEV_CREATE", "TABLE_LOAD", "DEV_SUSPEND", "DEV_REMOVE"}, calls)
	calls = s.called(func() { require.NoError(t, s.driver.Remove(t.Context(), 16)) })
	t.Logf("removing: %v", calls)
	require.Equal(t, []string{
		"DEV_REMOVE",                              // is it active
		"TABLE_STATUS",                            // which device has the metadata, that say what it has alone
		"DEV_CREATE", "TABLE_LOAD", "DEV_SUSPEND", // discard
		"TABLE_STATUS", "TABLE_STATUS", // how much is mapped, and which device has the data, for others' traffic there
		"DEV_REMOVE",
		"TARGET_MSG", "TABLE_STATUS", // delete
	}, calls)
}

func TestDevice(t *testing.T) {
	s := newStore(t)
	v := s.create(16, s.base)
	d := s.driver.(snapshot.Devicer)
	_, err := d.Device(t.Context(), v.ID)
	require.ErrorIs(t, err, snapshot.ErrNotFound, "it is not active")
	ms, err := s.driver.Activate(t.Context(), v, false)
	require.NoError(t, err)
	path, err := d.Device(t.Context(), v.ID)
	require.NoError(t, err)
	require.Equal(t, ms[0].Source, path)
	ms, err = s.driver.(snapshot.Publisher).Publish(t.Context(), v.ID, ms)
	require.NoError(t, err)
	require.Equal(t, "/dev/mapper", filepath.Dir(ms[0].Source), "a name that is no other's")
	there, err := os.Stat(ms[0].Source)
	require.NoError(t, err)
	same, err := os.Stat(path)
	require.NoError(t, err)
	require.True(t, os.SameFile(there, same))
	defer func() { require.NoFileExists(t, ms[0].Source) }()
	require.NoError(t, s.driver.Deactivate(t.Context(), v.ID))
	require.NoError(t, s.driver.Remove(t.Context(), v.ID))
}

// TestMayMount: a device that was handed out, is open and has no file system mounted is somebody's whose file system we do not see.
func TestMayMount(t *testing.T) {
	fileSystems(t, func(t *testing.T, fs string) {
		s := newStore(t, func(o *snapshot.InitOptions) { o.FileSystem = fs })
		d := s.driver.(snapshot.Devicer)
		v := s.create(16, s.base)
		require.NoError(t, d.MayMount(t.Context(), v.ID), "it is not active")
		ms, err := s.driver.Activate(t.Context(), v, false)
		require.NoError(t, err)
		calls := s.called(func() { require.NoError(t, d.MayMount(t.Context(), v.ID)) })
		require.Empty(t, calls, "nobody was given it")
		ms, err = s.driver.(snapshot.Publisher).Publish(t.Context(), v.ID, ms)
		require.NoError(t, err)
		calls = s.called(func() { require.NoError(t, d.MayMount(t.Context(), v.ID)) })
		require.Len(t, calls, 1)

		f, err := os.Open(ms[0].Source)
		require.NoError(t, err)
		require.ErrorIs(t, d.MayMount(t.Context(), v.ID), snapshot.ErrBusy)
		target := t.TempDir()
		require.NoError(t, mount.All(ms, target))
		require.NoError(t, d.MayMount(t.Context(), v.ID), "it is mounted here")
		require.NoError(t, mount.Unmount(target))
		require.ErrorIs(t, d.MayMount(t.Context(), v.ID), snapshot.ErrBusy)
		require.NoError(t, f.Close())
		require.NoError(t, d.MayMount(t.Context(), v.ID))
		require.NoError(t, s.driver.Deactivate(t.Context(), v.ID))
		require.NoError(t, s.driver.Remove(t.Context(), v.ID))
	})
}

func TestChainUnpacks(t *testing.T) {
	fileSystems(t, func(t *testing.T, fs string) {
		s := newStore(t, func(o *snapshot.InitOptions) { o.FileSystem = fs })
		ids := []snapshot.VolumeID{16, 17, 18}
		target := t.TempDir()
		u, err := s.driver.Unpack(t.Context(), snapshot.UnpackOptions{Origin: s.base, Volumes: ids, Target: target})
		require.NoError(t, err)
		for _, name := range []string{"one", "two", "three"} {
			write(t, filepath.Join(u.Dir(), name), name)
			calls := s.called(func() { require.NoError(t, u.Seal(t.Context())) })
			t.Logf("seal of %s: %v", name, calls)
		}
		require.Empty(t, u.Dir())
		require.ErrorIs(t, u.Seal(t.Context()), snapshot.ErrInvalid)
		require.NoError(t, u.Close())
		require.NoError(t, u.Close())
		s.reopen()
		for i, id := range ids {
			v := snapshot.Volume{ID: id, Size: s.base.Size, Sealed: true}
			if i > 0 {
				v.Origin = ids[i-1]
			}
			s.with(v, false, func(dir string) {
				entries, err := os.ReadDir(dir)
				require.NoError(t, err)
				require.Len(t, entries, i+1)
				require.ErrorIs(t, os.WriteFile(dir+"/f", nil, 0o644), unix.EROFS)
			})
			usage, err := s.driver.Usage(t.Context(), v)
			require.NoError(t, err)
			referenced, err := s.driver.Referenced(t.Context(), v)
			require.NoError(t, err)
			require.Positive(t, referenced[0])
			require.GreaterOrEqual(t, usage.Added, int64(0))
			t.Logf("layer %d: %+v", i, usage)
			child := s.create(32+id, v)
			s.with(child, false, func(dir string) { write(t, dir+"/own", "x") })
		}
		listed, err := s.driver.Volumes(t.Context())
		require.NoError(t, err)
		require.Equal(t, []snapshot.VolumeID{16, 17, 18, 48, 49, 50}, listed)
		require.NoError(t, s.driver.Remove(t.Context(), append(ids, 48, 49, 50, 99)...))
		found, err := s.driver.Check(t.Context(), nil)
		require.NoError(t, err)
		require.Empty(t, found)
	})
}

func TestAbandonedChainLeavesNothingActive(t *testing.T) {
	s := newStore(t)
	target := t.TempDir()
	u, err := s.driver.Unpack(t.Context(), snapshot.UnpackOptions{Origin: s.base, Volumes: []snapshot.VolumeID{16, 17}, Target: target})
	require.NoError(t, err)
	write(t, u.Dir()+"/f", "x")
	require.NoError(t, u.Seal(t.Context()))
	require.NoError(t, u.Close())
	require.NoError(t, s.driver.Remove(t.Context(), 16, 17))
	listed, err := s.driver.Volumes(t.Context())
	require.NoError(t, err)
	require.Empty(t, listed)
}

func TestLargerVolumeGrowsItsFileSystem(t *testing.T) {
	fileSystems(t, func(t *testing.T, fs string) {
		s := newStore(t, func(o *snapshot.InitOptions) { o.FileSystem = fs })
		require.NoError(t, s.driver.Create(t.Context(), 16, snapshot.CreateOptions{Origin: s.base, Size: 3 << 30}))
		v := snapshot.Volume{ID: 16, Size: 3 << 30}
		s.with(v, false, func(dir string) {
			var st unix.Statfs_t
			require.NoError(t, unix.Statfs(dir, &st))
			require.Greater(t, int64(st.Blocks)*st.Bsize, int64(2900<<20))
		})
		err := s.driver.Create(t.Context(), 17, snapshot.CreateOptions{Origin: v, Size: 2 << 30})
		require.ErrorIs(t, err, snapshot.ErrInvalid)
	})
}

func TestSnapshotOfAMountedVolumeIsWhole(t *testing.T) {
	fileSystems(t, func(t *testing.T, fs string) {
		s := newStore(t, func(o *snapshot.InitOptions) { o.FileSystem = fs })
		v := s.create(16, s.base)
		s.with(v, false, func(dir string) {
			write(t, dir+"/f", "not synced")
			w := s.create(17, v)
			require.NoError(t, s.driver.Seal(t.Context(), w))
			write(t, dir+"/f", "later")
			w.Sealed = true
			s.with(w, false, func(dir string) { require.Equal(t, "not synced", read(t, dir+"/f")) })
			require.ErrorIs(t, s.driver.Seal(t.Context(), v), snapshot.ErrBusy)
			require.ErrorIs(t, s.driver.Remove(t.Context(), 17, 16), snapshot.ErrBusy)
			require.Equal(t, "later", read(t, dir+"/f"))
		})
	})
}

func TestInUseVolumesOutliveTheStore(t *testing.T) {
	s := newStore(t)
	v := s.create(16, s.base)
	s.with(v, false, func(dir string) {
		write(t, dir+"/f", "x")
		require.ErrorContains(t, s.driver.Deactivate(t.Context(), 16), dir, "the error names the mount")
		s.reopen()
		write(t, dir+"/g", "y")
		_, err := s.driver.Activate(t.Context(), v, false)
		require.NoError(t, err)
		require.ErrorIs(t, s.kind.Destroy(t.Context(), s.open), snapshot.ErrBusy)
	})
}

// TestFourBytes: the point of it all. A write into a large file of a lower layer costs one block, whatever the size.
func TestFourBytes(t *testing.T) {
	fileSystems(t, func(t *testing.T, fs string) {
		for name, size := range map[string]int64{"1MiB": 1 << 20, "1GiB": 1 << 30} {
			t.Run(name, func(t *testing.T) {
				s := newStore(t, func(o *snapshot.InitOptions) { o.FileSystem, o.BaseSize, o.Loopback = fs, 2<<30, 3<<30 })
				layer := s.create(16, s.base)
				s.with(layer, false, func(dir string) { fill(t, dir+"/big", size) })
				require.NoError(t, s.driver.Seal(t.Context(), layer))
				layer.Sealed = true
				v := s.create(17, layer)
				s.with(v, false, func(string) {})
				before := s.used()
				s.with(v, false, func(string) {})
				mounted := s.used()
				s.with(v, false, func(dir string) {
					f, err := os.OpenFile(dir+"/big", os.O_WRONLY, 0)
					require.NoError(t, err)
					_, err = f.WriteAt([]byte("four"), size/2)
					require.NoError(t, err)
					require.NoError(t, f.Sync())
					require.NoError(t, f.Close())
				})
				cost, mounting := (s.used()-before)>>16, (mounted-before)>>16
				t.Logf("%s, file of %s: 4 bytes cost %d blocks of 64 KiB (mounting again alone %d)", fs, name, cost, mounting)
				require.LessOrEqual(t, cost, int64(12))
			})
		}
	})
}

func fill(t *testing.T, path string, size int64) {
	t.Helper()
	f, err := os.Create(path)
	require.NoError(t, err)
	b := make([]byte, 1<<20)
	for i := range b {
		b[i] = byte(i)
	}
	for at := int64(0); at < size; at += int64(len(b)) {
		_, err := f.WriteAt(b, at)
		require.NoError(t, err)
	}
	require.NoError(t, f.Sync())
	require.NoError(t, f.Close())
}

func TestSpaceGoesBackToTheHost(t *testing.T) {
	s := newStore(t)
	data := filepath.Join(s.open.Root, "driver", "data")
	allocated := func() int64 {
		var st unix.Stat_t
		require.NoError(t, unix.Stat(data, &st))
		return st.Blocks * 512
	}
	layer := s.create(16, s.base)
	s.with(layer, false, func(dir string) { fill(t, dir+"/layer", 32<<20) })
	require.NoError(t, s.driver.Seal(t.Context(), layer))
	layer.Sealed = true
	before, used := allocated(), s.used()
	v := s.create(17, layer)
	s.with(v, false, func(dir string) {
		fill(t, dir+"/container", 64<<20)
		require.NoError(t, os.Remove(dir+"/container"))
		fill(t, dir+"/container2", 64<<20)
		require.NoError(t, os.Remove(dir+"/container2"))
		n, err := s.driver.(snapshot.Trimmer).Trim(t.Context())
		require.NoError(t, err)
		require.Greater(t, n, int64(60<<20))
		require.Less(t, s.used(), used+16<<20, "trimming gave the deleted files' blocks back")
		fill(t, dir+"/container3", 64<<20)
	})
	require.Greater(t, allocated(), before+60<<20)
	require.NoError(t, s.driver.Remove(t.Context(), 17))
	require.LessOrEqual(t, allocated(), before+1<<20, "the file is as small as before")
	require.LessOrEqual(t, s.used(), used)
	s.with(layer, false, func(dir string) { require.Len(t, read(t, dir+"/layer"), 32<<20) })
}

func TestGrowAndEpoch(t *testing.T) {
	s := newStore(t)
	require.NoError(t, s.driver.(snapshot.Grower).Grow(t.Context(), 4<<30))
	st, err := s.driver.Status(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 4<<30, st.Data.Total)
	require.ErrorIs(t, s.driver.(snapshot.Grower).Grow(t.Context(), 1<<30), snapshot.ErrNotSupported)
	e := s.driver.(snapshot.Epoched)
	epoch, err := e.Epoch(t.Context())
	require.NoError(t, err)
	require.NoError(t, e.SetEpoch(t.Context(), epoch, epoch+1))
	require.Error(t, e.SetEpoch(t.Context(), epoch, epoch+1))
	s.reopen()
	again, err := s.driver.(snapshot.Epoched).Epoch(t.Context())
	require.NoError(t, err)
	require.Equal(t, epoch+1, again)
	labels := map[string]string{}
	for _, r := range st.Rows {
		labels[r.Label] = r.Value
	}
	require.Equal(t, "64 KiB", labels["Pool Blocksize"])
	require.Equal(t, "rw", labels["Pool Mode"])
}

// TestOptionsThatCannotBeFollowed are refused by name, before anything is made.
func TestOptionsThatCannotBeFollowed(t *testing.T) {
	for name, o := range map[string]snapshot.InitOptions{
		"--dataset":         {Dataset: "tank/x"},
		"--thin-pool":       {ThinPool: "pool", Loopback: 1 << 30},
		"--device":          {Devices: []string{"/dev/x"}, DataDevice: "/dev/x", MetadataDevice: "/dev/y"},
		"--metadata-device": {DataDevice: "/dev/x"},
		"--loopback":        {DataDevice: "/dev/x", MetadataDevice: "/dev/y", Loopback: 1 << 30},
		"zfs":               {FileSystem: "zfs"},
		"base size":         {BaseSize: 4096},
	} {
		t.Run(name, func(t *testing.T) {
			o.Root, o.StoreID = t.TempDir(), uuid.NewString()
			_, err := thin.Kind{}.Init(t.Context(), o)
			require.Error(t, err)
			require.ErrorContains(t, err, name)
			entries, err := os.ReadDir(o.Root)
			require.NoError(t, err)
			require.Empty(t, entries)
		})
	}
}

func TestConfigOfAnotherStoreIsRefused(t *testing.T) {
	s := newStore(t)
	other := s.open
	other.StoreID = uuid.NewString()
	_, err := s.kind.Open(t.Context(), other)
	require.ErrorIs(t, err, snapshot.ErrCorrupt)
	other = s.open
	other.Config = json.RawMessage(`{"pool":`)
	_, err = s.kind.Open(t.Context(), other)
	require.ErrorIs(t, err, snapshot.ErrCorrupt)
}

// TestNoRoom: a pool that is nearly full takes no new volume and says why, while what is
// there can be written to and removed; then there is room again.
func TestNoRoom(t *testing.T) {
	s := newStore(t, func(o *snapshot.InitOptions) { o.Loopback = 256 << 20 })
	room := s.driver.(snapshot.Roomy)
	v := s.create(16, s.base)
	require.NoError(t, room.Room(t.Context()))
	s.with(v, false, func(dir string) {
		st, err := s.driver.Status(t.Context())
		require.NoError(t, err)
		fill(t, dir+"/most", st.Data.Total-st.Data.Used-4<<20)
		err = s.driver.Create(t.Context(), 17, snapshot.CreateOptions{Origin: s.base})
		require.ErrorIs(t, err, snapshot.ErrNoSpace)
		require.ErrorContains(t, err, "delete something or grow the pool")
		require.ErrorIs(t, room.Room(t.Context()), snapshot.ErrNoSpace)
		fill(t, dir+"/more", 1<<20)
	})
	ids, err := s.driver.Volumes(t.Context())
	require.NoError(t, err)
	require.Equal(t, []snapshot.VolumeID{16}, ids, "what was refused is not there")
	require.NoError(t, s.driver.Remove(t.Context(), 16))
	require.NoError(t, room.Room(t.Context()))
	s.create(17, s.base)
}
