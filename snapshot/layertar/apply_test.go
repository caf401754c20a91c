package layertar_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot/layertar"
	"blockstore.dev/blockstore/snapshot/layertar/treetest"
)

func TestApplyRules(t *testing.T) {
	requireRoot(t)
	lower := []entry{
		dir("d", 0o755), file("d/one", "1"), file("d/two", "2"), dir("d/sub", 0o700), file("d/sub/deep", "3"),
		file("f", "lower"), symlink("s", "d"), symlink("abs", "/d"), file("linked", "shared"), hardlink("linked2", "linked"),
	}
	tests := []struct {
		name  string
		layer []entry
		want  []string // path, "=content" of files, "-" if gone, "->target", "/" of directories
	}{
		{"whiteout of a file", []entry{file("d/.wh.one", "")}, []string{"d/one -", "d/two =2"}},
		{"whiteout of a directory", []entry{file(".wh.d", "")}, []string{"d -", "f =lower"}},
		{"whiteout of nothing", []entry{file("d/.wh.none", "")}, []string{"d/one =1"}},
		{"whiteout through a symlinked parent", []entry{file("s/.wh.one", "")}, []string{"d/one -", "s ->d"}},
		{"whiteout of a symlink leaves its target", []entry{file(".wh.s", "")}, []string{"s -", "d/one =1"}},
		{"whiteout before the same name", []entry{file(".wh.f", ""), file("f", "new")}, []string{"f =new"}},
		{"whiteout after the same name", []entry{file("f", "new"), file(".wh.f", "")}, []string{"f =new"}},
		{"whiteout after a directory that was written into", []entry{file("d/new", "n"), file(".wh.d", "")}, []string{"d/new =n", "d/one -", "d/sub -"}},
		{"opaque before", []entry{file("d/.wh..wh..opq", ""), file("d/new", "n")}, []string{"d/new =n", "d/one -", "d/sub -"}},
		{"opaque after", []entry{file("d/new", "n"), file("d/.wh..wh..opq", "")}, []string{"d/new =n", "d/one -", "d/sub -"}},
		{"opaque keeps deep entries", []entry{file("d/sub/new", "n"), file("d/.wh..wh..opq", "")}, []string{"d/sub/new =n", "d/sub/deep -", "d/one -"}},
		{"opaque root", []entry{file("new", "n"), file(".wh..wh..opq", "")}, []string{"new =n", "d -", "f -", "s -"}},
		{"opaque of a missing directory", []entry{file("x/.wh..wh..opq", "")}, []string{"x /"}},
		{"file over directory", []entry{file("d", "now a file")}, []string{"d =now a file"}},
		{"directory over file", []entry{dir("f", 0o755), file("f/x", "x")}, []string{"f/x =x"}},
		{"directory over symlink", []entry{dir("s", 0o755)}, []string{"s /", "d/one =1"}},
		{"symlink over directory", []entry{symlink("d", "f")}, []string{"d ->f"}},
		{"file over symlink leaves the target", []entry{file("s", "x")}, []string{"s =x", "d/one =1"}},
		{"file over one of two links leaves the other", []entry{file("linked", "x")}, []string{"linked =x", "linked2 =shared"}},
		{"symlinked parent", []entry{file("s/x", "x")}, []string{"d/x =x", "s ->d"}},
		{"absolute symlinked parent stays within", []entry{file("abs/x", "x")}, []string{"d/x =x", "abs ->/d"}},
		{"parents that climb stop at the root", []entry{symlink("up", "/../../d"), file("up/x", "x")}, []string{"d/x =x"}},
		{"absolute name", []entry{file("/abs-name", "x")}, []string{"abs-name =x"}},
		{"name that stays within", []entry{file("d/../f2", "x")}, []string{"f2 =x"}},
		{"missing parents", []entry{file("m/n/o", "x")}, []string{"m /", "m/n /", "m/n/o =x"}},
		{"repeated directory", []entry{dir("r", 0o700), file("r/x", "x"), dir("r", 0o711)}, []string{"r/x =x", "r /"}},
		{"hard link to a file of a lower layer", []entry{hardlink("new", "f")}, []string{"new =lower", "f =lower"}},
		{"hard link over a directory", []entry{hardlink("d", "f")}, []string{"d =lower"}},
		{"global header", []entry{{Header: tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "c"}}}, file("x", "x")}, []string{"x =x"}},
		{"aufs links", []entry{dir(".wh..wh.plnk", 0o700), file(".wh..wh.plnk/1.2", "kept"), hardlink("x", ".wh..wh.plnk/1.2"), file(".wh..wh.aufs", "no")}, []string{"x =kept", ".wh..wh.plnk -", ".wh..wh.aufs -"}},
		{"whiteout with content", []entry{file(".wh.f", "ignored")}, []string{"f -"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			mustApply(t, root, tarOf(t, lower...))
			layer := tarOf(t, tt.layer...)
			mustApply(t, root, layer)
			for _, w := range tt.want {
				checkPath(t, root, w)
			}
		})
	}
}

func checkPath(t *testing.T, root, want string) {
	t.Helper()
	name, want, _ := strings.Cut(want, " ")
	p := filepath.Join(root, name)
	fi, err := os.Lstat(p)
	switch {
	case want == "-":
		if !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is there: %v", name, err)
		}
	case err != nil:
		t.Error(err)
	case want == "/":
		if !fi.IsDir() {
			t.Errorf("%s is no directory", name)
		}
	case want[0] == '=':
		if got, err := os.ReadFile(p); err != nil || !fi.Mode().IsRegular() || string(got) != want[1:] {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	default:
		if got, err := os.Readlink(p); err != nil || got != want[2:] {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestApplyMetadata(t *testing.T) {
	requireRoot(t)
	unixTime := time.Unix(-3, 999999999)
	long := strings.Repeat("x", 200) + "/" + strings.Repeat("y", 200)
	capability := string([]byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	entries := []entry{
		{Header: tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o1751, Uid: 5, Gid: 6, ModTime: epoch}},
		{Header: tar.Header{Typeflag: tar.TypeDir, Name: "sgid", Mode: 0o2777, Gid: 70001, ModTime: epoch, PAXRecords: map[string]string{"SCHILY.xattr.system.posix_acl_default": string(aclValue)}}},
		{Header: tar.Header{Name: "sgid/plain", Mode: 0o666, ModTime: unixTime}},
		{Header: tar.Header{Typeflag: tar.TypeDir, Name: "sgid/sub", Mode: 0o777, ModTime: unixTime}},
		{Header: tar.Header{Name: "suid", Mode: 0o6711, Uid: 1 << 20, Gid: 4000000000, ModTime: epoch}, data: "x"},
		{Header: tar.Header{Name: "cap", Mode: 0o755, Uid: 9, ModTime: epoch, PAXRecords: map[string]string{
			"SCHILY.xattr.security.capability": capability, "SCHILY.xattr.user.a%3Db": "v", "SCHILY.xattr.com.apple.quarantine": "no",
		}}, data: "x"},
		{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: "link", Linkname: "nowhere", Uid: 7, ModTime: unixTime, PAXRecords: map[string]string{"SCHILY.xattr.trusted.t": "1"}}},
		{Header: tar.Header{Typeflag: tar.TypeChar, Name: "null", Mode: 0o666, Devmajor: 1, Devminor: 3, ModTime: epoch}},
		{Header: tar.Header{Typeflag: tar.TypeBlock, Name: "blk", Mode: 0o660, Devmajor: 4095, Devminor: 1<<20 - 1, Gid: 6, ModTime: epoch}},
		{Header: tar.Header{Typeflag: tar.TypeFifo, Name: "fifo", Mode: 0o622, ModTime: epoch}},
		{Header: tar.Header{Name: long, Mode: 0o644, ModTime: epoch}, data: strings.Repeat("z", 5000)},
	}
	root := t.TempDir()
	old := unix.Umask(0o077)
	applied, err := layertar.Apply(context.Background(), root, bytes.NewReader(tarOf(t, entries...)), layertar.ApplyOptions{})
	unix.Umask(old)
	if err != nil {
		t.Fatal(err)
	}
	if applied.IgnoredXattrs != 1 || applied.Size != 5002 || applied.Entries != len(entries) {
		t.Errorf("%+v", applied)
	}
	tree := capture(t, root)
	for _, e := range entries {
		name := filepath.Clean(e.Name)
		got := tree[name]
		mode := uint32(e.Mode)
		if got.Type == "symlink" {
			mode = 0o777
		}
		if got.Mode != mode || int(got.UID) != e.Uid || int(got.GID) != e.Gid || !got.MTime.Equal(e.ModTime) {
			t.Errorf("%s: %v", name, got)
		}
	}
	if got := tree["cap"].Xattrs; len(got) != 2 || got["security.capability"] != capability || got["user.a=b"] != "v" {
		t.Errorf("cap: %q", got)
	}
	if got := tree["link"].Xattrs["trusted.t"]; got != "1" {
		t.Errorf("link: %q", got)
	}
	if len(tree["sgid/plain"].Xattrs) != 0 || len(tree["sgid/sub"].Xattrs) != 0 {
		t.Errorf("ACLs were inherited: %v, %v", tree["sgid/plain"], tree["sgid/sub"])
	}
	if tree["null"].Rdev != "1:3" || tree["blk"].Rdev != "4095:1048575" {
		t.Errorf("devices: %v, %v", tree["null"], tree["blk"])
	}
	if got := tree[filepath.Dir(long)]; got.Mode != 0o755 || !got.MTime.Equal(time.Unix(0, 0)) {
		t.Errorf("missing parent: %v", got)
	}

	// A directory entry replaces all metadata of the directory.
	mustApply(t, root, tarOf(t, entry{Header: tar.Header{Typeflag: tar.TypeDir, Name: "sgid", Mode: 0o700, ModTime: unixTime}}))
	if got := capture(t, root)["sgid"]; got.Mode != 0o700 || got.GID != 0 || got.Xattrs != nil || !got.MTime.Equal(unixTime) {
		t.Errorf("merged directory: %v", got)
	}
}

// TestApplyParentTimes: what is unpacked into a directory of a lower layer leaves its time alone.
func TestApplyParentTimes(t *testing.T) {
	root := t.TempDir()
	mustApply(t, root, tarOf(t, dir("d", 0o755), file("d/a", "a"), symlink("s", "d")))
	mustApply(t, root, tarOf(t, file("s/b", "b"), file("d/.wh.a", ""), dir("d/sub", 0o755), hardlink("d/c", "d/b")))
	if got := capture(t, root)["d"]; !got.MTime.Equal(epoch) {
		t.Error(got)
	}
}

func TestApplyHoles(t *testing.T) {
	content := make([]byte, 1<<20+100)
	copy(content[300<<10:], "data")
	content[512<<10-1] = 1
	root := t.TempDir()
	mustApply(t, root, tarOf(t, file("f", string(content)), file("zero", string(make([]byte, 9000)))))
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(root, "f"), &st); err != nil {
		t.Fatal(err)
	}
	if st.Blocks*512 > 64<<10 {
		t.Errorf("%d bytes allocated", st.Blocks*512)
	}
	got, err := os.ReadFile(filepath.Join(root, "f"))
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("content differs, %v", err)
	}
	if got, err := os.ReadFile(filepath.Join(root, "zero")); err != nil || len(got) != 9000 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestApplyWhiteoutModes(t *testing.T) {
	layer := tarOf(t, file("d/.wh.x", "content"))
	root := t.TempDir()
	_, err := layertar.Apply(context.Background(), root, bytes.NewReader(layer), layertar.ApplyOptions{Whiteouts: layertar.WhiteoutsRefused})
	if !errors.Is(err, layertar.ErrWhiteout) {
		t.Error(err)
	}
	if _, err := layertar.Apply(context.Background(), root, bytes.NewReader(layer), layertar.ApplyOptions{Whiteouts: layertar.WhiteoutsLiteral}); err != nil {
		t.Error(err)
	}
	checkPath(t, root, "d/.wh.x =content")
	if _, err := layertar.Diff(context.Background(), "", root, new(bytes.Buffer), layertar.DiffOptions{}); !errors.Is(err, layertar.ErrUnrepresentable) {
		t.Error(err)
	}
}

func TestApplyOwners(t *testing.T) {
	requireRoot(t)
	root := t.TempDir()
	shift := func(by int) layertar.OwnerMap {
		return func(uid, gid int) (int, int, error) { return uid + by, gid + by, nil }
	}
	layer := tarOf(t, file("m/f", "x"))
	if _, err := layertar.Apply(context.Background(), root, bytes.NewReader(layer), layertar.ApplyOptions{Owners: shift(100000)}); err != nil {
		t.Fatal(err)
	}
	tree := capture(t, root)
	if tree["m"].UID != 100000 || tree["m/f"].GID != 100000 {
		t.Error(tree)
	}
	var back bytes.Buffer
	if _, err := layertar.Diff(context.Background(), "", root, &back, layertar.DiffOptions{Owners: func(uid, gid int) (int, int, error) { return max(uid-100000, 0), max(gid-100000, 0), nil }}); err != nil {
		t.Fatal(err)
	}
	plain := t.TempDir()
	mustApply(t, plain, back.Bytes())
	if got := capture(t, plain)["m/f"]; got.UID != 0 || got.GID != 0 {
		t.Error(got)
	}
}

func TestApplyPadding(t *testing.T) {
	layer := append(tarOf(t, file("f", "x")), make([]byte, 1<<20+7)...)
	layer[len(layer)-1] = 'j'
	var split, back bytes.Buffer
	root := t.TempDir()
	got, err := layertar.Apply(context.Background(), root, bytes.NewReader(layer), layertar.ApplyOptions{Split: &split})
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("sha256:%x", sha256.Sum256(layer)); string(got.DiffID) != want || got.TarBytes != int64(len(layer)) {
		t.Errorf("%+v", got)
	}
	if err := layertar.Assemble(context.Background(), root, &split, &back); err != nil || !bytes.Equal(back.Bytes(), layer) {
		t.Errorf("assembled differs, %v", err)
	}
}

func TestApplyCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	layer := manyFiles(t, 200)
	r := &hookReader{data: layer, at: len(layer) / 2, hook: cancel}
	if _, err := layertar.Apply(ctx, t.TempDir(), r, layertar.ApplyOptions{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestApplyReaderError(t *testing.T) {
	broken := errors.New("broken pipe to the registry")
	layer := manyFiles(t, 200)
	for _, want := range []error{broken, errors.Join(broken)} {
		r := &hookReader{data: layer, at: len(layer) / 2, err: want}
		_, err := layertar.Apply(context.Background(), t.TempDir(), r, layertar.ApplyOptions{})
		if !errors.Is(err, broken) || errors.Is(err, layertar.ErrArchive) {
			t.Error(err)
		}
	}
}

func TestApplyBigDirectory(t *testing.T) {
	const n = 100_000
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for i := range n {
		if err := w.WriteHeader(&tar.Header{Name: fmt.Sprintf("d/f%d", i), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	start := time.Now()
	if got := mustApply(t, root, buf.Bytes()); got.Entries != n {
		t.Error(got)
	}
	applied := time.Since(start)
	var out bytes.Buffer
	got, err := layertar.Diff(context.Background(), "", root, &out, layertar.DiffOptions{})
	if err != nil || got.Entries < n {
		t.Fatal(got, err)
	}
	t.Logf("applied in %v, written in %v", applied, time.Since(start)-applied)
}

func mustApply(t testing.TB, root string, layer []byte) layertar.Applied {
	t.Helper()
	got, err := layertar.Apply(context.Background(), root, bytes.NewReader(layer), layertar.ApplyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestTreetest(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	layer := tarOf(t, dir("./", 0o755), file("f", "x"), file("g", "x"), symlink("s", "f"))
	mustApply(t, a, layer)
	mustApply(t, b, layer)
	treetest.Equal(t, a, b)
	changes := map[string]func() error{
		"content": func() error { return os.WriteFile(filepath.Join(b, "f"), []byte("y"), 0) },
		"mode":    func() error { return os.Chmod(filepath.Join(b, "f"), 0o600) },
		"links": func() error {
			return errors.Join(os.Remove(filepath.Join(b, "g")), os.Link(filepath.Join(b, "f"), filepath.Join(b, "g")))
		},
		"xattr":   func() error { return unix.Setxattr(filepath.Join(b, "f"), "user.x", []byte("1"), 0) },
		"missing": func() error { return os.Remove(filepath.Join(b, "s")) },
	}
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for n := range changes {
			if !yield(n) {
				return
			}
		}
	}) {
		before, err := treetest.Capture(b)
		if err != nil {
			t.Fatal(err)
		}
		if err := changes[name](); err != nil {
			t.Fatal(err)
		}
		after, err := treetest.Capture(b)
		if err != nil {
			t.Fatal(err)
		}
		if treetest.DifferenceOf(before, after) == "" {
			t.Errorf("%s is not seen", name)
		}
	}
}

// TestApplyNoSpace: a full file system is its own error, not the archive's fault.
func TestApplyNoSpace(t *testing.T) {
	requireRoot(t)
	root := t.TempDir()
	if err := unix.Mount("bstest", root, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("no tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(root, 0); err != nil { // nothing is left open
			t.Error(err)
		}
	})
	_, err := layertar.Apply(context.Background(), root, bytes.NewReader(tarOf(t, file("a", strings.Repeat("x", 2<<20)))), layertar.ApplyOptions{})
	var at *layertar.EntryError
	if !errors.Is(err, unix.ENOSPC) || errors.Is(err, layertar.ErrArchive) || !errors.As(err, &at) || at.Name != "a" {
		t.Error(err)
	}
}
