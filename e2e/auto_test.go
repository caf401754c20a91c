package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// chosen inits a store below a directory by --driver auto, and returns what `info` says: the driver, and why.
func chosen(t *testing.T, dir string) (driver, why string) {
	t.Helper()
	s := &store{t: t, bin: binary(t), root: filepath.Join(dir, "store")}
	s.run("init", "--driver", "auto")
	defer s.run("destroy", "--yes")
	var info struct{ Driver, Chosen string }
	s.json(&info, "info")
	require.Contains(t, s.run("info"), info.Chosen)
	require.Contains(t, info.Chosen, "auto: ")
	s.run("check")
	return info.Driver, info.Chosen
}

// mounted is a new file system of mkfs's on a loop device, mounted.
func mounted(t *testing.T, fs string, mkfs ...string) string {
	t.Helper()
	dir := scratch(t)
	file, at := filepath.Join(dir, "file"), filepath.Join(dir, "mnt")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.NoError(t, os.Truncate(file, 4<<30))
	require.NoError(t, os.Mkdir(at, 0o700))
	command(t, mkfs[0], append(mkfs[1:], file)...)
	command(t, "mount", "-o", "loop", "-t", fs, file, at)
	t.Cleanup(func() { require.NoError(t, unix.Unmount(at, 0)) })
	return at
}

// TestInitAuto: the root directory's file system comes first, then what the kernel has; info says so.
func TestInitAuto(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: the store mounts file systems")
	}
	t.Run("the root lies on btrfs", func(t *testing.T) {
		driver, why := chosen(t, mounted(t, "btrfs", "mkfs.btrfs", "-q"))
		require.Equal(t, "btrfs", driver)
		require.Equal(t, "auto: the root directory lies on btrfs", why)
	})
	t.Run("the root lies on ZFS", func(t *testing.T) {
		if _, err := os.Stat("/dev/zfs"); err != nil {
			t.Skip("no ZFS in this kernel")
		}
		dir := scratch(t)
		file, pool := filepath.Join(dir, "file"), filepath.Base(dir)
		require.NoError(t, os.WriteFile(file, nil, 0o600))
		require.NoError(t, os.Truncate(file, 4<<30))
		command(t, "zpool", "create", "-m", filepath.Join(dir, "mnt"), pool, file)
		t.Cleanup(func() { command(t, "zpool", "destroy", pool) })
		driver, why := chosen(t, filepath.Join(dir, "mnt"))
		require.Equal(t, "zfs", driver)
		require.Contains(t, why, "the root directory lies on ZFS")
	})
	t.Run("elsewhere, with thin pools", func(t *testing.T) {
		if !hasDeviceMapper() && !machineLoadsModules() {
			t.Skip("no device-mapper in this kernel")
		}
		driver, why := chosen(t, mounted(t, "ext4", "mkfs.ext4", "-q"))
		require.Equal(t, "devicemapper", driver)
		require.Contains(t, why, "a loopback pool")
		require.Contains(t, why, "ext4")
	})
	t.Run("elsewhere, without thin pools", func(t *testing.T) {
		dir := mounted(t, "ext4", "mkfs.ext4", "-q")
		if machineLoadsModules() {
			command(t, "modprobe", "btrfs") // it can load none when they are away
		}
		without(t, "dm_thin_pool", "dm_mod")
		driver, why := chosen(t, dir)
		require.Equal(t, "btrfs", driver)
		require.Contains(t, why, "a btrfs in a loopback file")
		require.Contains(t, why, "modprobe dm-thin-pool")
	})
	t.Run("elsewhere, with nothing", func(t *testing.T) {
		if !machineLoadsModules() {
			t.Skip("this kernel's drivers are not this test's to take away: the virtual machine's are")
		}
		dir := mounted(t, "ext4", "mkfs.ext4", "-q")
		without(t, "dm_thin_pool", "dm_mod", "btrfs")
		s := &store{t: t, bin: binary(t), root: filepath.Join(dir, "store")}
		r := s.try("init", "--driver", "auto")
		require.Equal(t, 1, r.code)
		require.Contains(t, r.stderr, "modprobe dm-thin-pool")
		require.Contains(t, r.stderr, "modprobe btrfs")
		require.NoDirExists(t, s.root)
	})
}

// machineLoadsModules: the test runs in the virtual machine, whose kernel loads modules when they are asked for.
func machineLoadsModules() bool { return os.Getenv("BLOCKSTORE_MACHINE") == "vm" }

// unload removes a module and those that use it.
func unload(t *testing.T, module string) {
	t.Helper()
	users, err := os.ReadDir("/sys/module/" + module + "/holders")
	if os.IsNotExist(err) {
		return
	}
	require.NoError(t, err)
	for _, u := range users {
		unload(t, u.Name())
	}
	if _, err := os.Stat("/sys/module/" + module); err != nil {
		return // with its users
	}
	out, err := exec.Command("modprobe", "-r", module).CombinedOutput()
	require.NoError(t, err, "removing the module %s: %s", module, strings.TrimSpace(string(out)))
}

// without takes modules away from the kernel until the test ends, where it has them as modules.
func without(t *testing.T, modules ...string) {
	t.Helper()
	if !machineLoadsModules() {
		if hasDeviceMapper() {
			t.Skip("this kernel has what must be away, and only the virtual machine's is the test's to change")
		}
		return
	}
	for _, m := range modules {
		unload(t, m)
	}
	// modprobe(8), which the kernel calls, finds none there.
	require.NoError(t, unix.Mount("none", "/lib/modules", "tmpfs", 0, ""))
	t.Cleanup(func() { require.NoError(t, unix.Unmount("/lib/modules", 0)) })
}
