package layertar_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
	"github.com/vbatts/tar-split/tar/asm"
	"github.com/vbatts/tar-split/tar/storage"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot/layertar"
	"blockstore.dev/blockstore/snapshot/layertar/treetest"
)

// zooTree holds what tars write in different ways.
func zooTree(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	mustApply(t, root, tarOf(t,
		dir("d", 0o755), file("d/empty", ""), file("d/small", "small"), file("d/block", strings.Repeat("b", 512)),
		file("d/big", strings.Repeat("0123456789abcdef", 40000)), symlink("d/s", "small"), hardlink("d/l", "d/small"),
		file("d/"+strings.Repeat("long", 40), "long name"), file(strings.Repeat("deep/", 30)+"f", "long path"),
		symlink("d/longlink", strings.Repeat("t", 150)), file("d/\xff\xfebinary", "not UTF-8"), file("d/ümlaut", "UTF-8"),
		with(file("d/x", "x"), xattrs("user.x", "\x00binary\xff")),
		entry{Header: tar.Header{Typeflag: tar.TypeFifo, Name: "d/fifo", Mode: 0o600, ModTime: epoch}},
	))
	for name, ranges := range map[string][]int64{
		"d/sparse": {1 << 20, 3 << 20}, "d/holes": {0, 64 << 10, 256 << 10, 512 << 10, 768 << 10, 1 << 20, 2 << 20}, "d/allhole": nil,
	} {
		f, err := os.Create(filepath.Join(root, name))
		require.NoError(t, err)
		for _, off := range ranges {
			_, err = f.WriteAt([]byte("data at "+fmt.Sprint(off)), off)
			require.NoError(t, err)
		}
		require.NoError(t, f.Truncate(4<<20))
		require.NoError(t, f.Close())
	}
	return root
}

// TestAssembleZoo: whatever wrote the tar, it comes back byte for byte.
func TestAssembleZoo(t *testing.T) {
	requireRoot(t)
	src := zooTree(t)
	tools := [][]string{
		{"tar", "--format=gnu", "-c"},
		{"tar", "--format=gnu", "-S", "-c"},
		{"tar", "--format=oldgnu", "-S", "-c"},
		{"tar", "--format=pax", "-c", "--xattrs", "--xattrs-include=*"},
		{"tar", "--format=pax", "-S", "--sparse-version=0.0", "-c"},
		{"tar", "--format=pax", "-S", "--sparse-version=0.1", "-c"},
		{"tar", "--format=pax", "-S", "--sparse-version=1.0", "-c"},
		{"tar", "--format=pax", "-S", "-c", "-b", "2048"},
		{"tar", "--format=ustar", "-c", "--exclude=*longlonglong*", "--exclude=longlink", "--exclude=deep"},
		{"tar", "--format=v7", "-c", "--exclude=*longlonglong*", "--exclude=longlink", "--exclude=deep", "--exclude=fifo"},
		{"bsdtar", "--format=pax", "--exclude=*binary", "-c"},
		{"bsdtar", "--format=gnutar", "--exclude=*binary", "-c"},
	}
	for _, tool := range tools {
		t.Run(strings.Join(tool, " "), func(t *testing.T) {
			if _, err := exec.LookPath(tool[0]); err != nil {
				t.Skipf("no %s here", tool[0])
			}
			cmd := exec.Command(tool[0], append(tool[1:], "-f", "-", ".")...)
			cmd.Dir, cmd.Stderr = src, os.Stderr
			layer, err := cmd.Output()
			require.NoError(t, err)
			want := src
			if !strings.Contains(strings.Join(tool, " "), "--format=pax -c --xattrs") {
				// What the format left out is missing in what the tool itself unpacks, too.
				want = t.TempDir()
				cmd = exec.Command(tool[0], "-x", "-p", "-f", "-", "-C", want)
				cmd.Stdin = bytes.NewReader(layer)
				out, err := cmd.CombinedOutput()
				require.NoError(t, err, string(out))
			}
			checkAssembles(t, layer, want)
		})
	}
	t.Run("layertar", func(t *testing.T) {
		var layer bytes.Buffer
		_, err := layertar.Diff(context.Background(), "", src, &layer, layertar.DiffOptions{})
		require.NoError(t, err)
		checkAssembles(t, layer.Bytes(), src)
	})
}

func checkAssembles(t *testing.T, layer []byte, want string) {
	t.Helper()
	ctx := context.Background()
	root := t.TempDir()
	var split, back bytes.Buffer
	applied, err := layertar.Apply(ctx, root, bytes.NewReader(layer), layertar.ApplyOptions{Split: &split})
	require.NoError(t, err)
	require.Equal(t, fmt.Sprintf("sha256:%x", sha256.Sum256(layer)), applied.DiffID.String())
	// bsdtar does not give the directory it unpacks into its time.
	run(t, "touch", "-r", root, want)
	treetest.Equal(t, want, root)
	data := bytes.Clone(split.Bytes())
	require.NoError(t, layertar.Assemble(ctx, root, &split, &back))
	require.True(t, bytes.Equal(layer, back.Bytes()), "the assembled tar differs")

	// Any other reader of the format gets the same.
	zr, err := zstd.NewReader(bytes.NewReader(data))
	require.NoError(t, err)
	defer zr.Close()
	back.Reset()
	require.NoError(t, asm.WriteOutputTarStream(storage.NewPathFileGetter(root), storage.NewJSONUnpacker(zr), &back))
	require.True(t, bytes.Equal(layer, back.Bytes()), "tar-split assembles something else")
}

func TestAssembleFindsChanges(t *testing.T) {
	ctx := context.Background()
	layer := tarOf(t, file("d/a", "content"), file("b", "more"))
	for name, damage := range map[string]func(root string) error{
		"missing":   func(root string) error { return os.Remove(filepath.Join(root, "d/a")) },
		"no parent": func(root string) error { return os.RemoveAll(filepath.Join(root, "d")) },
		"shorter":   func(root string) error { return os.Truncate(filepath.Join(root, "b"), 2) },
		"other":     func(root string) error { return os.WriteFile(filepath.Join(root, "b"), []byte("nore"), 0o600) },
		"a fifo": func(root string) error {
			return errors.Join(os.Remove(filepath.Join(root, "b")), unix.Mkfifo(filepath.Join(root, "b"), 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			var split bytes.Buffer
			_, err := layertar.Apply(ctx, root, bytes.NewReader(layer), layertar.ApplyOptions{Split: &split})
			require.NoError(t, err)
			require.NoError(t, damage(root))
			require.ErrorIs(t, layertar.Assemble(ctx, root, &split, io.Discard), layertar.ErrChanged)
		})
	}
	require.Error(t, layertar.Assemble(ctx, t.TempDir(), strings.NewReader("no split data"), io.Discard))
}

// TestAgainstUmoci unpacks a real image with umoci and compares. The image is made from this
// machine's own directories, in three layers with deletions.
func TestAgainstUmoci(t *testing.T) {
	requireRoot(t)
	if _, err := exec.LookPath("umoci"); err != nil {
		t.Skip("no umoci here")
	}
	work := t.TempDir()
	oci, bundle := filepath.Join(work, "oci"), filepath.Join(work, "bundle")
	umoci := func(args ...string) { run(t, "umoci", args...) }
	umoci("init", "--layout", oci)
	umoci("new", "--image", oci+":t")
	umoci("unpack", "--image", oci+":t", bundle)
	root := filepath.Join(bundle, "rootfs")
	steps := []func(){
		func() {
			run(t, "cp", "-a", zooTree(t)+"/.", root)
			run(t, "mkdir", "-p", root+"/usr/share", root+"/etc")
			run(t, "cp", "-a", "/usr/share/perl5", root+"/usr/share/perl5")
			run(t, "cp", "-a", "/etc/alternatives", "/etc/passwd", root+"/etc")
		},
		func() {
			run(t, "rm", "-r", root+"/usr/share/perl5/Debconf", root+"/d/s", root+"/etc/passwd")
			run(t, "chown", "70000:80000", root+"/d/big")
			run(t, "ln", root+"/d/small", root+"/etc/linked")
			run(t, "mknod", root+"/etc/null", "c", "1", "3")
		},
		func() {
			run(t, "rm", "-r", root+"/d", root+"/etc/alternatives")
			run(t, "mkdir", "-m", "2711", root+"/d")
			require.NoError(t, os.WriteFile(root+"/d/new", []byte("x"), 0o4755))
		},
	}
	for _, step := range steps {
		step()
		umoci("repack", "--refresh-bundle", "--image", oci+":t", bundle)
	}
	compareWithUmoci(t, oci, "t")
}

// TestRealImage compares with umoci on a whole distribution's image, made before by the
// project's test world.
func TestRealImage(t *testing.T) {
	requireRoot(t)
	layout := os.Getenv("BLOCKSTORE_TEST_OCI")
	if layout == "" {
		t.Skip("no real image: set BLOCKSTORE_TEST_OCI=LAYOUT:TAG, TAG being the layout's last image")
	}
	oci, tag, _ := strings.Cut(layout, ":")
	compareWithUmoci(t, oci, tag)
}

// compareWithUmoci unpacks all layers and wants umoci's tree; on the way each layer is
// assembled again, and the difference that it made is written and applied to a copy of what
// was below.
func compareWithUmoci(t *testing.T, oci, tag string) {
	t.Helper()
	ctx := context.Background()
	work := t.TempDir()
	flat, mine := filepath.Join(work, "flat"), filepath.Join(work, "mine")
	run(t, "umoci", "unpack", "--image", oci+":"+tag, flat)
	require.NoError(t, os.Mkdir(mine, 0o755))
	for i, layer := range ociLayers(t, oci) {
		below := filepath.Join(work, fmt.Sprint("below", i))
		run(t, "cp", "-a", mine, below)
		var split, diff bytes.Buffer
		applied, err := layertar.Apply(ctx, mine, bytes.NewReader(layer), layertar.ApplyOptions{Split: &split})
		require.NoError(t, err)
		sum := sha256.New()
		require.NoError(t, layertar.Assemble(ctx, mine, &split, sum))
		require.Equal(t, applied.DiffID.Encoded(), fmt.Sprintf("%x", sum.Sum(nil)))
		_, err = layertar.Diff(ctx, below, mine, &diff, layertar.DiffOptions{})
		require.NoError(t, err)
		mustApply(t, below, diff.Bytes())
		treetest.Equal(t, mine, below)
		require.NoError(t, os.RemoveAll(below))
	}
	treetest.Equal(t, filepath.Join(flat, "rootfs"), mine)
}
