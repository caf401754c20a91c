package snapshot_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/drivertest/dirdriver"
	"blockstore.dev/blockstore/snapshot/mount"
)

// TestMountsStayHere: what the store shows is not copied to mount namespaces that
// exist, and what namespaces copied when they began does not keep a volume.
func TestMountsStayHere(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts")
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	require.NoError(t, mount.At(mount.Mount{Source: dir, Options: []string{"bind"}}, dir))
	defer func() { require.NoError(t, mount.Unmount(dir)) }()
	require.NoError(t, unix.Mount("", dir, "", unix.MS_SHARED, "")) // as systemd has it

	ctx := t.Context()
	o := snapshot.StoreOptions{Root: filepath.Join(dir, "store"), Kinds: []snapshot.Kind{dirdriver.New()}}
	require.NoError(t, snapshot.Init(ctx, o.Kinds[0], snapshot.InitOptions{Root: o.Root}, ""))
	s, err := snapshot.Open(ctx, o)
	require.NoError(t, err)
	_, err = s.Create(ctx, "c", snapshot.CreateRequest{})
	require.NoError(t, err)

	before := namespace(t)
	other := filepath.Join(dir, "other")
	require.NoError(t, os.Mkdir(other, 0o700))
	require.NoError(t, mount.At(mount.Mount{Type: "tmpfs", Source: "bstest"}, other))
	require.Contains(t, before(), other, "the namespace gets other mounts")
	shown, err := s.Mount(ctx, "c")
	require.NoError(t, err)
	require.NotContains(t, before(), shown)
	require.NoError(t, mount.Unmount(other))

	after := namespace(t) // begins with a copy of everything
	require.Contains(t, after(), shown)
	require.NoError(t, s.Unmount(ctx, "c"))
	require.NotContains(t, after(), shown, "removing the mount point takes the copies along")
	require.NoError(t, s.Remove(ctx, "c"))
	require.NoError(t, s.Close(ctx))
	below, err := mount.Below(o.Root)
	require.NoError(t, err)
	require.Empty(t, below)
	require.NoError(t, snapshot.Destroy(ctx, o))
}

// namespace starts a process with a mount namespace of its own, which lives until
// the test's end, and returns what reads its mounts.
func namespace(t *testing.T) func() string {
	t.Helper()
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		require.NoError(t, in.Close())
		require.NoError(t, cmd.Wait())
	})
	_, err = in.Write([]byte("x")) // it runs when that comes back
	require.NoError(t, err)
	_, err = io.ReadFull(out, make([]byte, 1))
	require.NoError(t, err)
	return func() string {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", cmd.Process.Pid))
		require.NoError(t, err)
		return string(raw)
	}
}
