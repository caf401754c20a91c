package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestDockerSize: a container gets no more than --storage-opt size gives it, and what
// it does not get is an error of its own, not dockerd's.
func TestDockerSize(t *testing.T) {
	archive, ref := smallArchive(t)
	v := newStore(t, "--base-size", "500M").serve()
	d := v.dockerd()
	d.docker("load", "-q", "-i", archive)
	fill := func(mib int, opts ...string) result {
		args := append([]string{"run", "--name", "box", "--net", "none"}, opts...)
		r := d.try(append(args, ref, "sh", "-c", filling("/fill", mib))...)
		d.docker("rm", "-f", "box")
		return r
	}
	// The image takes 120 MB of it.
	r := fill(100)
	require.Zero(t, r.code, r.stderr)
	r = fill(600)
	require.NotZero(t, r.code, "600 MiB fit into 500M")
	require.Regexp(t, "No space left on device|Disk quota exceeded", r.stderr)
	r = fill(600, "--storage-opt", "size=1G")
	require.Zero(t, r.code, r.stderr)
	r = fill(1000, "--storage-opt", "size=1G")
	require.NotZero(t, r.code, "1000 MiB fit into 1G beside the image")
	require.Regexp(t, "No space left on device|Disk quota exceeded", r.stderr)
	for _, opt := range []string{"size=10M", "size=much", "color=blue"} {
		r := d.try("create", "--storage-opt", opt, "--net", "none", ref)
		require.NotZero(t, r.code, opt)
		require.Regexp(t, "size|storage option", r.stderr)
	}
	r = fill(100)
	require.Zero(t, r.code, r.stderr)
	d.docker("rmi", ref)
	v.mustBeEmpty()
}

// open is a directory that every user can reach, as the root of a user namespace is
// none of the machine's. Tests' own directory may lie in one that is for root alone.
func open(t *testing.T) string {
	t.Helper()
	parent := os.Getenv("BSTEST_DIR")
	if parent == "" || !reachable(parent) {
		parent = "/var/tmp"
	}
	dir, err := os.MkdirTemp(parent, "bstest-e2e-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o711))
	return dir
}

func reachable(dir string) bool {
	for ; dir != "/" && dir != "."; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err != nil || info.Mode()&1 == 0 {
			return false
		}
	}
	return true
}

// subordinate lends nobody the ids from 200000 on: in /etc/subuid and /etc/subgid as they
// are seen until the test ends. The files themselves are not touched.
func subordinate(t *testing.T) (remap string) {
	t.Helper()
	dir := scratch(t)
	for _, name := range []string{"subuid", "subgid"} {
		etc, own := filepath.Join("/etc", name), filepath.Join(dir, name)
		if _, err := os.Stat(etc); err != nil {
			t.Skipf("no %s on this machine: Debian's package passwd makes it", etc)
		}
		require.NoError(t, os.WriteFile(own, []byte("nobody:200000:65536\nnogroup:200000:65536\n"), 0o644))
		require.NoError(t, unix.Mount(own, etc, "", unix.MS_BIND, ""))
		t.Cleanup(func() { require.NoError(t, unix.Unmount(etc, 0)) })
	}
	return "nobody:nogroup"
}

// TestDockerUserNamespace: containers run as users that the machine does not have. On
// the machine their files have those owners, inside they have their own, and so they
// do in what is committed and goes elsewhere.
func TestDockerUserNamespace(t *testing.T) {
	archive, ref := smallArchive(t)
	remap := subordinate(t)
	v := newStoreIn(t, open(t)).serve()
	d := newDockerd(t, open(t), v.driver, "--userns-remap", remap)
	d.docker("load", "-q", "-i", archive)
	d.docker("run", "-d", "--name", "box", "--net", "none", ref, "sleep", "infinity")
	const write = `cd /root && echo a >a && echo b >b && chown 33:44 b && ln b c && mkdir d && chown 65534:65534 d && rm /etc/motd`
	d.docker("exec", "box", "sh", "-c", write)
	owners := []string{"0:0 a", "33:44 b", "33:44 c", "65534:65534 d"}
	inside := func(container string) []string {
		return lines(d.docker("exec", "-w", "/root", container, "stat", "-c", "%u:%g %n", "a", "b", "c", "d"))
	}
	require.Equal(t, owners, inside("box"))
	tree := d.treeOf("box", "root", "etc")
	for name, want := range map[string][2]uint32{
		"root/a": {200000, 200000}, "root/b": {200033, 200044}, "root/c": {200033, 200044}, "root/d": {265534, 265534},
		"etc/passwd": {200000, 200000}, "etc/shadow": {200000, 200042},
	} {
		require.Equal(t, want, [2]uint32{tree[name].UID, tree[name].GID}, "%s on the machine", name)
	}
	require.Equal(t, []string{"A /root/a", "A /root/b", "A /root/c", "A /root/d", "C /etc", "C /root", "D /etc/motd"},
		sorted(lines(d.docker("diff", "box"))))

	d.docker("commit", "box", "test/mapped:1")
	d.docker("run", "-d", "--name", "again", "--net", "none", "test/mapped:1", "sleep", "infinity")
	require.Equal(t, owners, inside("again"))
	saved := filepath.Join(scratch(t), "saved.tar")
	d.docker("save", "-o", saved, "test/mapped:1")
	a := readArchive(t, saved)
	image := a.image("test/mapped:1")
	top := a.layers[image.layers[len(image.layers)-1]].tree
	require.EqualValues(t, 33, top["root/b"].UID)
	require.EqualValues(t, 65534, top["root/d"].GID)

	d.docker("rm", "-f", "box", "again")
	d.docker("rmi", "test/mapped:1", ref)
	v.mustBeEmpty()
}
