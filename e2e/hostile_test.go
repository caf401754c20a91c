package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
)

// zeros is a gzip stream that unpacks to a tar with one file of n zeros.
func zeros(t *testing.T, n int64) (packed []byte, id digest.Digest) {
	t.Helper()
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	sum := digest.Canonical.Digester()
	w := tar.NewWriter(io.MultiWriter(z, sum.Hash()))
	require.NoError(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "zeros", Mode: 0o644, Size: n}))
	block := make([]byte, 1<<20)
	for left := n; left > 0; left -= int64(len(block)) {
		_, err := w.Write(block[:min(int64(len(block)), left)])
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	require.NoError(t, z.Close())
	return buf.Bytes(), sum.Digest()
}

// TestHostileArchives: each is refused with one clear error and the right exit
// code, nothing is written outside, and the store is as it was.
func TestHostileArchives(t *testing.T) {
	s := newStore(t, "--base-size", "300M")
	dir := scratch(t)
	canary := filepath.Join(dir, "canary")
	require.NoError(t, os.WriteFile(canary, []byte("untouched"), 0o600))

	base := newLayer(t).file("etc/passwd", "root:x:0:0").bytes()
	// One that the store does not know yet: a known DiffID is not read again.
	other := newLayer(t).file("etc/group", "root:x:0:").bytes()
	flipped := bytes.Clone(other)
	flipped[600] ^= 1
	bomb, bombID := zeros(t, 400<<20)
	// A good image stays whole through all of it.
	s.run("load", "-i", archive{layers: [][]byte{base}, tag: "good:1"}.write(t, dir))

	cases := map[string]struct {
		archive archive
		args    []string
		code    int
		says    string
	}{
		"dotdot":                {archive{layers: [][]byte{newLayer(t).file("../../canary", "x").bytes()}}, nil, 1, "canary"},
		"dotdot inside":         {archive{layers: [][]byte{newLayer(t).file("a/../../canary", "x").bytes()}}, nil, 1, "canary"},
		"absolute hard link":    {archive{layers: [][]byte{newLayer(t).link(tar.TypeLink, "l", canary).bytes()}}, nil, 1, "l"},
		"escaping hard link":    {archive{layers: [][]byte{newLayer(t).link(tar.TypeLink, "l", "../../canary").bytes()}}, nil, 1, "l"},
		"escaping symlink":      {archive{layers: [][]byte{newLayer(t).link(tar.TypeSymlink, "a/l", "../../../canary").bytes()}}, nil, 1, "a/l"},
		"hard link to nothing":  {archive{layers: [][]byte{newLayer(t).link(tar.TypeLink, "l", "missing").bytes()}}, nil, 1, "missing"},
		"device not allowed":    {archive{layers: [][]byte{newLayer(t).add(tar.Header{Typeflag: tar.TypeBlock, Name: "dev/sda", Devmajor: 8}, "").bytes()}}, []string{"--no-devices"}, 1, "dev/sda"},
		"truncated archive":     {archive{layers: [][]byte{base}, cut: 3000}, nil, 1, ""},
		"truncated layer":       {archive{layers: [][]byte{other[:520]}, diffIDs: []digest.Digest{digest.FromBytes(other)}}, nil, 1, ""},
		"bit-flipped layer":     {archive{layers: [][]byte{flipped}, diffIDs: []digest.Digest{digest.FromBytes(other)}}, nil, 1, "digest"},
		"wrong digest":          {archive{layers: [][]byte{newLayer(t).file("x", "y").bytes()}, diffIDs: []digest.Digest{digest.FromString("else")}}, nil, 1, "digest"},
		"missing layer":         {archive{layers: [][]byte{newLayer(t).file("m", "m").bytes()}, omit: map[int]bool{0: true}}, nil, 1, "layera/layer.tar"},
		"second layer missing":  {archive{layers: [][]byte{newLayer(t).file("n", "n").bytes(), newLayer(t).file("o", "o").bytes()}, omit: map[int]bool{1: true}}, nil, 1, "layerb/layer.tar"},
		"bomb":                  {archive{layers: [][]byte{bomb}, diffIDs: []digest.Digest{bombID}}, nil, 5, "zeros"},
		"symlink loop":          {archive{layers: [][]byte{newLayer(t).link(tar.TypeSymlink, "a", "b").link(tar.TypeSymlink, "b", "a").file("a/x", "x").bytes()}}, nil, 1, "a/x"},
		"duplicate":             {archive{layers: [][]byte{newLayer(t).file("d", "1").file("d", "2").bytes()}}, nil, 1, "d"},
		"not an archive at all": {archive{layers: nil, diffIDs: []digest.Digest{digest.FromString("x")}}, nil, 1, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := &store{t: t, bin: s.bin, root: s.root}
			before := s.state()
			r := s.try(append([]string{"load", "-i", c.archive.write(t, t.TempDir())}, c.args...)...)
			require.Equal(t, c.code, r.code, "%s%s", r.stdout, r.stderr)
			require.Empty(t, r.stdout)
			require.NotEmpty(t, r.stderr)
			message, _, _ := strings.Cut(strings.TrimSpace(r.stderr), "\n  to mend it: ")
			require.NotContains(t, message, "\n", "one error")
			require.Contains(t, r.stderr, c.says)
			require.Equal(t, before, s.state(), "the store changed")
			content, err := os.ReadFile(canary)
			require.NoError(t, err)
			require.Equal(t, "untouched", string(content))
			s.run("check", "--content")
		})
	}
	t.Run("100000 entries in one directory", func(t *testing.T) {
		n := 100_000
		if os.Getenv("BLOCKSTORE_MACHINE") != "" {
			n = 10_000 // system calls cost up to a hundred times more there
		}
		l := newLayer(t)
		for i := range n {
			l.add(tar.Header{Typeflag: tar.TypeSymlink, Name: fmt.Sprintf("many/%06d", i), Linkname: "x"}, "")
		}
		s := &store{t: t, bin: s.bin, root: s.root}
		r := s.try("load", "-i", archive{layers: [][]byte{l.bytes()}, tag: "many:1"}.write(t, t.TempDir()))
		if r.code == 5 { // the base's file system has fewer inodes than that
			require.Contains(t, r.stderr, "space")
			return
		}
		require.Zero(t, r.code, r.stderr)
		s.run("create", "--name", "many", "many:1")
		entries, err := os.ReadDir(filepath.Join(s.run("mount", "many"), "many"))
		require.NoError(t, err)
		require.Len(t, entries, n)
		s.run("rm", "-f", "many")
		s.run("rmi", "many:1")
	})
}

// state is all that a refused archive must leave alone.
func (s *store) state() string {
	s.t.Helper()
	var b strings.Builder
	for _, args := range [][]string{{"images", "--json"}, {"ps", "--json"}, {"images", "--tree"}} {
		fmt.Fprintf(&b, "%v: %s\n", args, s.run(args...))
	}
	err := filepath.WalkDir(s.root, func(path string, d os.DirEntry, err error) error {
		if err == nil {
			fmt.Fprintln(&b, path)
		}
		return err
	})
	require.NoError(s.t, err)
	return b.String()
}
