package zfs

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/mount"
	"blockstore.dev/blockstore/zfsds"
)

const testStore = "0f0e0d0c-0b0a-4908-8706-050403020100"

// bare is a driver without a store, in a dataset of a pool.
type bare struct {
	*driver
	t    *testing.T
	kind Kind
	open snapshot.OpenOptions
	pool string
}

func newBare(t *testing.T) *bare { return newBareBy(t, zfsds.Ioctl) }

// bothWays runs a test with a driver that uses /dev/zfs, and with one that runs commands.
func bothWays(t *testing.T, test func(t *testing.T, b *bare)) {
	for _, way := range []zfsds.Access{zfsds.Ioctl, zfsds.CLI} {
		t.Run(string(way), func(t *testing.T) { test(t, newBareBy(t, way)) })
	}
}

func newBareBy(t *testing.T, way zfsds.Access) *bare {
	t.Helper()
	kind := Kind{Access: way}
	pool := newPool(t)
	o := snapshot.InitOptions{Root: filepath.Join(t.TempDir(), "store"), StoreID: testStore, Dataset: pool}
	config, err := kind.Init(t.Context(), o)
	require.NoError(t, err)
	b := &bare{t: t, kind: kind, pool: pool, open: snapshot.OpenOptions{Root: o.Root, StoreID: testStore, Config: config}}
	b.up()
	t.Cleanup(func() {
		b.t = t
		require.NoError(t, b.Close(context.Background()))
		require.NoError(t, kind.Destroy(context.Background(), b.open))
		require.NoDirExists(t, filepath.Join(o.Root, "driver"))
	})
	return b
}

func (b *bare) up() {
	b.t.Helper()
	d, err := b.kind.Open(b.t.Context(), b.open)
	require.NoError(b.t, err)
	b.driver = d.(*driver)
}

func (b *bare) reopen() {
	b.t.Helper()
	require.NoError(b.t, b.Close(b.t.Context()))
	b.up()
}

// crash is reopen as after the death of the process.
func (b *bare) crash() {
	b.t.Helper()
	b.tidy.left()
	b.reopen()
}

func (b *bare) make(id snapshot.VolumeID, origin snapshot.Volume) snapshot.Volume {
	b.t.Helper()
	require.NoError(b.t, b.Create(b.t.Context(), id, snapshot.CreateOptions{Origin: origin}))
	return snapshot.Volume{ID: id, Origin: origin.ID, Size: origin.Size}
}

func (b *bare) sealed(v snapshot.Volume) snapshot.Volume {
	b.t.Helper()
	require.NoError(b.t, b.Seal(b.t.Context(), v))
	v.Sealed = true
	return v
}

// with mounts a volume for the length of use.
func (b *bare) with(v snapshot.Volume, use func(dir string)) {
	b.t.Helper()
	ms, err := b.Activate(b.t.Context(), v, v.Sealed)
	require.NoError(b.t, err)
	dir := b.t.TempDir()
	require.NoError(b.t, mount.All(ms, dir))
	defer func() { require.NoError(b.t, mount.Unmount(dir)) }()
	use(dir)
}

// write mounts a volume and writes to it.
func (b *bare) write(v snapshot.Volume, name string, size int) {
	b.t.Helper()
	content := make([]byte, size)
	for i := range content { // no runs, no zeros: nothing that lz4 shrinks much
		content[i] = byte(i*i>>7 ^ i*2654435761>>13)
	}
	b.with(v, func(dir string) { require.NoError(b.t, os.WriteFile(filepath.Join(dir, name), content, 0o600)) })
}

// names lists what lies in the store's dataset, without the base.
func (b *bare) names() []string {
	b.t.Helper()
	all, err := b.children(b.t.Context())
	require.NoError(b.t, err)
	names := []string{}
	for _, c := range all {
		if id, ours := b.root.ours(c); !ours || id != snapshot.Base {
			names = append(names, c.Name)
		}
	}
	return names
}

var base = snapshot.Volume{ID: snapshot.Base, Size: 1 << 30, Sealed: true}

// TestLife: what is written to a volume is in its seal, in what is made of it, and counted once; the seal
// and a mount for reading only take no writes, and limits hold.
func TestLife(t *testing.T) { bothWays(t, life) }

func life(t *testing.T, b *bare) {
	const size = 8 << 20
	ctx := t.Context()
	layer := b.make(20, base)
	b.write(layer, "f", size)
	layer = b.sealed(layer)
	require.NoError(t, b.Create(ctx, 21, snapshot.CreateOptions{Origin: layer, Size: 2 << 30}))
	c := snapshot.Volume{ID: 21, Origin: layer.ID, Size: 2 << 30}
	b.write(c, "g", size)
	for v, want := range map[snapshot.Volume][2]int64{layer: {size, size}, c: {2 * size, size}} {
		usage, err := b.Usage(ctx, v)
		require.NoError(t, err)
		require.True(t, usage.Exact)
		referenced, err := b.Referenced(ctx, v)
		require.NoError(t, err)
		for i, got := range []int64{referenced[0], usage.Added} {
			require.GreaterOrEqual(t, got, want[i]*9/10, "volume %d", v.ID)
			require.LessOrEqual(t, got, want[i]+1<<20, "volume %d", v.ID)
		}
	}
	details, err := b.zfs.Get(ctx, b.root.volume(c.ID))
	require.NoError(t, err)
	require.Equal(t, zfsds.Bytes(2<<30), details.RefQuota)
	ms, err := b.Activate(ctx, layer, false)
	require.NoError(t, err)
	dir := t.TempDir()
	ms[0].Options = nil // whatever the mount says
	require.NoError(t, mount.All(ms, dir))
	require.ErrorIs(t, os.WriteFile(filepath.Join(dir, "f"), nil, 0o600), unix.EROFS)
	require.ErrorIs(t, b.Remove(ctx, layer.ID), snapshot.ErrBusy)
	require.ErrorIs(t, b.Deactivate(ctx, layer.ID), snapshot.ErrBusy)
	located, err := b.Locate(ctx, ms[0])
	require.NoError(t, err)
	require.Equal(t, layer.ID, located)
	require.NoError(t, mount.Unmount(dir))
	require.NoError(t, b.Deactivate(ctx, layer.ID))
	_, err = b.Locate(ctx, mount.Mount{Type: "zfs", Source: b.root.volume(99)})
	require.ErrorIs(t, err, snapshot.ErrNotFound)
	require.NoError(t, b.Remove(ctx, c.ID, layer.ID))
	require.Empty(t, b.names())
}

// TestGhosts removes a chain from the bottom up: what is below goes with the top.
func TestGhosts(t *testing.T) { bothWays(t, ghosts) }

func ghosts(t *testing.T, b *bare) {
	ctx := t.Context()
	one := b.sealed(b.make(20, base))
	two := b.sealed(b.make(21, one))
	three := b.make(22, two)
	four := b.make(23, three) // of a volume that is not sealed
	require.NoError(t, b.Remove(ctx, one.ID))
	require.NoError(t, b.Remove(ctx, two.ID, three.ID))
	ids, err := b.Volumes(ctx)
	require.NoError(t, err)
	require.Equal(t, []snapshot.VolumeID{four.ID}, ids, "ghosts are no volumes")
	require.Len(t, b.names(), 4)
	found, err := b.Check(ctx, []snapshot.Volume{four})
	require.NoError(t, err)
	require.Empty(t, found, "ghosts are nothing to report")
	b.write(four, "f", 100)
	foreign := b.root.ghost(one.ID, ghostGUID(b, one.ID)) + "@of-others"
	require.NoError(t, b.zfs.Snapshot(ctx, nil, foreign))
	b.reopen()
	require.NoError(t, b.zfs.DestroySnapshots(ctx, false, foreign))
	again := b.sealed(b.make(20, base)) // a number whose ghost is there still
	require.NoError(t, b.Remove(ctx, again.ID))
	b.reopen()
	require.Len(t, b.names(), 4, "opening leaves alone what is needed")
	require.NoError(t, b.Remove(ctx, four.ID))
	require.Empty(t, b.names())
	require.NoError(t, b.Remove(ctx, four.ID, one.ID))
}

// ghostGUID finds the GUID of a volume's only ghost.
func ghostGUID(b *bare, id snapshot.VolumeID) uint64 {
	b.t.Helper()
	all, err := b.children(b.t.Context())
	require.NoError(b.t, err)
	for _, c := range all {
		if c.Name == b.root.ghost(id, c.GUID) {
			return c.GUID
		}
	}
	b.t.Fatalf("volume %d has no ghost", id)
	return 0
}

// TestGhostsGiveSpaceBack: what only the removed volume held is freed, whoever else stays.
func TestGhostsGiveSpaceBack(t *testing.T) {
	b := newBare(t)
	ctx := t.Context()
	used := func() int64 {
		require.NoError(t, b.zfs.Sync(ctx, b.pool))
		s, err := b.Status(ctx)
		require.NoError(t, err)
		return s.Data.Used
	}
	v := b.make(20, base)
	before := used()
	b.make(21, v)
	b.write(v, "f", 16<<20)
	require.Greater(t, used(), before+8<<20)
	require.NoError(t, b.Remove(ctx, v.ID))
	require.Less(t, used(), before+4<<20)
	require.NoError(t, b.Remove(ctx, 21))
	require.Empty(t, b.names())
}

// TestTidy: after a clean stop nobody looks for what a crash may have left; after a change that was not stopped cleanly, and
// after one that failed, the next opening does.
func TestTidy(t *testing.T) {
	b := newBare(t)
	ctx := t.Context()
	c := b.make(20, base)
	stray := b.root.made(c.ID, 30)
	require.NoError(t, b.zfs.Snapshot(ctx, nil, stray))
	there := func() bool {
		_, err := b.zfs.Stat(ctx, stray)
		if !errors.Is(err, zfsds.ErrNotFound) {
			require.NoError(t, err)
		}
		return err == nil
	}
	b.reopen()
	require.True(t, there(), "it was looked for after a clean stop")
	require.FileExists(t, b.places.tidy)
	b.make(21, base)
	require.NoFileExists(t, b.places.tidy, "a crash could leave something now")
	b.crash()
	require.False(t, there())

	b.reopen()
	require.ErrorIs(t, b.Create(ctx, 22, snapshot.CreateOptions{Origin: snapshot.Volume{ID: 99, Size: base.Size, Sealed: true}}), snapshot.ErrNotFound)
	require.NoError(t, b.zfs.Snapshot(ctx, nil, stray))
	b.reopen()
	require.False(t, there(), "it was not looked for after a failure")
	b.reopen()
	require.FileExists(t, b.places.tidy)
	require.NoError(t, os.Remove(b.places.tidy))
	require.NoError(t, b.Remove(ctx, 20, 21), "that it is gone already is no reason")
	b.tidy.note = "/dev/null/tidy"
	b.reopen() // that it cannot be made is none either
	require.NoFileExists(t, b.places.tidy)
}

// TestSweep: what a crash can leave is gone after the next opening, and nothing else.
func TestSweep(t *testing.T) {
	b := newBare(t)
	ctx := t.Context()
	layer := b.sealed(b.make(20, base))
	c := b.make(21, layer)
	require.NoError(t, b.zfs.Snapshot(ctx, nil, b.root.made(c.ID, 30)))   // no volume 30 was made of it
	require.NoError(t, b.zfs.Snapshot(ctx, nil, b.root.instant(c.ID, 1))) // nor was it looked at to the end
	ghost := b.make(22, layer)
	require.NoError(t, b.zfs.Rename(ctx, b.root.volume(ghost.ID), b.root.ghost(ghost.ID, 7))) // and nothing is made of it
	b.crash()
	require.Equal(t, []string{b.root.volume(20), b.root.volume(21)}, b.names())
	// And where Create finds it before that: a volume of that number, and what it was made of.
	require.NoError(t, b.zfs.Snapshot(ctx, nil, b.root.made(c.ID, 31)))
	require.NoError(t, b.zfs.Clone(ctx, b.root.made(c.ID, 31), b.root.volume(31), nil))
	b.make(31, c)
	require.NoError(t, b.Remove(ctx, 31))
	require.Len(t, b.names(), 2)
	for _, gone := range []string{b.root.made(c.ID, 30), b.root.instant(c.ID, 1)} {
		_, err := b.zfs.Stat(ctx, gone)
		require.ErrorIs(t, err, zfsds.ErrNotFound)
	}
	_, err := b.zfs.Stat(ctx, b.root.seal(layer.ID))
	require.NoError(t, err)
	require.NoError(t, b.Remove(ctx, c.ID, layer.ID))
}

// TestForeign: snapshots and datasets of others are named and stay.
func TestForeign(t *testing.T) {
	b := newBare(t)
	ctx := t.Context()
	v := b.make(20, base)
	foreign := b.root.volume(v.ID) + "@autosnap_2026"
	require.NoError(t, b.zfs.Snapshot(ctx, nil, foreign))
	err := b.Remove(ctx, v.ID)
	require.ErrorIs(t, err, snapshot.ErrBusy)
	require.ErrorContains(t, err, "zfs destroy "+foreign)
	require.NoError(t, b.zfs.DestroySnapshots(ctx, false, foreign))
	require.NoError(t, b.Remove(ctx, v.ID))

	strange := string(b.root) + "/77" // named as a volume, and not made by the store
	require.NoError(t, b.zfs.Create(ctx, strange, nil))
	ids, err := b.Volumes(ctx)
	require.NoError(t, err)
	require.Empty(t, ids)
	require.ErrorIs(t, b.Remove(ctx, 77), snapshot.ErrCorrupt)
	found, err := b.Check(ctx, nil)
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.Contains(t, found[0].Text, strange)
	err = Kind{}.Destroy(ctx, b.open)
	require.ErrorIs(t, err, snapshot.ErrBusy)
	require.ErrorContains(t, err, strange)
	require.NoError(t, b.zfs.Destroy(ctx, strange))
}

// TestOtherStore: a dataset that is not the one the catalog knows is refused and stays.
func TestOtherStore(t *testing.T) {
	b := newBare(t)
	ctx := t.Context()
	other := b.open
	other.StoreID = "another"
	_, err := Kind{}.Open(ctx, other)
	require.ErrorIs(t, err, snapshot.ErrCorrupt)
	require.ErrorIs(t, Kind{}.Destroy(ctx, other), snapshot.ErrCorrupt)
	moved := string(b.root) + "-moved"
	require.NoError(t, b.zfs.Rename(ctx, string(b.root), moved))
	_, err = Kind{}.Open(ctx, b.open)
	require.ErrorIs(t, err, snapshot.ErrNotFound)
	require.NoError(t, b.zfs.Create(ctx, string(b.root), nil))
	_, err = Kind{}.Open(ctx, b.open)
	require.ErrorIs(t, err, snapshot.ErrCorrupt)
	require.NoError(t, b.zfs.Destroy(ctx, string(b.root)))
	require.NoError(t, b.zfs.Rename(ctx, moved, string(b.root)))
}

func TestRefusals(t *testing.T) {
	for name, o := range map[string]snapshot.InitOptions{
		"a file system": {FileSystem: "ext4"}, "devices": {Devices: []string{"/dev/x"}}, "a data device": {DataDevice: "/dev/x"},
		"a metadata device": {MetadataDevice: "/dev/x"}, "a thin pool": {ThinPool: "vg/lv"},
		"both": {Dataset: "tank", Loopback: 1 << 30},
	} {
		o.Root = t.TempDir()
		_, err := Kind{}.Init(t.Context(), o)
		require.ErrorIs(t, err, snapshot.ErrInvalid, name)
		require.ErrorContains(t, err, name)
	}
}

func TestInitRefusesParents(t *testing.T) {
	pool := newPool(t)
	for name, c := range map[string]struct {
		dataset string
		want    error
	}{
		"none":        {pool + "/none", snapshot.ErrNotFound},
		"no pool":     {"bstest-none", snapshot.ErrNotFound},
		"a name":      {"-r", snapshot.ErrInvalid},
		"a snapshot":  {pool + "@s", snapshot.ErrNotFound},
		"too little":  {"", snapshot.ErrInvalid},
		"bad account": {pool + "/a//b", snapshot.ErrInvalid},
	} {
		root := filepath.Join(t.TempDir(), "store")
		o := snapshot.InitOptions{Root: root, StoreID: testStore, Dataset: c.dataset}
		if c.dataset == "" {
			o.Loopback = 1 << 20
		}
		_, err := Kind{}.Init(t.Context(), o)
		require.ErrorIs(t, err, c.want, name)
		require.NoDirExists(t, filepath.Join(root, "driver"), name)
	}
}

// TestEncrypted: a dataset below an encrypted one works as long as its key is loaded, and says so when
// it is not.
func TestEncrypted(t *testing.T) {
	pool := newPool(t)
	zfs := func(arguments ...string) {
		out, err := exec.Command("zfs", arguments...).CombinedOutput()
		require.NoError(t, err, "zfs %v: %s", arguments, out)
	}
	key := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(key, []byte("0123456789abcdef0123456789abcdef"), 0o600))
	zfs("create", "-u", "-o", "mountpoint=legacy", "-o", "encryption=on", "-o", "keyformat=raw", "-o", "keylocation=file://"+key, pool+"/safe")
	o := snapshot.InitOptions{Root: filepath.Join(t.TempDir(), "store"), StoreID: testStore, Dataset: pool + "/safe"}
	config, err := Kind{}.Init(t.Context(), o)
	require.NoError(t, err)
	open := snapshot.OpenOptions{Root: o.Root, StoreID: testStore, Config: config}
	zfs("unload-key", pool+"/safe")
	_, err = Kind{}.Open(t.Context(), open)
	require.ErrorIs(t, err, snapshot.ErrNotSupported)
	require.ErrorContains(t, err, "zfs load-key")
	other := o
	other.Root = filepath.Join(t.TempDir(), "other")
	_, err = Kind{}.Init(t.Context(), other)
	require.ErrorContains(t, err, "zfs load-key")
	zfs("load-key", pool+"/safe")
	d, err := Kind{}.Open(t.Context(), open)
	require.NoError(t, err)
	require.NoError(t, d.Create(t.Context(), 20, snapshot.CreateOptions{Origin: base}))
	require.NoError(t, d.Close(t.Context()))
	require.NoError(t, Kind{}.Destroy(t.Context(), open))
}

// TestDestroyWhatInitLeft cuts Init short by what it leaves behind.
func TestDestroyWhatInitLeft(t *testing.T) {
	p, err := placesOf(t.TempDir())
	require.NoError(t, err)
	o := snapshot.OpenOptions{Root: filepath.Dir(p.driver), StoreID: testStore}
	require.NoError(t, Kind{}.Destroy(t.Context(), o), "nothing at all")
	require.NoError(t, os.MkdirAll(p.driver, 0o700))
	require.NoError(t, os.WriteFile(p.note, nil, 0o600))
	require.NoError(t, Kind{}.Destroy(t.Context(), o), "a note without a word")
	require.NoDirExists(t, p.driver)
	needZFS(t)
	require.NoError(t, os.MkdirAll(p.driver, 0o700))
	require.NoError(t, os.WriteFile(p.note, []byte(poolName(testStore)), 0o600))
	require.NoError(t, os.WriteFile(p.image, make([]byte, 1<<20), 0o600))
	require.NoError(t, Kind{}.Destroy(t.Context(), o), "a file that no pool was made of")
	require.NoDirExists(t, p.driver)
}

func TestNames(t *testing.T) {
	d := dataset("tank/blockstore-x")
	for name, want := range map[string]snapshot.VolumeID{d.volume(7): 7, d.seal(8): 8, d.made(9, 10): 9, d.volume(snapshot.MaxVolumeID): snapshot.MaxVolumeID} {
		id, ok := d.volumeID(name)
		require.True(t, ok, name)
		require.Equal(t, want, id)
	}
	for _, name := range []string{"", string(d), string(d) + "/", string(d) + "/07", string(d) + "/7/8", string(d) + "/-7", string(d) + "/16777216", d.ghost(7, 1), "tank/blockstore-xy/7"} {
		_, ok := d.volumeID(name)
		require.False(t, ok, name)
	}
	require.True(t, d.isGhost(d.ghost(7, 1)))
	_, err := parseConfig([]byte("{}"))
	require.True(t, errors.Is(err, snapshot.ErrCorrupt))
}

// TestGauge: statfs tells what is free of the store's dataset, and a refused Destroy leaves that alone.
func TestGauge(t *testing.T) {
	b := newBare(t)
	dir := b.places.gauge
	shows := func() (total, free int64) {
		require.NoError(t, b.Gauge(t.Context()))
		var fs unix.Statfs_t
		require.NoError(t, unix.Statfs(dir, &fs))
		require.EqualValues(t, unix.EXT4_SUPER_MAGIC, fs.Type)
		return int64(fs.Blocks) * fs.Bsize, int64(fs.Bavail) * fs.Bsize
	}
	near := func(free int64) {
		st, err := b.Status(t.Context())
		require.NoError(t, err)
		require.InDelta(t, st.Data.Total-st.Data.Used, free, float64(st.Data.Total)/500)
	}
	require.DirExists(t, dir, "from the beginning, for who configures containerd before the first server")
	total, before := shows()
	near(before)
	v := b.make(20, base)
	b.write(v, "large", 40<<20)
	require.NoError(t, b.zfs.Sync(t.Context(), string(b.root)))
	again, after := shows()
	near(after)
	require.Less(t, after, before-int64(20<<20))
	require.Equal(t, total, again, "the total stands still")

	ms, err := b.Activate(t.Context(), v, false)
	require.NoError(t, err)
	at := t.TempDir()
	require.NoError(t, mount.All(ms, at))
	require.ErrorIs(t, b.kind.Destroy(t.Context(), b.open), snapshot.ErrBusy)
	shown, err := mount.Below(dir)
	require.NoError(t, err)
	require.Len(t, shown, 1, "a store that was not destroyed keeps it")
	require.NoError(t, mount.Unmount(at))
}

func TestShowTotal(t *testing.T) {
	for _, c := range []struct{ shown, total, free, want int64 }{
		{0, 1000, 900, 1000},
		{1000, 1009, 900, 1000},
		{1000, 991, 900, 1000},
		{1000, 1011, 900, 1011},
		{1000, 989, 900, 989},
		{1000, 1009, 1005, 1009}, // more is free than could be shown
	} {
		require.Equal(t, c.want, showTotal(c.shown, c.total, c.free), "%+v", c)
	}
}
