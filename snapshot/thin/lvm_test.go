package thin_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/ioctl"
	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/drivertest"
	"blockstore.dev/blockstore/snapshot/thin"
	"blockstore.dev/blockstore/thinpool"
)

// needLVM skips where there is no device-mapper. LVM's own tools come with `make deps`.
func needLVM(t testing.TB) {
	t.Helper()
	err := thin.Kind{}.Probe(t.Context())
	if errors.Is(err, snapshot.ErrNotSupported) || errors.Is(err, dm.ErrPermission) {
		t.Skipf("no device-mapper in this kernel: %v", err)
	}
	require.NoError(t, err)
}

// newDisk is a blank disk of its own; blank says at the test's end that it is that again.
func newDisk(t testing.TB, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(path)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(size))
	require.NoError(t, f.Close())
	l, err := ioctl.AttachLoop(t.Context(), path, ioctl.LoopOptions{AutoClear: true})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, thinpool.CheckBlank(l.Path()))
		require.NoError(t, l.Close())
	})
	return l.Path()
}

// lvmRun runs one of LVM's commands as an administrator would.
func lvmRun(t testing.TB, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command("lvm", args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "LVM_SUPPRESS_FD_WARNINGS=1")
	if !udevRuns() {
		cmd.Env = append(cmd.Env, "DM_DISABLE_UDEV=1")
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func udevRuns() bool {
	_, err := os.Stat("/run/udev/control")
	return err == nil
}

func admin(t testing.TB, args ...string) string {
	t.Helper()
	out, err := lvmRun(t, args...)
	require.NoError(t, err, "%v: %s", args, out)
	return strings.TrimSpace(out)
}

// foreignPool is a volume group of somebody else's with a thin pool "pool" and a thin volume "theirs" in it.
type foreignPool struct {
	t     testing.TB
	group string
	sum   string
	tid   string
}

func newForeignPool(t testing.TB, size int64) *foreignPool {
	t.Helper()
	disk := newDisk(t, size)
	f := &foreignPool{t: t, group: "bstest" + uuid.NewString()[:8]}
	admin(t, "vgcreate", f.group, disk)
	t.Cleanup(func() {
		admin(t, "vgremove", "-ff", "-y", f.group)
		require.NoError(t, thinpool.Wipe(disk))
	})
	admin(t, "lvcreate", "-y", "--type", "thin-pool", "-n", "pool", "-l", "80%FREE", "--poolmetadatasize", "64m", "-c", "64k", "-Zy", f.group)
	admin(t, "lvcreate", "-y", "-V", "64m", "-T", f.group+"/pool", "-n", "theirs")
	w, err := os.OpenFile(f.device(), os.O_WRONLY, 0)
	require.NoError(t, err)
	for i := range 64 {
		_, err := w.WriteAt([]byte(strings.Repeat(fmt.Sprintf("theirs %d ", i), 5000)), int64(i)<<20)
		require.NoError(t, err)
	}
	require.NoError(t, w.Sync())
	require.NoError(t, w.Close())
	f.sum, f.tid = f.content(), f.transaction()
	return f
}

func (f *foreignPool) device() string { return "/dev/mapper/" + f.group + "-theirs" }
func (f *foreignPool) pool() string   { return f.group + "/pool" }

func (f *foreignPool) content() string {
	f.t.Helper()
	r, err := os.Open(f.device())
	require.NoError(f.t, err)
	defer r.Close()
	sum := sha256.New()
	_, err = io.Copy(sum, r)
	require.NoError(f.t, err)
	return fmt.Sprintf("%x", sum.Sum(nil))
}

func (f *foreignPool) transaction() string {
	return admin(f.t, "lvs", "--noheadings", "-o", "transaction_id,lv_size,lv_metadata_size", f.pool())
}

// untouched compares contents, LVM's record of the pool, and what thin devices are in its metadata, after LVM took the
// pool down and up again, which compares transaction ids and runs thin_check.
func (f *foreignPool) untouched() {
	f.t.Helper()
	admin(f.t, "vgchange", "-an", f.group)
	admin(f.t, "vgchange", "-ay", f.group)
	require.Equal(f.t, f.sum, f.content())
	require.Equal(f.t, f.tid, f.transaction())
}

// theirsOnly says that no thin device is left in the pool but theirs.
func (f *foreignPool) theirsOnly() {
	f.t.Helper()
	admin(f.t, "vgchange", "-an", f.group)
	admin(f.t, "lvchange", "-y", "-ay", f.group+"/pool_tmeta")
	defer admin(f.t, "lvchange", "-an", f.group+"/pool_tmeta")
	out, err := exec.Command("thin_ls", "--no-headers", "-o", "DEV", "/dev/mapper/"+f.group+"-pool_tmeta").CombinedOutput()
	require.NoError(f.t, err, "%s", out)
	require.Equal(f.t, "1", strings.TrimSpace(string(out)))
}

func TestDirectLVM(t *testing.T) {
	needLVM(t)
	directLVM(t)
}

// TestDirectLVMBesideUdev: LVM and we wait for udev, which makes the nodes and links; no semaphore is left, and no link.
func TestDirectLVMBesideUdev(t *testing.T) {
	if !udevRuns() {
		t.Skip("no udev daemon runs here")
	}
	needLVM(t)
	semaphores := func() string {
		text, err := os.ReadFile("/proc/sysvipc/sem")
		require.NoError(t, err)
		return string(text)
	}
	links := func() []string {
		found, err := filepath.Glob("/dev/mapper/*")
		require.NoError(t, err)
		return found
	}
	before, named := semaphores(), links()
	t.Run("Store", directLVM)
	out, err := exec.CommandContext(t.Context(), "udevadm", "settle", "--timeout=60").CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Equal(t, before, semaphores(), "semaphores are left")
	require.Equal(t, named, links(), "links are left")
}

func directLVM(t *testing.T) {
	disks := []string{newDisk(t, 768<<20), newDisk(t, 512<<20), newDisk(t, 512<<20)}
	s := newStore(t, func(o *snapshot.InitOptions) {
		o.Loopback, o.Devices, o.Yes, o.BaseSize = 0, disks[:2], true, 128<<20
	})
	group := "blockstore-" + s.open.StoreID[:8]
	require.Equal(t, "pool", admin(t, "lvs", "--noheadings", "-o", "lv_name", group))
	require.Equal(t, "2", admin(t, "vgs", "--noheadings", "-o", "pv_count", group))
	a := s.create(16, s.base)
	s.with(a, false, func(dir string) { write(t, filepath.Join(dir, "f"), "kept") })

	// An administrator cannot take the pool away while the store is open.
	out, err := lvmRun(t, "lvchange", "-an", group+"/pool")
	require.Error(t, err, out)
	require.NoError(t, s.driver.Close(t.Context()))
	admin(t, "lvchange", "-an", group+"/pool") // or a boot
	s.driver = nil
	s.reopen()
	s.with(a, true, func(dir string) { require.Equal(t, "kept", read(t, filepath.Join(dir, "f"))) })

	// Growth: by the administrator, from what is free, and by a further disk.
	total := func() int64 {
		st, err := s.driver.Status(t.Context())
		require.NoError(t, err)
		require.True(t, st.Healthy, st.Problem)
		return st.Data.Total
	}
	first := total()
	admin(t, "lvextend", "-L", "+8m", group+"/pool")
	require.Equal(t, first+8<<20, total(), "what there is now, not what was remembered")
	grower, extender := s.driver.(snapshot.Grower), s.driver.(snapshot.Extender)
	require.ErrorIs(t, grower.Grow(t.Context(), 16<<20), snapshot.ErrInvalid, "shrinking")
	require.NoError(t, grower.Grow(t.Context(), first+16<<20))
	require.Equal(t, first+16<<20, total())
	require.NoError(t, grower.Grow(t.Context(), 0))
	all := total()
	require.Greater(t, all, first+16<<20)
	require.ErrorIs(t, grower.Grow(t.Context(), 0), snapshot.ErrNoSpace, "a full group")
	err = grower.Grow(t.Context(), all+1<<30)
	require.ErrorIs(t, err, snapshot.ErrNoSpace)
	require.ErrorContains(t, err, "--device")
	more := snapshot.ExtendOptions{Devices: disks[2:]}
	require.ErrorIs(t, extender.Extend(t.Context(), more), snapshot.ErrUnconfirmed)
	require.NoError(t, thinpool.CheckBlank(disks[2]))
	more.Yes = true
	require.NoError(t, extender.Extend(t.Context(), more))
	require.Greater(t, total(), all+400<<20)
	require.NoError(t, extender.Extend(t.Context(), more), "what was added is passed over; what is free is taken")
	require.Error(t, extender.Extend(t.Context(), snapshot.ExtendOptions{Devices: []string{"/dev/null"}, Yes: true}))

	// Somebody else's volume in the group keeps it from being destroyed; then nothing is.
	theirs := []string{"lvcreate", "-y", "-V", "8m", "-T", group + "/pool", "-n", "theirs"}
	out, err = lvmRun(t, theirs...)
	require.Error(t, err, "LVM's first volume in a pool that is in use: %s", out)
	require.NoError(t, s.driver.Close(t.Context()))
	s.driver = nil
	admin(t, theirs...)
	err = s.kind.Destroy(t.Context(), s.open)
	require.ErrorIs(t, err, snapshot.ErrBusy)
	require.ErrorContains(t, err, group+"/theirs")
	s.reopen()
	s.with(a, true, func(dir string) { require.Equal(t, "kept", read(t, filepath.Join(dir, "f"))) })
	admin(t, "lvremove", "-y", group+"/theirs")
}

// TestDirectLVMRefusals leave every disk as it was.
func TestDirectLVMRefusals(t *testing.T) {
	needLVM(t)
	good, small := newDisk(t, 1<<30), newDisk(t, 64<<20)
	used := newDisk(t, 1<<30)
	require.NoError(t, os.WriteFile(used, []byte("somebody's data"), 0))
	t.Cleanup(func() { require.NoError(t, thinpool.Wipe(used)) })
	f := newForeignPool(t, 1<<30)
	pv := strings.Fields(admin(t, "pvs", "--noheadings", "-o", "pv_name", "-S", "vg_name="+f.group))[0]
	for name, c := range map[string]struct {
		o    snapshot.InitOptions
		is   error
		text string
	}{
		"not confirmed":     {snapshot.InitOptions{Devices: []string{good}}, snapshot.ErrUnconfirmed, "blockstore-"},
		"too small":         {snapshot.InitOptions{Devices: []string{small}, Yes: true}, snapshot.ErrInvalid, "a pool needs"},
		"not blank":         {snapshot.InitOptions{Devices: []string{good, used}, Yes: true}, snapshot.ErrInvalid, "wipefs"},
		"twice":             {snapshot.InitOptions{Devices: []string{good, good}, Yes: true}, snapshot.ErrInvalid, "same disk"},
		"another's group":   {snapshot.InitOptions{Devices: []string{good, pv}, Force: true}, snapshot.ErrBusy, f.group},
		"no disk":           {snapshot.InitOptions{Devices: []string{"/dev/null"}, Yes: true}, snapshot.ErrInvalid, "/dev/null"},
		"in use":            {snapshot.InitOptions{Devices: []string{f.device()}, Yes: true}, snapshot.ErrInvalid, "not blank"},
		"no such pool":      {snapshot.InitOptions{ThinPool: f.group + "/nosuch"}, snapshot.ErrNotFound, f.group + "/nosuch"},
		"no pool":           {snapshot.InitOptions{ThinPool: f.group + "/theirs"}, snapshot.ErrInvalid, "no thin pool"},
		"no active pool":    {snapshot.InitOptions{ThinPool: "bstest-nosuch"}, snapshot.ErrNotFound, "not active"},
		"a path to no pool": {snapshot.InitOptions{ThinPool: f.device()}, snapshot.ErrInvalid, "no thin pool"},
	} {
		t.Run(name, func(t *testing.T) {
			o := c.o
			o.Root, o.StoreID, o.BaseSize = t.TempDir(), uuid.NewString(), 128<<20
			_, err := thin.Kind{}.Init(t.Context(), o)
			require.ErrorIs(t, err, c.is)
			require.ErrorContains(t, err, c.text)
			entries, err := os.ReadDir(filepath.Join(o.Root, "driver"))
			require.NoError(t, err)
			require.Empty(t, entries)
		})
	}
	f.untouched()
	b, err := os.ReadFile(used)
	require.NoError(t, err)
	require.Equal(t, "somebody's data", string(b[:15]))

	// With force the old data go.
	o := snapshot.InitOptions{Root: t.TempDir(), StoreID: uuid.NewString(), BaseSize: 128 << 20, Devices: []string{used}, Force: true}
	config, err := thin.Kind{}.Init(t.Context(), o)
	require.NoError(t, err)
	require.NoError(t, thin.Kind{}.Destroy(t.Context(), snapshot.OpenOptions{Root: o.Root, StoreID: o.StoreID, Config: config}))
	require.NoError(t, thinpool.CheckBlank(used))
}

func TestThinPoolOfLVM(t *testing.T) {
	needLVM(t)
	f := newForeignPool(t, 1<<30)
	t.Run("Store", func(t *testing.T) {
		s := newStore(t, func(o *snapshot.InitOptions) { o.Loopback, o.ThinPool, o.BaseSize = 0, f.pool(), 128<<20 })
		a := s.create(16, s.base)
		s.with(a, false, func(dir string) { write(t, filepath.Join(dir, "f"), "kept") })
		require.ErrorIs(t, s.driver.(snapshot.Grower).Grow(t.Context(), 2<<30), snapshot.ErrNotSupported)
		require.ErrorIs(t, s.driver.(snapshot.Extender).Extend(t.Context(), snapshot.ExtendOptions{}), snapshot.ErrNotSupported)
		ids, err := s.driver.Volumes(t.Context())
		require.NoError(t, err)
		require.Equal(t, []snapshot.VolumeID{16}, ids)
		found, err := s.driver.Check(t.Context(), []snapshot.Volume{a})
		require.NoError(t, err)
		require.Empty(t, found)
		out, err := lvmRun(t, "vgchange", "-an", f.group)
		require.Error(t, err, "LVM takes it away while it is in use: %s", out)
		admin(t, "vgchange", "-ay", f.group)

		require.NoError(t, s.driver.Close(t.Context()))
		s.driver = nil
		f.untouched()
		admin(t, "vgchange", "-an", f.group)
		admin(t, "vgrename", f.group, f.group+"-new") // known by its uuid
		f.group += "-new"
		s.reopen()
		s.with(a, true, func(dir string) { require.Equal(t, "kept", read(t, filepath.Join(dir, "f"))) })
		require.NoError(t, s.driver.Close(t.Context()))
		admin(t, "vgrename", f.group, strings.TrimSuffix(f.group, "-new"))
		f.group = strings.TrimSuffix(f.group, "-new")
		admin(t, "vgchange", "-ay", f.group)
		s.driver = nil
		s.reopen()
		b := s.create(17, a)
		s.with(b, true, func(dir string) { require.Equal(t, "kept", read(t, filepath.Join(dir, "f"))) })
	})
	f.untouched()
	f.theirsOnly()
}

// onDisks is what a store on disks does not have.
func onDisks() map[drivertest.Ability]string {
	return map[drivertest.Ability]string{drivertest.BackingFiles: "the pool is on disks, or in a pool that is somebody else's"}
}

func lvmFactory() drivertest.Factory {
	f := factory("ext4")
	f.Unsupported = onDisks()
	f.Prepare = func(t testing.TB, o *snapshot.InitOptions) {
		o.FileSystem, o.Yes = "ext4", true
		o.Devices = []string{newDisk(t, max(2<<30, 2*o.BaseSize)), newDisk(t, 512<<20)}
	}
	return f
}

// TestConformanceDirectLVM runs what has to do with a store's beginning and end, and with its space; in between it is a
// store in an existing pool, where TestConformanceThinPool runs the whole suite.
func TestConformanceDirectLVM(t *testing.T) {
	drivertest.Column(t, "direct-lvm")
	needLVM(t)
	f := lvmFactory()
	f.Only = []string{
		"CreateBase", "SurvivesReopen", "CloseTwice", "CommitRules", "DriverSealedVolume", "DriverBusy", "SpaceComesBack",
		"UsageOfLayers", "DestroyWhileMounted",
	}
	drivertest.Run(t, f)
}

// kill is in the environment of a child of TestDirectLVMKilled: the operation, the command of LVM's before which the
// process dies, and the store.
const kill = "BLOCKSTORE_LVM_KILL"

// TestDirectLVMKilled kills a process before each of LVM's commands that change something. Init, done again or undone by
// destroy, and destroy, done again, leave blank disks.
func TestDirectLVMKilled(t *testing.T) {
	if args := os.Getenv(kill); args != "" {
		killedChild(t, strings.Fields(args))
		return
	}
	needLVM(t)
	for i, point := range []string{"pvcreate", "vgcreate", "lvcreate", "lvchange", "wipe", "vgremove"} {
		operation := "init"
		if point == "wipe" || point == "vgremove" {
			operation = "destroy"
		}
		t.Run(operation+"/"+point, func(t *testing.T) {
			disks := []string{newDisk(t, 640<<20), newDisk(t, 512<<20)}
			root := filepath.Join(t.TempDir(), "store")
			o := snapshot.InitOptions{Root: root, BaseSize: 128 << 20, Devices: disks, Yes: true}
			if operation == "destroy" {
				require.NoError(t, snapshot.Init(t.Context(), thin.Kind{}, o, ""))
			}
			cmd := exec.Command(os.Args[0], "-test.run=^TestDirectLVMKilled$")
			cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %s %s", kill, operation, point, root, strings.Join(disks, " ")))
			out, err := cmd.CombinedOutput()
			require.ErrorContains(t, err, "killed", "%s", out)
			if i%2 == 0 && operation == "init" {
				require.NoError(t, snapshot.Init(t.Context(), thin.Kind{}, o, ""), "again")
			}
			require.NoError(t, snapshot.Destroy(t.Context(), snapshot.StoreOptions{Root: root, Kinds: []snapshot.Kind{thin.Kind{}}}))
			require.NoError(t, thinpool.CheckBlank(disks[0]))
			require.Empty(t, admin(t, "vgs", "--noheadings"))
		})
	}
}

func killedChild(t *testing.T, args []string) {
	seen := 0
	kind := thin.Kind{Commands: func(command string) {
		if command != args[1] {
			return
		}
		if seen++; command == "pvcreate" && seen == 1 {
			return // between the two disks
		}
		p, err := os.FindProcess(os.Getpid())
		require.NoError(t, err)
		require.NoError(t, p.Kill())
		select {}
	}}
	if args[0] == "destroy" {
		t.Fatal(snapshot.Destroy(context.Background(), snapshot.StoreOptions{Root: args[2], Kinds: []snapshot.Kind{kind}}))
	}
	t.Fatal(snapshot.Init(context.Background(), kind, snapshot.InitOptions{Root: args[2], BaseSize: 128 << 20, Devices: args[3:], Yes: true}, ""))
}
