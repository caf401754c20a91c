package snapshotter

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestUnpacking: a snapshot that a layer is unpacked into need not wait for the disk before
// it is committed; it is a snapshot like others in all else, and so is what comes of it.
func TestUnpacking(t *testing.T) {
	const key, chain = "default/7/extract-123-abcd sha256:of-the-chain", "default/8/sha256:of-the-chain"
	label := snapshots.WithLabels(map[string]string{snapshots.LabelSnapshotRef: "sha256:of-the-chain"})
	eachVariant(t, func(t *testing.T, v variant) {
		w := newWorld(t, v)
		ctx, s := t.Context(), w.remote("test")
		hasty := func(ms []mount.Mount) bool {
			return slices.ContainsFunc(ms, func(m mount.Mount) bool { return slices.Contains(m.Options, "barrier=0") })
		}
		prepare := func(key, parent string, opts ...snapshots.Opt) []mount.Mount {
			ms, err := s.Prepare(ctx, key, parent, opts...)
			require.NoError(t, err)
			return ms
		}
		require.False(t, hasty(prepare("default/5/container", "", label)), "a label alone")
		require.False(t, hasty(prepare("default/6/extract-123-abcd", "")), "a key alone")
		ms := prepare(key, "", label)
		require.Equal(t, v.kind.Name() == "devicemapper" && v.o.FileSystem == "ext4", hasty(ms))
		require.NoError(t, w.stop())
		require.NoError(t, w.start(ctx))
		s = w.remote("test")
		_, err := s.Stat(ctx, key) // the server answers
		require.NoError(t, err)
		dir := t.TempDir()
		require.NoError(t, mount.All(ms, dir), "what was given before a restart, and not asked for again")
		defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }()
		write := func(name string) {
			f, err := os.Create(filepath.Join(dir, name))
			require.NoError(t, err)
			_, err = f.WriteString("of " + name)
			require.NoError(t, err)
			require.NoError(t, f.Sync())
			require.NoError(t, f.Close())
		}
		write("f")
		again, err := s.Mounts(ctx, key)
		require.NoError(t, err)
		require.Equal(t, ms, again)
		require.NoError(t, s.Commit(ctx, chain, key, label), "while it is mounted")
		require.NoError(t, mount.UnmountAll(dir, 0))
		for _, view := range []bool{false, true} {
			ms := []mount.Mount(nil)
			if view {
				ms, err = s.View(ctx, "default/9/view", chain)
			} else {
				ms, err = s.Prepare(ctx, "default/10/container", chain)
			}
			require.NoError(t, err)
			require.False(t, hasty(ms))
			require.NoError(t, mount.WithTempMount(ctx, ms, func(root string) error {
				text, err := os.ReadFile(filepath.Join(root, "f"))
				require.Equal(t, "of f", string(text))
				return err
			}))
		}
	})
}
