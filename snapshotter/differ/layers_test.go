package differ_test

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/pkg/archive"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot/layertar/treetest"
)

func then(seconds int64) time.Time { return time.Unix(1_600_000_000+seconds, 0) }

// lowerTar and upperTar are two layers with everything that layers have.
func lowerTar(t *testing.T) []byte {
	return tarOf(t, []tar.Header{
		{Typeflag: tar.TypeDir, Name: "./", Mode: 0o755, ModTime: then(1)},
		{Typeflag: tar.TypeDir, Name: "etc/", Mode: 0o755, ModTime: then(2)},
		{Typeflag: tar.TypeReg, Name: "etc/passwd", Mode: 0o644, Size: 1000, ModTime: then(3)},
		{Typeflag: tar.TypeReg, Name: "etc/shadow", Mode: 0o640, Gid: 42, Size: 10, ModTime: then(4)},
		{Typeflag: tar.TypeDir, Name: "old/", Mode: 0o700, Uid: 7, ModTime: then(5)},
		{Typeflag: tar.TypeReg, Name: "old/a", Mode: 0o644, ModTime: then(6)},
		{Typeflag: tar.TypeReg, Name: "old/b", Mode: 0o644, Size: 5, ModTime: then(7)},
		{Typeflag: tar.TypeDir, Name: "usr/", Mode: 0o755, ModTime: then(8)},
		{Typeflag: tar.TypeReg, Name: "usr/tool", Mode: 0o4755, Size: 300_000, ModTime: then(9)},
		{Typeflag: tar.TypeLink, Name: "usr/same", Linkname: "usr/tool", Mode: 0o4755, ModTime: then(9)},
		{Typeflag: tar.TypeSymlink, Name: "bin", Linkname: "usr", Mode: 0o777, ModTime: then(10)},
		{Typeflag: tar.TypeFifo, Name: "fifo", Mode: 0o600, ModTime: then(11)},
		{Typeflag: tar.TypeChar, Name: "null", Mode: 0o666, Devmajor: 1, Devminor: 3, ModTime: then(12)},
	})
}

func upperTar(t *testing.T) []byte {
	return tarOf(t, []tar.Header{
		{Typeflag: tar.TypeDir, Name: "etc/", Mode: 0o755, ModTime: then(20)},
		{Typeflag: tar.TypeReg, Name: "etc/.wh.shadow", ModTime: time.Unix(0, 0)},
		{Typeflag: tar.TypeDir, Name: "old/", Mode: 0o711, ModTime: then(21)},
		{Typeflag: tar.TypeReg, Name: "old/.wh..wh..opq", ModTime: time.Unix(0, 0)},
		{Typeflag: tar.TypeReg, Name: "old/c", Mode: 0o644, Size: 7, ModTime: then(22)},
		{Typeflag: tar.TypeReg, Name: "bin/new", Mode: 0o755, Size: 100, ModTime: then(23), PAXRecords: map[string]string{
			"SCHILY.xattr.user.mime": "text/plain",
		}},
		{Typeflag: tar.TypeDir, Name: "usr/", Mode: 0o755, ModTime: then(24)},
	})
}

func tarOf(t *testing.T, entries []tar.Header) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for i, h := range entries {
		h.Format = tar.FormatPAX
		require.NoError(t, w.WriteHeader(&h))
		if h.Typeflag == tar.TypeReg {
			_, err := w.Write(bytes.Repeat([]byte{byte('a' + i)}, int(h.Size)))
			require.NoError(t, err)
		}
	}
	require.NoError(t, w.Close())
	return out.Bytes()
}

// packings are the media types of layers, with what makes and reads their blobs.
var packings = map[string]struct {
	pack   func(*testing.T, []byte) []byte
	unpack func(*testing.T, []byte) []byte
}{
	ocispec.MediaTypeImageLayer:     {same, same},
	ocispec.MediaTypeImageLayerGzip: {gzipped, gunzipped},
	ocispec.MediaTypeImageLayerZstd: {zstded, unzstded},
}

func same(_ *testing.T, b []byte) []byte { return b }

func gzipped(t *testing.T, b []byte) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, err := z.Write(b)
	require.NoError(t, err)
	require.NoError(t, z.Close())
	return out.Bytes()
}

func gunzipped(t *testing.T, b []byte) []byte {
	z, err := gzip.NewReader(bytes.NewReader(b))
	require.NoError(t, err)
	out, err := io.ReadAll(z)
	require.NoError(t, err)
	return out
}

func zstded(t *testing.T, b []byte) []byte {
	z, err := zstd.NewWriter(nil)
	require.NoError(t, err)
	return z.EncodeAll(b, nil)
}

func unzstded(t *testing.T, b []byte) []byte {
	z, err := zstd.NewReader(nil)
	require.NoError(t, err)
	defer z.Close()
	out, err := z.DecodeAll(b, nil)
	require.NoError(t, err)
	return out
}

// theirs unpacks layers with containerd's own code.
func theirs(t *testing.T, layers ...[]byte) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o755))
	for _, l := range layers {
		_, err := archive.Apply(t.Context(), dir, bytes.NewReader(l))
		require.NoError(t, err)
	}
	return dir
}

// change does to a tree what containers do.
func change(t *testing.T, dir string) {
	t.Helper()
	at := func(name string) string { return filepath.Join(dir, name) }
	require.NoError(t, os.WriteFile(at("etc/passwd"), []byte("shorter"), 0o644))
	require.NoError(t, os.WriteFile(at("etc/new"), bytes.Repeat([]byte("new "), 100_000), 0o600))
	require.NoError(t, os.Remove(at("etc/shadow")))
	require.NoError(t, os.RemoveAll(at("old")))
	require.NoError(t, os.WriteFile(at("old"), []byte("a file now"), 0o644))
	require.NoError(t, os.Link(at("usr/tool"), at("usr/third")))
	require.NoError(t, os.Rename(at("usr"), at("usr2")))
	require.NoError(t, os.Symlink("usr2", at("usr")))
	require.NoError(t, os.MkdirAll(at("deep/er/and/deeper"), 0o755))
	require.NoError(t, unix.Setxattr(at("deep"), "user.note", []byte("hello"), 0))
	require.NoError(t, os.Chown(at("deep/er"), 1000, 1000))
	require.NoError(t, os.Chmod(at("deep/er/and"), 0o1777))
}

// sameTree compares what stands in two directories; of the directories themselves
// containerd never changes the time.
func sameTree(t *testing.T, want, got string) {
	t.Helper()
	a, err := treetest.Capture(want)
	require.NoError(t, err)
	b, err := treetest.Capture(got)
	require.NoError(t, err)
	root := a["."]
	root.MTime = b["."].MTime
	a["."] = root
	require.Empty(t, treetest.DifferenceOf(a, b))
}

// hugeTar says that a file of a terabyte follows.
func hugeTar(t *testing.T) []byte {
	var out bytes.Buffer
	require.NoError(t, tar.NewWriter(&out).WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "f", Size: 1 << 40}))
	return out.Bytes()
}
