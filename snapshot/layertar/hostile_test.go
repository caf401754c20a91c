package layertar_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"blockstore.dev/blockstore/snapshot/layertar"
	"blockstore.dev/blockstore/snapshot/layertar/treetest"
)

// sandbox is a root with a canary beside it that nothing may touch.
type sandbox struct {
	base, root string
	before     map[string]treetest.Entry
}

func newSandbox(t testing.TB) *sandbox {
	t.Helper()
	s := &sandbox{base: t.TempDir()}
	s.root = filepath.Join(s.base, "root")
	canary := filepath.Join(s.base, "canary")
	for _, d := range []string{s.root, canary} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(canary, "secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.before = s.outside(t)
	return s
}

func (s *sandbox) outside(t testing.TB) map[string]treetest.Entry {
	t.Helper()
	tree, err := treetest.Capture(s.base)
	if err != nil {
		t.Fatal(err)
	}
	for name := range tree {
		if name == "root" || strings.HasPrefix(name, "root/") {
			delete(tree, name)
		}
	}
	return tree
}

func (s *sandbox) check(t testing.TB) {
	t.Helper()
	if d := treetest.DifferenceOf(s.before, s.outside(t)); d != "" {
		t.Fatalf("outside of the root:\n%s", d)
	}
}

func with(e entry, change func(*tar.Header)) entry {
	change(&e.Header)
	return e
}

func xattrs(name, value string) func(*tar.Header) {
	return func(h *tar.Header) { h.PAXRecords = map[string]string{"SCHILY.xattr." + name: value} }
}

// sparseBomb is a GNU sparse header: a file of 1<<43 bytes without data in a tar of 1.5 KiB.
func sparseBomb() []byte {
	var b bytes.Buffer
	h := make([]byte, 512)
	copy(h, "bomb")
	copy(h[100:], "0000644\x000000000\x000000000\x0000000000000\x0000000000000\x00")
	copy(h[148:], "        ")
	h[156] = 'S'
	copy(h[257:], "ustar  \x00")
	copy(h[386:], "00000000000\x0000000000000\x00")
	// real size, base 256
	h[483] = 0x80
	h[483+6] = 1 << 3
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:], []byte{byte('0' + sum>>15&7), byte('0' + sum>>12&7), byte('0' + sum>>9&7), byte('0' + sum>>6&7), byte('0' + sum>>3&7), byte('0' + sum&7), 0, ' '})
	b.Write(h)
	b.Write(make([]byte, 1024))
	return b.Bytes()
}

func TestHostileArchives(t *testing.T) {
	requireRoot(t)
	good := tarOf(t, file("a", "content"), file("b", strings.Repeat("x", 3000)))
	flip := func(at int) []byte {
		b := bytes.Clone(good)
		b[at] ^= 0x40
		return b
	}
	tests := []struct {
		name  string
		layer []byte
		opts  layertar.ApplyOptions
		want  error
	}{
		{"climbing name", tarOf(t, file("../canary/secret", "x")), layertar.ApplyOptions{}, layertar.ErrEscapes},
		{"climbing absolute name", tarOf(t, file("/../canary/secret", "x")), layertar.ApplyOptions{}, layertar.ErrEscapes},
		{"climbing in the middle", tarOf(t, file("a/../../canary/secret", "x")), layertar.ApplyOptions{}, layertar.ErrEscapes},
		{"climbing whiteout", tarOf(t, file("../.wh.canary", "")), layertar.ApplyOptions{}, layertar.ErrEscapes},
		{"whiteout of the parent", tarOf(t, file("a/.wh...", "")), layertar.ApplyOptions{}, layertar.ErrWhiteout},
		{"whiteout of itself", tarOf(t, file("a/.wh..", "")), layertar.ApplyOptions{}, layertar.ErrWhiteout},
		{"whiteout of nothing", tarOf(t, file("a/.wh.", "")), layertar.ApplyOptions{}, layertar.ErrWhiteout},
		{"whiteout of a whiteout", tarOf(t, file("a/.wh..wh.x", "")), layertar.ApplyOptions{}, layertar.ErrWhiteout},
		{"whiteout as a directory", tarOf(t, file("a/.wh.x/y", "")), layertar.ApplyOptions{}, layertar.ErrWhiteout},
		{"symlink out", tarOf(t, symlink("d/s", "../../canary")), layertar.ApplyOptions{}, layertar.ErrEscapes},
		{"hard link out", tarOf(t, hardlink("l", "../canary/secret")), layertar.ApplyOptions{}, layertar.ErrEscapes},
		{"absolute hard link", tarOf(t, hardlink("l", "/etc/passwd")), layertar.ApplyOptions{}, layertar.ErrEscapes},
		{"hard link to a missing file", tarOf(t, hardlink("l", "nowhere/x")), layertar.ApplyOptions{}, layertar.ErrMalformed},
		{"hard link to a later file", tarOf(t, hardlink("l", "x"), file("x", "")), layertar.ApplyOptions{}, layertar.ErrMalformed},
		{"hard link to a directory", tarOf(t, dir("d", 0o755), hardlink("l", "d")), layertar.ApplyOptions{}, layertar.ErrMalformed},
		{"hard link to itself", tarOf(t, hardlink("l", "l")), layertar.ApplyOptions{}, layertar.ErrMalformed},
		{"hard link through an absolute symlink", tarOf(t, symlink("s", "/canary"), hardlink("l", "s/secret")), layertar.ApplyOptions{}, layertar.ErrMalformed},
		{"loop of symlinks", tarOf(t, symlink("x", "y"), symlink("y", "x"), file("x/f", "")), layertar.ApplyOptions{}, layertar.ErrMalformed},
		{"symlink to itself", tarOf(t, symlink("x", "x/x"), file("x/f", "")), layertar.ApplyOptions{}, layertar.ErrMalformed},
		{"parent is a file", tarOf(t, file("x", ""), file("x/f", "")), layertar.ApplyOptions{}, layertar.ErrMalformed},
		{"character device", tarOf(t, entry{Header: tar.Header{Typeflag: tar.TypeChar, Name: "c", Devmajor: 1, Devminor: 5}}), layertar.ApplyOptions{NoDevices: true}, layertar.ErrDevice},
		{"block device", tarOf(t, entry{Header: tar.Header{Typeflag: tar.TypeBlock, Name: "c", Devmajor: 7}}), layertar.ApplyOptions{NoDevices: true}, layertar.ErrDevice},
		{"impossible device", tarOf(t, entry{Header: tar.Header{Typeflag: tar.TypeChar, Name: "c", Devmajor: 4096}}), layertar.ApplyOptions{}, layertar.ErrMalformed},
		{"duplicate file", tarOf(t, file("a", "1"), file("./a", "2")), layertar.ApplyOptions{}, layertar.ErrDuplicate},
		{"file, then directory", tarOf(t, file("a", "1"), dir("a", 0o755)), layertar.ApplyOptions{}, layertar.ErrDuplicate},
		{"directory, then file", tarOf(t, dir("a", 0o755), file("a", "1")), layertar.ApplyOptions{}, layertar.ErrDuplicate},
		{"parent, then symlink", tarOf(t, file("a/f", "1"), symlink("a", "b")), layertar.ApplyOptions{}, layertar.ErrDuplicate},
		{"duplicate through a symlink", tarOf(t, dir("d", 0o755), symlink("s", "d"), file("d/f", "1"), file("s/f", "2")), layertar.ApplyOptions{}, layertar.ErrDuplicate},
		{"used symlink becomes a directory", tarOf(t, dir("d", 0o755), symlink("s", "d"), file("s/f", "2"), dir("s", 0o755)), layertar.ApplyOptions{}, layertar.ErrDuplicate},
		{"root is no directory", tarOf(t, file("./", "").asFile()), layertar.ApplyOptions{}, layertar.ErrMalformed},
		{"name too long", tarOf(t, file(strings.Repeat("n", 256), "")), layertar.ApplyOptions{}, layertar.ErrMalformed},
		{"path too long", tarOf(t, file(strings.Repeat("n/", 2100)+"n", "")), layertar.ApplyOptions{}, layertar.ErrMalformed},
		{"owner beyond 32 bits", tarOf(t, with(file("a", ""), func(h *tar.Header) { h.Uid = math.MaxUint32 })), layertar.ApplyOptions{}, layertar.ErrMalformed},
		{"attribute name too long", tarOf(t, with(file("a", ""), xattrs("user."+strings.Repeat("n", 256), ""))), layertar.ApplyOptions{}, layertar.ErrMalformed},
		{"attribute without a name", tarOf(t, with(file("a", ""), xattrs("", "v"))), layertar.ApplyOptions{}, layertar.ErrMalformed},
		{"attribute too large", tarOf(t, with(file("a", ""), xattrs("user.x", strings.Repeat("v", 70000)))), layertar.ApplyOptions{}, layertar.ErrMalformed},
		{"nonsense capability", tarOf(t, with(file("a", ""), xattrs("security.capability", "v"))), layertar.ApplyOptions{}, layertar.ErrMalformed},
		{"nonsense ACL", tarOf(t, with(file("a", ""), xattrs("system.posix_acl_access", "v"))), layertar.ApplyOptions{}, layertar.ErrMalformed},
		{"too large", good, layertar.ApplyOptions{MaxBytes: 3000}, layertar.ErrTooLarge},
		{"bomb of zeros", tarOf(t, file("a", string(make([]byte, 4<<20)))), layertar.ApplyOptions{MaxBytes: 1 << 20}, layertar.ErrTooLarge},
		{"sparse bomb", sparseBomb(), layertar.ApplyOptions{MaxBytes: 1 << 30}, layertar.ErrTooLarge},
		{"endless padding", append(bytes.Clone(good), make([]byte, 65<<20)...), layertar.ApplyOptions{}, layertar.ErrTooLarge},
		{"empty stream", nil, layertar.ApplyOptions{}, layertar.ErrMalformed},
		{"no trailer", good[:len(good)-1024], layertar.ApplyOptions{}, layertar.ErrMalformed},
		{"cut in content", good[:512*8+100], layertar.ApplyOptions{}, layertar.ErrMalformed},
		{"cut in a header", good[:100], layertar.ApplyOptions{}, layertar.ErrMalformed},
		{"bit flipped in a header", flip(3), layertar.ApplyOptions{}, layertar.ErrMalformed},
		{"no tar at all", bytes.Repeat([]byte("hello"), 1000), layertar.ApplyOptions{}, layertar.ErrMalformed},
		{"unknown type", tarOf(t, entry{Header: tar.Header{Typeflag: 'Z', Name: "z"}}), layertar.ApplyOptions{}, layertar.ErrMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSandbox(t)
			_, err := layertar.Apply(context.Background(), s.root, bytes.NewReader(tt.layer), tt.opts)
			if !errors.Is(err, tt.want) || !errors.Is(err, layertar.ErrArchive) {
				t.Errorf("%v, expected %v", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %v", err)
			}
			s.check(t)
		})
	}
}

// TestHostileTrees: what a lower layer left must not lead the next one out.
func TestHostileTrees(t *testing.T) {
	plant := func(t *testing.T, s *sandbox) {
		for name, target := range map[string]string{
			"rel": "../canary", "abs": filepath.Join(s.base, "canary"), "deep": "../../../../../../../../../../" + s.base + "/canary", "file": "../canary/secret",
		} {
			if err := os.Symlink(target, filepath.Join(s.root, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, e := range map[string]entry{
		"write into":       file("rel/new", "x"),
		"write absolute":   file("abs/new", "x"),
		"write deep":       file("deep/secret", "x"),
		"replace":          file("file", "x"),
		"delete":           file("rel/.wh.secret", ""),
		"hide":             file("abs/.wh..wh..opq", ""),
		"directory over":   dir("rel", 0o777),
		"directory within": dir("deep/d", 0o777),
	} {
		t.Run(name, func(t *testing.T) {
			s := newSandbox(t)
			plant(t, s)
			mustApply(t, s.root, tarOf(t, e))
			s.check(t)
		})
	}
	t.Run("hard link", func(t *testing.T) {
		s := newSandbox(t)
		plant(t, s)
		_, err := layertar.Apply(context.Background(), s.root, bytes.NewReader(tarOf(t, hardlink("l", "rel/secret"))), layertar.ApplyOptions{})
		if !errors.Is(err, layertar.ErrMalformed) {
			t.Error(err)
		}
		s.check(t)
	})
	t.Run("diff and assemble", func(t *testing.T) {
		s := newSandbox(t)
		plant(t, s)
		var out bytes.Buffer
		if _, err := layertar.Diff(context.Background(), "", s.root, &out, layertar.DiffOptions{}); err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(out.Bytes(), []byte("secret\x00secret")) || out.Len() > 16<<10 {
			t.Error("the diff holds what lies outside")
		}
		other := t.TempDir()
		var split bytes.Buffer
		if _, err := layertar.Apply(context.Background(), other, bytes.NewReader(tarOf(t, file("rel/secret", "secret"))), layertar.ApplyOptions{Split: &split}); err != nil {
			t.Fatal(err)
		}
		if err := layertar.Assemble(context.Background(), s.root, &split, &out); !errors.Is(err, layertar.ErrChanged) {
			t.Error(err)
		}
		s.check(t)
	})
}

func FuzzApply(f *testing.F) {
	f.Add(tarOf(f, file("a/b", "content"), symlink("s", "a"), file("s/c", "x"), hardlink("l", "a/b"), dir("a", 0o755), file("a/.wh..wh..opq", "")))
	f.Add(tarOf(f, file("../x", ""), symlink("up", "../.."), file("up/y", ""), file(".wh.x", "")))
	f.Add(tarOf(f, with(file("x", "1"), xattrs("user.x", "y")), symlink("x", "/"), file("x/../y", ""), hardlink("z", "x/canary/secret")))
	f.Add(sparseBomb())
	f.Add(tarOf(f, dir("./", 0o777), symlink("canary", "../canary"), dir("canary", 0), file("canary/.wh.secret", "")))
	f.Fuzz(func(t *testing.T, data []byte) {
		s := newSandbox(t)
		var split, back bytes.Buffer
		_, err := layertar.Apply(context.Background(), s.root, bytes.NewReader(data), layertar.ApplyOptions{MaxBytes: 1 << 20, NoDevices: true, Split: &split})
		s.check(t)
		if err != nil {
			return
		}
		if err := layertar.Assemble(context.Background(), s.root, &split, &back); err != nil || !bytes.Equal(back.Bytes(), data) {
			t.Fatalf("accepted, but assembled to something else: %v", err)
		}
		if _, err := layertar.Diff(context.Background(), "", s.root, &back, layertar.DiffOptions{}); err != nil {
			t.Fatal(err)
		}
	})
}

// asFile keeps the tar writer from making a directory of a name with a slash at its end.
func (e entry) asFile() entry {
	e.Name, e.Typeflag = ".", tar.TypeReg
	return e
}
