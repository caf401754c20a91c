package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot/layertar/treetest"
)

// realImage is the directory of the real three-layer image, made if need be.
func realImage(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("BLOCKSTORE_REALIMAGE"); dir != "" {
		return dir
	}
	cmd := exec.Command("../vagrant/realimage/make")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	require.NoError(t, err)
	return strings.TrimSpace(string(out))
}

// unpackedByUmoci is the reference: the tree that umoci makes of the image.
func unpackedByUmoci(t *testing.T, image, tag string) string {
	t.Helper()
	bundle := filepath.Join(scratch(t), "bundle")
	command(t, "umoci", "unpack", "--keep-dirlinks", "--image", filepath.Join(image, "oci")+":"+tag, bundle)
	return filepath.Join(bundle, "rootfs")
}

// memoryLimit is what a load may have resident, whatever the image's size.
const memoryLimit = 200 << 20

// resident runs a command that must succeed, and returns what it had resident
// at most, in bytes. time(1) starts it: the kernel counts what a process had
// before execve(2) as its own (exec_mmap), and a child of ours has what we have.
func (s *store) resident(args ...string) int64 {
	s.t.Helper()
	out := filepath.Join(scratch(s.t), "resident")
	command(s.t, "time", append([]string{"-f", "%M", "-o", out, s.bin, "--root", s.root}, args...)...)
	text, err := os.ReadFile(out)
	require.NoError(s.t, err)
	kib, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	require.NoError(s.t, err)
	return kib << 10
}

// identity is what must survive a save and a load elsewhere.
type identity struct {
	ID      string
	DiffIDs []string
}

func (s *store) identity(ref string) identity {
	s.t.Helper()
	var found []struct {
		Image struct {
			ID     string
			Layers []struct{ DiffID string }
		}
	}
	s.json(&found, "inspect", ref)
	require.Len(s.t, found, 1)
	id := identity{ID: found[0].Image.ID}
	require.NotEmpty(s.t, id.ID)
	for _, l := range found[0].Image.Layers {
		id.DiffIDs = append(id.DiffIDs, l.DiffID)
	}
	return id
}

// TestRealImage loads the three-layer image: the tree is the one that umoci
// unpacks, memory stays bounded, and what is saved loads elsewhere as the same
// image with the same tree.
func TestRealImage(t *testing.T) {
	image := realImage(t)
	s := newStore(t)
	most := s.resident("load", "-i", filepath.Join(image, "postgres.docker.tar"))
	t.Logf("load from a docker archive: %d MiB resident at most", most>>20)
	require.Less(t, most, int64(memoryLimit))
	const ref = "real/postgres:latest"
	first := s.identity(ref)
	require.Len(t, first.DiffIDs, 3)

	reference := unpackedByUmoci(t, image, "postgres")
	s.run("create", "--name", "c1", ref)
	treetest.Equal(t, reference, s.run("mount", "c1"))
	require.Empty(t, s.run("diff", "c1"))
	s.run("umount", "c1")

	saved := filepath.Join(scratch(t), "saved.tar")
	require.Less(t, s.resident("save", "-o", saved, ref), int64(memoryLimit))
	require.Contains(t, command(t, "skopeo", "inspect", "--config", "docker-archive:"+saved), first.DiffIDs[2])
	oci := filepath.Join(scratch(t), "oci.tar")
	s.run("save", "--format", "oci", "--compression", "zstd", "-o", oci, ref)
	s.run("rm", "c1")
	s.run("rmi", ref)
	require.Equal(t, "[]", strings.TrimSpace(s.run("images", "--json")))

	elsewhere := newStore(t)
	elsewhere.run("load", "-i", saved)
	require.Equal(t, first, elsewhere.identity(ref))
	elsewhere.run("create", "--name", "c2", ref)
	treetest.Equal(t, reference, elsewhere.run("mount", "c2"))
	elsewhere.run("rm", "-f", "c2")

	// The same layers out of another form are known and not unpacked again.
	data, _ := elsewhere.used()
	elsewhere.run("load", "-i", oci)
	again, _ := elsewhere.used()
	require.InDelta(t, data, again, 1<<20)
	require.Equal(t, first, elsewhere.identity(ref))
}

// TestLoadFromStandardInput: the archive comes through a pipe, compressed.
func TestLoadFromStandardInput(t *testing.T) {
	dir := scratch(t)
	path := archive{layers: [][]byte{newLayer(t).file("a", "from a pipe").bytes()}}.write(t, dir)
	command(t, "gzip", path)
	s := newStore(t)
	in, err := os.Open(path + ".gz")
	require.NoError(t, err)
	defer in.Close()
	cmd := exec.Command(s.bin, "--root", s.root, "load", "-i", "-")
	cmd.Stdin = in
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	s.run("create", "--name", "c", "test:latest")
	content, err := os.ReadFile(filepath.Join(s.run("mount", "c"), "a"))
	require.NoError(t, err)
	require.Equal(t, "from a pipe", string(content))
	s.run("umount", "c")
}

// TestStaticBinary: one file, no interpreter, no C library.
func TestStaticBinary(t *testing.T) {
	out, err := exec.Command("go", "version", "-m", binary(t)).CombinedOutput()
	if err != nil && os.Getenv("BLOCKSTORE_MACHINE") != "" {
		t.Skip("no go command in the test machine")
	}
	require.NoError(t, err, string(out))
	require.Contains(t, string(out), "CGO_ENABLED=0")
	file, _ := exec.Command("ldd", binary(t)).CombinedOutput()
	require.Contains(t, string(file), "not a dynamic executable")
}
