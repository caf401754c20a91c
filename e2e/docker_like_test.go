package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// smallArchive is the real image's second stage, Debian with Python, as a docker
// archive: two layers, 220 MB.
func smallArchive(t *testing.T) (file, ref string) {
	t.Helper()
	file, ref = filepath.Join(scratch(t), "python.tar"), "real/python:latest"
	command(t, "skopeo", "copy", "--quiet", "--insecure-policy",
		"oci:"+filepath.Join(realImage(t), "oci")+":python", "docker-archive:"+file+":"+ref)
	return file, ref
}

// newScript is a script on a dockerd with that storage driver.
func newScript(t *testing.T, d *dockerd, ref string) *script {
	t.Helper()
	return &script{t: t, d: d, ref: ref, dir: scratch(t)}
}

// TestDockerComparer: two of Docker's own drivers, one of them without overlay's
// ways, are the same to the script. So what it compares is what a driver has to do,
// and it finds no differences where there are none.
func TestDockerComparer(t *testing.T) {
	if testing.Short() {
		t.Skip("half a minute: two dockerds go through a long script")
	}
	if os.Getenv("BLOCKSTORE_UML") != "" {
		t.Skip("no time for vfs where system calls are slow: the comparer is the same on the machine's own kernel")
	}
	archive, ref := smallArchive(t)
	overlay := newScript(t, newDockerd(t, scratch(t), "overlay2"), ref)
	overlay.overlay = true
	overlay.run(archive)
	vfs := newScript(t, newDockerd(t, reflinks(t), "vfs"), ref)
	vfs.run(archive)
	overlay.seen.mustEqual(t, &vfs.seen, "overlay2", "vfs")
	require.NotEmpty(t, overlay.seen.names)
	overlay.clear()
	vfs.clear()
}

// reflinks is a directory on a file system in which vfs's copies cost no data: btrfs
// on a loop device.
func reflinks(t *testing.T) string {
	t.Helper()
	dir := scratch(t)
	file, at := filepath.Join(dir, "disk"), filepath.Join(dir, "m")
	require.NoError(t, os.Mkdir(at, 0o700))
	command(t, "truncate", "-s", "8G", file)
	command(t, "mkfs.btrfs", "-q", file)
	command(t, "mount", "-o", "loop,nobarrier", file, at)
	t.Cleanup(func() { command(t, "umount", at) })
	own := filepath.Join(at, "d")
	require.NoError(t, os.Mkdir(own, 0o700))
	return own
}

// TestDockerLikeOverlay2: what people do with docker gives on our store what it gives
// on overlay2, and leaves nothing behind.
func TestDockerLikeOverlay2(t *testing.T) {
	if testing.Short() {
		t.Skip("a minute: two dockerds go through a long script")
	}
	archive, ref := smallArchive(t)
	v := newStore(t).serve()
	theirs := newScript(t, newDockerd(t, scratch(t), "overlay2"), ref)
	theirs.links, theirs.overlay = true, true
	theirs.run(archive)
	ours := newScript(t, v.dockerd(), ref)
	ours.links = true
	ours.run(archive)
	theirs.seen.mustEqual(t, &ours.seen, "overlay2", "blockstore")
	v.mustAgree(ours.d)
	ours.beyond()
	ours.exchange(theirs)
	theirs.exchange(ours)
	ours.clear()
	v.mustBeEmpty()
	theirs.clear()
}
