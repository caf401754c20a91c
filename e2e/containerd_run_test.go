package e2e

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot/layertar/treetest"
)

// ociArchive is a stage of the real image as an OCI layout in a tar, and the name that
// it has when it is imported.
func ociArchive(t *testing.T, tag string) (file, ref string) {
	t.Helper()
	return filepath.Join(realImage(t), tag+".oci.tar"), base + ":" + tag
}

// readLayer is the tree in a layer of that media type, and the digest of its tar.
func readLayer(t *testing.T, mediaType string, in io.Reader) (tree, digest.Digest) {
	t.Helper()
	switch {
	case strings.HasSuffix(mediaType, "gzip"):
		unpacked, err := gzip.NewReader(in)
		require.NoError(t, err)
		in = unpacked
	case strings.HasSuffix(mediaType, "zstd"):
		unpacked, err := zstd.NewReader(in)
		require.NoError(t, err)
		defer unpacked.Close()
		in = unpacked
	}
	sum := digest.Canonical.Digester()
	in = io.TeeReader(in, sum.Hash())
	found, err := treeOfTar(in)
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, in)
	require.NoError(t, err)
	return found, sum.Digest()
}

// chores is what people do with images and containers of containerd, and what they see.
type chores struct {
	c     *containerd
	ref   string
	dir   string // for archives
	begun time.Time
	seen  record
	ids   []string // the layers of what was exported
}

func newChores(c *containerd, ref string) *chores {
	return &chores{c: c, ref: ref, dir: scratch(c.t)}
}

func (s *chores) run(archive string) {
	s.begun = time.Now()
	for _, step := range []struct {
		name string
		do   func()
	}{
		{"import", func() { s.load(archive) }},
		{"seed", s.seed},
		{"change", s.change},
		{"export", s.export},
	} {
		began := time.Now()
		step.do()
		s.c.t.Logf("%s: %.1f s", step.name, time.Since(began).Seconds())
	}
}

func (s *chores) load(archive string) {
	s.c.load(archive)
	s.seen.add("images", s.c.names("image", "ls", "-q")...)
	s.c.client().collect() // what an import leaves of the archive's own index goes at some time
	s.seen.add("content", sorted(s.c.client().blobs())...)
	s.seen.add("snapshots", s.committed()...)
	s.c.idle("pristine", s.ref)
	s.seen.add("tree of the image", s.c.treeOf("pristine").lines(s.begun)...)
	s.seen.add("layer of a container in which nothing happened", s.layer("pristine")...)
	s.c.remove("pristine")
}

// committed are the names of layers and their parents'.
func (s *chores) committed() []string {
	var found []string
	for _, i := range s.c.client().list() {
		found = append(found, i.Kind.String()+" "+i.Name+" on "+i.Parent)
	}
	return sorted(found)
}

// layer is a container's layer as it is compared.
func (s *chores) layer(container string) []string {
	return s.c.layer(container).contents().inSeconds().lines(s.begun)
}

func (s *chores) python(container, program string, args ...string) string {
	s.c.t.Helper()
	return s.c.exec(container, append([]string{"python3", "-B", "-c", program}, args...)...)
}

// seed makes an image with files of every kind.
func (s *chores) seed() {
	s.c.idle("seed", s.ref)
	s.seen.add("seed.py", s.python("seed", seedScript))
	s.seen.add("tree with every kind of file", s.c.treeOf("seed", "files", "etc").lines(s.begun)...)
	s.seen.add("layer with every kind of file", s.layer("seed")...)
	s.c.commit("seed", s.ref, "test/seeded:1")
	s.c.remove("seed")
}

// change changes them in a container above. Its program ends and is started again.
func (s *chores) change() {
	s.c.idle("changed", "test/seeded:1")
	s.seen.add("tree of a commit's container", s.c.treeOf("changed", "files").inSeconds().lines(s.begun)...)
	s.seen.add("change.py", s.python("changed", changeScript, "link"))
	s.seen.add("changed tree", s.c.treeOf("changed").inSeconds().lines(s.begun)...)
	s.seen.add("changed layer", s.layer("changed")...)
	s.c.kill9("changed")
	s.c.again("changed")
	s.seen.add("changed tree, started again", s.c.treeOf("changed", "files").inSeconds().lines(s.begun)...)
	s.c.commit("changed", "test/seeded:1", changedImage)
	s.c.idle("again", changedImage)
	s.seen.add("tree of the commit", s.c.treeOf("again").inSeconds().lines(s.begun)...)
	s.seen.add(changedFiles, s.c.treeOf("again", "files", "etc").inSeconds().lines(s.begun)...)
	s.c.remove("again", "changed")
}

// changedImage is the image that the chores leave behind; changedFiles the record of what
// is in it.
const (
	changedImage = "test/changed:1"
	changedFiles = "what the commit has in /files and /etc"
)

func (s *chores) exported() string { return filepath.Join(s.dir, "exported.tar") }

// export writes the image into an archive. Every layer in it has the digest that its
// config says.
func (s *chores) export() {
	s.c.t.Helper()
	var layers []tree
	layers, s.ids = s.c.client().layers(changedImage)
	s.seen.add("layers of the commit", fmt.Sprint(len(layers)))
	for i, l := range layers {
		s.seen.add(fmt.Sprintf("layer %d of the commit", i), l.contents().inSeconds().lines(s.begun)...)
	}
	for range 5 {
		s.c.ctr("image", "export", s.exported(), changedImage)
		if endsWhole(s.c.t, s.exported()) {
			return
		}
		s.c.t.Log("ctr left an archive without an end: once more")
	}
	require.Fail(s.c.t, "ctr does not export all of the image")
}

// endsWhole says whether a tar has its end, two blocks of zeros.
func endsWhole(t *testing.T, file string) bool {
	t.Helper()
	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	require.NoError(t, err)
	end := make([]byte, 1024)
	_, err = f.ReadAt(end, max(0, size-int64(len(end))))
	return err == nil && size%512 == 0 && bytes.Count(end, []byte{0}) == len(end)
}

// exchange imports what another has exported: the same layers, the same files.
func (s *chores) exchange(other *chores) {
	s.c.t.Helper()
	s.c.ctr("image", "rm", "--sync", changedImage)
	s.c.ctr("image", "import", other.exported())
	_, got := s.c.client().layers(changedImage)
	require.Equal(s.c.t, other.ids, got)
	s.c.idle("exchanged", changedImage)
	var found record
	found.add(changedFiles, s.c.treeOf("exchanged", "files", "etc").inSeconds().lines(other.begun)...)
	require.Empty(s.c.t, other.seen.difference(&found, changedFiles))
	s.c.remove("exchanged")
}

// clear removes everything, and has it collected.
func (s *chores) clear() {
	s.c.t.Helper()
	s.c.ctr(append([]string{"image", "rm", "--sync"}, s.c.names("image", "ls", "-q")...)...)
	require.Empty(s.c.t, s.c.client().list())
	s.c.client().expire()
	require.Empty(s.c.t, s.c.client().blobs())
}

// usage is what containerd is told that a snapshot has of its own.
func (c *containerd) usage(key string) (size, inodes int64) {
	c.t.Helper()
	for _, line := range lines(c.ctr("snapshot", "usage", "-b", key)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == key {
			size, err := strconv.ParseInt(f[1], 10, 64)
			require.NoError(c.t, err)
			inodes, err := strconv.ParseInt(f[2], 10, 64)
			require.NoError(c.t, err)
			return size, inodes
		}
	}
	require.Fail(c.t, "no usage of "+key)
	return 0, 0
}

// testContainerdRun: what people do with containerd gives on our store what it gives on
// overlayfs, and leaves nothing behind.
func testContainerdRun(t *testing.T, version string) {
	if testing.Short() {
		t.Skip("half a minute: two containerds unpack an image and compare trees")
	}
	archive, ref := ociArchive(t, "python")
	theirs := newChores(newContainerd(t, version, containerdOptions{}), ref)
	theirs.run(archive)
	v := newStore(t).serveContainerd()
	ours := newChores(v.containerd(version, containerdOptions{strict: true}), ref)
	ours.run(archive)
	theirs.seen.mustEqual(t, &ours.seen, "overlayfs", "blockstore")
	v.mustHave(ours.c)
	ours.exchange(theirs)
	theirs.exchange(ours)
	ours.reference(v)
	ours.clear()
	v.mustBeEmpty()
	theirs.clear()
}

func TestContainerdRunDebian12(t *testing.T) { testContainerdRun(t, debian12) }
func TestContainerdRunDebian13(t *testing.T) { testContainerdRun(t, debian13) }
func TestContainerdRunNewest(t *testing.T)   { testContainerdRun(t, newest) }

// reference: a container has the very tree that umoci unpacks, and its usage is what it
// has written. containerd's own differ gives directories in which it removes something
// the time of that.
func (s *chores) reference(v *server) {
	t := s.c.t
	s.c.idle("box", s.ref)
	want := treeBelow(t, unpackedByUmoci(t, realImage(t), "python"), []string{"proc", "sys", "dev", "run"})
	got := s.c.treeOf("box")
	if s.c.hasDiffer() {
		require.Empty(t, treetest.DifferenceOf(want, got))
	} else {
		require.Equal(t, want.lines(s.begun), got.lines(s.begun))
	}
	const wrote = 8 << 20
	empty, _ := s.c.usage("box")
	require.Less(t, empty, int64(wrote))
	s.c.exec("box", "sh", "-c", fmt.Sprintf("head -c %d /dev/urandom >/file && sync", wrote))
	size, _ := s.c.usage("box")
	require.GreaterOrEqual(t, size-empty, int64(wrote))
	require.Less(t, size-empty, int64(2*wrote))
	s.c.remove("box")
	v.mustHave(s.c)
}
