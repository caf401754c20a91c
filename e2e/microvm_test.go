package e2e

import (
	"bytes"
	"context"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	ociidentity "github.com/opencontainers/image-spec/identity"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// guest is a virtual machine that has a snapshot's block device for its disk, as Kata and Firecracker's runtimes give it to theirs: it
// mounts it and runs the image's own programs on it.
type guest struct {
	t         *testing.T
	cmd       *exec.Cmd
	share     string
	out, said bytes.Buffer
}

// boot starts a machine on what the mounts of a snapshot name. Its script runs with the image as its root and /share in common with us.
func boot(t *testing.T, m mount.Mount, script string) *guest {
	t.Helper()
	g := &guest{t: t, share: scratch(t)}
	here, err := os.Getwd()
	require.NoError(t, err)
	g.cmd = exec.Command("../bin/vm", "--mem", "512M", "--disk", m.Source, "--share", g.share, "-e", "SHARE="+g.share, "-e", "TYPE="+m.Type, "-e", "SCRIPT="+script,
		"--", "sh", "-ec", `mkdir /run/root; mount -t "$TYPE" /dev/vda /run/root; mkdir -p /run/root/share; mount --bind "$SHARE" /run/root/share
			chroot /run/root /bin/sh -ec "$SCRIPT"; umount /run/root/share; rmdir /run/root/share; umount /run/root`)
	g.cmd.Env = append(os.Environ(), "BSTEST_MAKE="+filepath.Join(filepath.Dir(here), "vagrant/vm/make"))
	g.cmd.Stdout, g.cmd.Stderr = &g.out, &g.said
	require.NoError(t, g.cmd.Start())
	t.Cleanup(func() {
		if g.cmd.ProcessState == nil { // the test failed; a machine that is told to end takes its files away
			_ = g.cmd.Process.Signal(unix.SIGTERM)
			_ = g.cmd.Wait()
		}
	})
	return g
}

// waits until the guest has made a file below /share.
func (g *guest) waits(name string) {
	g.t.Helper()
	require.Eventually(g.t, func() bool { _, err := os.Lstat(filepath.Join(g.share, name)); return err == nil }, patience, tick, "%s", &g.said)
}

// goOn lets a guest go on that waits for a file below /share, and returns what it has said at its end.
func (g *guest) goOn(name string) string {
	g.t.Helper()
	require.NoError(g.t, os.WriteFile(filepath.Join(g.share, name), nil, 0o600))
	require.NoError(g.t, g.cmd.Wait(), "%s", &g.said)
	return g.out.String()
}

// TestMicroVM: a virtual machine runs on the block device that containerd's mounts of a snapshot name. While it runs its changes
// can be told, as of what it has synced, and the snapshot neither be committed nor mounted here, since two kernels on one file
// system destroy it. What it wrote is the snapshot's.
func TestMicroVM(t *testing.T) {
	if driver(t) != "devicemapper" {
		t.Skip("a volume of btrfs or ZFS is no block device")
	}
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("no qemu-system-x86_64: apt-get install qemu-system-x86")
	}
	if exec.Command("../vagrant/vm/make", "cached").Run() != nil {
		t.Skip("no image of a virtual machine in the cache: make vmimage")
	}
	v := newStore(t).serveContainerd()
	c := v.containerd(newest, containerdOptions{})
	archive, ref := ociArchive(t, "base")
	c.load(archive)
	cl := c.client()
	cl.leased(func(ctx context.Context) {
		parent := ociidentity.ChainID(cl.image(ctx, ref).config.RootFS.DiffIDs).String()
		mounts, err := cl.snapshots.Prepare(ctx, "guest", parent)
		require.NoError(t, err)
		require.Len(t, mounts, 1)
		require.Equal(t, "ext4", mounts[0].Type)
		require.Equal(t, "/dev/mapper", filepath.Dir(mounts[0].Source))

		g := boot(t, mounts[0], `cat /etc/debian_version; echo synced >/root/a; rm /etc/motd; sync; touch /share/written
			until [ -e /share/go ]; do sleep 0.1; done; echo later >/root/b`)
		g.waits("written")
		device, err := filepath.EvalSymlinks(mounts[0].Source)
		require.NoError(t, err)
		require.Equal(t, device, v.store.device(v.named("guest")))
		running := c.layer("guest")
		require.Contains(t, running, "root/a")
		require.Contains(t, running, "etc/.wh.motd")
		require.NotContains(t, running, "root/b")
		require.True(t, errdefs.IsFailedPrecondition(cl.snapshots.Commit(ctx, "committed", "guest")))
		again, err := cl.snapshots.Mounts(ctx, "guest")
		require.NoError(t, err)
		require.Equal(t, mounts, again)
		usage, err := cl.snapshots.Usage(ctx, "guest")
		require.NoError(t, err)
		require.Positive(t, usage.Size)
		require.Regexp(t, `^12\.\d+\n$`, g.goOn("go"))

		ended := c.layer("guest")
		require.Equal(t, []string{".", "etc", "etc/.wh.motd", "root", "root/a", "root/b"}, slices.Sorted(maps.Keys(ended)))
		require.NoError(t, cl.snapshots.Commit(ctx, "committed", "guest"))
		require.NoError(t, cl.snapshots.Remove(ctx, "committed"))
	})
	c.ctr("image", "rm", "--sync", ref)
	v.mustHave(c)
	v.mustBeEmpty()
}

// device is where a container's block device is, as blockstore shows it.
func (s *store) device(container string) string {
	s.t.Helper()
	var found []struct{ Container struct{ Device string } }
	s.json(&found, "inspect", container)
	require.Len(s.t, found, 1)
	return found[0].Container.Device
}

// named is a snapshot's name in the store.
func (v *server) named(key string) string {
	v.t.Helper()
	for _, i := range v.list() {
		if bare(i.Name) == key {
			return "containerd/" + proxied + "/" + i.Name
		}
	}
	require.Fail(v.t, "no snapshot "+key)
	return ""
}
