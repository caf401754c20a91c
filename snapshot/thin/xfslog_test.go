package thin

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/ioctl"
	"blockstore.dev/blockstore/snapshot"
)

// TestXFSClean: an xfs is clean from its unmounting on, wherever in its log that is, and not before.
func TestXFSClean(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts xfs")
	}
	if err := xfs.findMkfs(); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	image := filepath.Join(dir, "image")
	require.NoError(t, os.WriteFile(image, nil, 0o600))
	require.NoError(t, os.Truncate(image, 320<<20))
	line := xfs.mkfs(image, 320<<20, 1<<16)
	out, err := exec.Command(line[0], line[1:]...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	clean := func(path string) bool {
		t.Helper()
		c, err := xfsClean(path)
		require.NoError(t, err)
		return c
	}
	require.True(t, clean(image), "just made")
	rounds := 16
	if testing.Short() {
		rounds = 2
	}
	for round := range rounds {
		l, err := ioctl.AttachLoop(t.Context(), image, ioctl.LoopOptions{Buffered: true, AutoClear: true})
		require.NoError(t, err)
		// No mount in the file system's tree: a container that is started beside this would get a copy, and with it xfs
		// would stay mounted for a moment longer.
		root, err := xfs.open(l.Path())
		if errors.Is(err, unix.ENODEV) {
			require.NoError(t, l.Close())
			t.Skipf("no xfs in this kernel: %v", err)
		}
		require.NoError(t, err)
		for pass := range 8 {
			logInodes(t, below(root), time.Unix(int64(8*round+pass), 0))
		}
		require.False(t, clean(image), "round %d, synced and mounted", round)
		require.NoError(t, root.Close())
		require.True(t, clean(l.Path()), "round %d, unmounted", round)
		require.NoError(t, l.Close())
		require.True(t, clean(image), "round %d, detached", round)
	}
	f, err := os.Open(image)
	require.NoError(t, err)
	defer f.Close()
	l, err := openXFSLog(f)
	require.NoError(t, err)
	t.Logf("the log is in cycle %d, at sector %d of %d", l.cycle(0), l.head(), l.length)
	if !testing.Short() {
		require.Greater(t, l.cycle(0), uint32(1), "the log has begun again")
	}
}

// below is a path of an open directory.
func below(root *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", root.Fd()) }

// logInodes has about a megabyte written to the log: each of 3000 files, which are made if need be, gets a time.
func logInodes(t *testing.T, dir string, at time.Time) {
	t.Helper()
	for i := range 3000 {
		path := filepath.Join(dir, strconv.Itoa(i))
		err := os.Chtimes(path, at, at)
		if errors.Is(err, os.ErrNotExist) {
			err = os.WriteFile(path, nil, 0o600)
		}
		require.NoError(t, err)
	}
	require.NoError(t, syncfs(dir))
}

func TestXFSCleanOfOther(t *testing.T) {
	path := filepath.Join(t.TempDir(), "other")
	require.NoError(t, os.WriteFile(path, make([]byte, 1<<16), 0o600))
	_, err := xfsClean(path)
	require.ErrorIs(t, err, snapshot.ErrCorrupt)
}
