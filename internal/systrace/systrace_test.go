package systrace

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const example = `100 access("/bstest-mark-warm", F_OK) = -1 ENOENT (No such file or directory)
100 fdatasync(7) = 0
100 access("/bstest-mark-end", F_OK) = -1 ENOENT (No such file or directory)
100 fsync(7) = 0
100 faccessat(AT_FDCWD, "/bstest-mark-make", F_OK) = -1 ENOENT (No such file or directory)
100 ioctl(5, DM_TARGET_MSG, {version=4.0.0} <unfinished ...>
101 <... ioctl resumed>) = 0
101 ioctl(3<x>, BTRFS_IOC_SNAP_CREATE_V2, {fd=4}) = 0
101 ioctl(3, 0x1234, 0) = 0
101 clone3({flags=CLONE_VM|CLONE_THREAD}, 88) = 102
101 clone(child_stack=NULL, flags=CLONE_VM|CLONE_VFORK|SIGCHLD) = 103
103 execve("/sbin/dmsetup", ["dmsetup"], 0x7ffe) = 0
103 ioctl(1, TCGETS, 0x7ffd) = -1 ENOTTY (Inappropriate ioctl for device)
103 access("/etc/ld.so.preload", R_OK) = -1 ENOENT (No such file or directory)
103 +++ exited with 0 +++
100 fdatasync(7) = 0
100 syncfs(7) = 0
100 mount("/dev/x", "/y", "ext4", 0, "") = 0
100 access("/bstest-mark-end", F_OK) = -1 ENOENT (No such file or directory)
100 fdatasync(7) = 0
`

func TestRead(t *testing.T) {
	tallies, err := Read(strings.NewReader(example))
	require.NoError(t, err)
	assert.Equal(t, map[string]Tally{
		"warm": {"fdatasync": 1},
		"make": {
			"DM_TARGET_MSG": 1, "BTRFS_IOC_SNAP_CREATE_V2": 1, "0x1234": 1, "TCGETS": 1, "process": 1, "execve": 1,
			"fdatasync": 1, "syncfs": 1, "mount": 1,
		},
	}, tallies)
	assert.Equal(t, 2, tallies["make"].Syncs())
	assert.Equal(t, 3, tallies["make"].Ioctls())
	assert.Equal(t, 1, tallies["make"].Sum("execve"))
}

func TestReadWhole(t *testing.T) {
	tally, err := ReadWhole(strings.NewReader("100 fsync(7) = 0\n101 execve(\"/bin/true\", [\"true\"], 0x7ffe) = 0\n100 fsync(7) = 0\n"))
	require.NoError(t, err)
	assert.Equal(t, Tally{"fsync": 2, "execve": 1}, tally)
	tally, err = ReadWhole(strings.NewReader(""))
	require.NoError(t, err)
	assert.Empty(t, tally)
}

func TestBadTrace(t *testing.T) {
	_, err := Read(strings.NewReader("1 access(\"/bstest-mark-a\", F_OK) = -1\n1 ioctl(5) = 0\n"))
	assert.ErrorContains(t, err, "an ioctl without a request")
}
