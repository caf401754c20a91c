package ioctl

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestFileSystemABI(t *testing.T) {
	abiTable{
		headers: []string{"linux/fs.h"},
		structs: []abiStruct{
			{c: "struct fstrim_range", goType: FstrimRange{}},
			{c: "struct file_clone_range", goType: FileCloneRange{}},
		},
		numbers: map[string]uint64{
			"FIFREEZE": uint64(fiFreeze()), "FITHAW": uint64(fiThaw()), "FITRIM": uint64(fiTrim()),
			"FICLONE": uint64(fiClone()), "FICLONERANGE": uint64(fiCloneRange()),
			"FS_IOC_GETVERSION": uint64(fsIocGetversion()), "FS_IOC_GETFLAGS": uint64(fsIocGetflags()),
			"FS_SYNC_FL": FS_SYNC_FL, "FS_IMMUTABLE_FL": FS_IMMUTABLE_FL, "FS_APPEND_FL": FS_APPEND_FL,
			"FS_NODUMP_FL": FS_NODUMP_FL, "FS_NOATIME_FL": FS_NOATIME_FL, "FS_NOCOW_FL": FS_NOCOW_FL,
		},
	}.check(t)
	// Their headers come with the kernel's sources (ext4) and with xfsprogs' development
	// files; TestGrow and TestCheckpoint try them on real file systems.
	require.EqualValues(t, 0x40086610, ext4IocResizeFs())
	require.EqualValues(t, 0x4004662b, ext4IocCheckpoint())
	require.EqualValues(t, 0x4010586e, xfsIocFsgrowfsdata())
	require.EqualValues(t, 0x80705864, xfsIocFsgeometryV1())
}

// mountLoop makes a file system of a type on a sparse file that is twice as
// large, and mounts it.
func mountLoop(t *testing.T, fstype string, mkfs ...string) *os.File {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	if _, err := exec.LookPath(mkfs[0]); err != nil {
		t.Skipf("no %s", mkfs[0])
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "bstest.img")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.NoError(t, os.Truncate(file, 320<<20))
	output, err := exec.CommandContext(t.Context(), mkfs[0], append(mkfs[1:], file)...).CombinedOutput()
	require.NoError(t, err, "%s: %s", mkfs[0], output)
	require.NoError(t, os.Truncate(file, 640<<20))
	loop, err := AttachLoop(t.Context(), file, LoopOptions{AutoClear: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, loop.Close()) })
	mountPoint := filepath.Join(dir, "mnt")
	require.NoError(t, os.Mkdir(mountPoint, 0o700))
	require.NoError(t, unix.Mount(loop.Path(), mountPoint, fstype, 0, ""))
	t.Cleanup(func() { require.NoError(t, unix.Unmount(mountPoint, 0)) })
	root, err := os.Open(mountPoint)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, root.Close()) })
	return root
}

func hasCapability(t *testing.T, capability int) bool {
	t.Helper()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	require.NoError(t, unix.Capget(&header, &data[0]))
	return data[capability/32].Effective&(1<<(capability%32)) != 0
}

func TestGrow(t *testing.T) {
	cases := map[string]struct {
		mkfs []string
		grow func(*os.File, uint64) error
	}{
		"ext4": {[]string{"mkfs.ext4", "-q", "-b", "4096"}, GrowExt4},
		"xfs":  {[]string{"mkfs.xfs", "-q"}, GrowXFS},
	}
	for fstype, c := range cases {
		t.Run(fstype, func(t *testing.T) {
			root := mountLoop(t, fstype, c.mkfs...)
			var before, after unix.Statfs_t
			require.NoError(t, unix.Fstatfs(int(root.Fd()), &before))
			err := c.grow(root, 640<<20/4096)
			if err == unix.EPERM && !hasCapability(t, unix.CAP_SYS_RESOURCE) {
				t.Skip("needs the capability CAP_SYS_RESOURCE")
			}
			require.NoError(t, err)
			require.NoError(t, unix.Fstatfs(int(root.Fd()), &after))
			require.Greater(t, after.Blocks, before.Blocks*3/2)
		})
	}
}

// TestCheckpoint: what was written to a mounted ext4 is in its place on the device afterwards.
func TestCheckpoint(t *testing.T) {
	root := mountLoop(t, "ext4", "mkfs.ext4", "-q", "-b", "4096")
	require.NoError(t, os.WriteFile(filepath.Join(root.Name(), "made"), nil, 0o600))
	require.NoError(t, CheckpointExt4(root))
	disk := filepath.Join(filepath.Dir(root.Name()), "bstest.img")
	out, err := exec.CommandContext(t.Context(), "debugfs", "-R", "stat made", disk).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "Type: regular", "which it is in the journal at most without, for half a minute")
}

func TestFreezeTrimClone(t *testing.T) {
	root := mountLoop(t, "xfs", "mkfs.xfs", "-q")
	trimmed, err := Trim(root, 0)
	require.NoError(t, err)
	require.Positive(t, trimmed)

	require.NoError(t, Freeze(root))
	require.Equal(t, unix.EBUSY, Freeze(root))
	require.NoError(t, Thaw(root))
	require.Equal(t, unix.EINVAL, Thaw(root))

	source, err := os.Create(filepath.Join(root.Name(), "source"))
	require.NoError(t, err)
	defer source.Close()
	_, err = source.WriteString("shared")
	require.NoError(t, err)
	clone, err := os.Create(filepath.Join(root.Name(), "clone"))
	require.NoError(t, err)
	defer clone.Close()
	require.NoError(t, Clone(clone, source))
	content, err := os.ReadFile(clone.Name())
	require.NoError(t, err)
	require.Equal(t, "shared", string(content))
	require.NoError(t, CloneRange(clone, source, FileCloneRange{}))
	_, err = InodeGeneration(source)
	require.NoError(t, err)
	flags, err := InodeFlags(source)
	require.NoError(t, err)
	require.Zero(t, flags&FS_IMMUTABLE_FL)
}
