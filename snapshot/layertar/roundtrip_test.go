package layertar_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"blockstore.dev/blockstore/snapshot/layertar"
	"blockstore.dev/blockstore/snapshot/layertar/treetest"
)

// world makes and clones trees.
type world struct {
	base     string
	n        int
	snapshot bool // clones are btrfs snapshots
}

func (w *world) fresh(t rapid.TB) string {
	w.n++
	dir := filepath.Join(w.base, fmt.Sprint(w.n))
	if w.snapshot {
		run(t, "btrfs", "subvolume", "create", dir)
	} else if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func (w *world) clone(t rapid.TB, src string) string {
	w.n++
	dir := filepath.Join(w.base, fmt.Sprint(w.n))
	if w.snapshot {
		run(t, "btrfs", "subvolume", "snapshot", src, dir)
	} else {
		run(t, "cp", "-a", src, dir)
	}
	return dir
}

func (w *world) remove(t rapid.TB, dirs ...string) {
	for _, d := range dirs {
		if w.snapshot {
			run(t, "btrfs", "subvolume", "delete", d)
		} else if err := os.RemoveAll(d); err != nil {
			t.Fatal(err)
		}
	}
}

func run(t rapid.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

func TestRoundTrip(t *testing.T) {
	requireRoot(t)
	w := &world{base: t.TempDir()}
	rapid.Check(t, func(rt *rapid.T) { roundTrip(rt, w) })
}

func TestRoundTripSnapshots(t *testing.T) {
	w := &world{base: btrfs(t), snapshot: true}
	rapid.Check(t, func(rt *rapid.T) { roundTrip(rt, w) })
}

// roundTrip changes a clone of a random tree at random; the layer between the two must turn
// another clone into the same.
func roundTrip(t *rapid.T, w *world) {
	lower := w.fresh(t)
	mutate(t, lower, rapid.IntRange(0, 25).Draw(t, "before"))
	upper := w.clone(t, lower)
	opts := layertar.CompareOptions{Snapshots: w.snapshot, Since: time.Now()}
	mutate(t, upper, rapid.IntRange(0, 12).Draw(t, "after"))
	again := w.clone(t, lower)
	scratch := w.fresh(t)
	defer w.remove(t, lower, upper, again, scratch)

	ctx := context.Background()
	after := capture(t, upper)
	var layer, second, split, back bytes.Buffer
	diffed, err := layertar.Diff(ctx, lower, upper, &layer, layertar.DiffOptions{CompareOptions: opts})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := layertar.Diff(ctx, lower, upper, &second, layertar.DiffOptions{}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(layer.Bytes(), second.Bytes()) {
		t.Fatal("the full comparison gives another layer")
	}
	applied, err := layertar.Apply(ctx, again, &layer, layertar.ApplyOptions{Split: &split})
	if err != nil {
		t.Fatal(err)
	}
	if applied.DiffID != diffed.DiffID || applied.TarBytes != diffed.TarBytes || applied.Size != diffed.Size || applied.Entries != diffed.Entries {
		t.Fatalf("wrote %+v, read %+v", diffed, applied)
	}
	if d := treetest.DifferenceOf(after, capture(t, again)); d != "" {
		t.Fatalf("trees differ:\n%s", d)
	}
	if err := layertar.Assemble(ctx, again, &split, &back); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(back.Bytes(), second.Bytes()) {
		t.Fatal("assembled layer differs")
	}
	checkChanges(t, everything(t, lower), everything(t, upper), lower, upper, opts)
	was, is := everything(t, upper), everything(t, again)
	got, err := layertar.Changes(ctx, upper, again, layertar.CompareOptions{})
	got = slices.DeleteFunc(got, func(c layertar.Change) bool { // what no layer holds, and where it was
		name := strings.TrimPrefix(c.Path, "/")
		return was[name].Type == "socket" || is[name].Type == "socket" || c.Kind == layertar.Modify && was[name].Type == "dir"
	})
	if err != nil || len(got) > 0 {
		t.Fatalf("equal trees with changes %v, %v", got, err)
	}

	// The whole tree as one layer.
	layer.Reset()
	if _, err := layertar.Diff(ctx, "", upper, &layer, layertar.DiffOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := layertar.Apply(ctx, scratch, &layer, layertar.ApplyOptions{}); err != nil {
		t.Fatal(err)
	}
	if d := treetest.DifferenceOf(after, capture(t, scratch)); d != "" {
		t.Fatalf("trees differ after a full layer:\n%s", d)
	}
}

// capture leaves out what no layer holds.
func capture(t rapid.TB, dir string) map[string]treetest.Entry {
	tree := everything(t, dir)
	for name, e := range tree {
		if e.Type == "socket" {
			delete(tree, name)
		}
	}
	return tree
}

func everything(t rapid.TB, dir string) map[string]treetest.Entry {
	tree, err := treetest.Capture(dir)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// checkChanges compares Changes with what two captures say.
func checkChanges(t *rapid.T, before, after map[string]treetest.Entry, lower, upper string, opts layertar.CompareOptions) {
	got, err := layertar.Changes(context.Background(), lower, upper, opts)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	linked := map[string]bool{}
	touch := func(name string) {
		for dir := filepath.Dir(name); dir != "."; dir = filepath.Dir(dir) {
			if _, in := before[dir]; in && want[dir] == "" {
				want[dir] = "C"
			}
		}
	}
	for name, b := range before {
		a, there := after[name]
		linked[name] = a.Links != "" || b.Links != ""
		a.Links, b.Links = "", ""
		switch parent, ok := after[filepath.Dir(name)]; {
		case there && (fmt.Sprintf("%q", a) != fmt.Sprintf("%q", b)) && name != ".":
			want[name] = "C"
			touch(name)
		case !there && ok && parent.Type == "dir":
			want[name] = "D"
			touch(name)
		}
	}
	for name := range after {
		if _, there := before[name]; !there {
			want[name] = "A"
			touch(name)
		}
	}
	for _, c := range got {
		name := strings.TrimPrefix(c.Path, "/")
		if want[name] != c.Kind.String() {
			// Link groups that split or join are changes too, and those of their parents.
			if c.Kind == layertar.Modify && (linked[name] || after[name].Type == "dir") {
				delete(want, name)
				continue
			}
			t.Fatalf("%s is listed as %s, expected %q", name, c.Kind, want[name])
		}
		delete(want, name)
	}
	if len(want) > 0 {
		t.Fatalf("not listed: %v", want)
	}
	if !slices.IsSortedFunc(got, func(a, b layertar.Change) int { return strings.Compare(a.Path, b.Path) }) {
		t.Fatalf("not sorted: %v", got)
	}
}

var names = []string{"a", "b", "c", "d-x", "e e", "\xff\xfe", "ümlaut", strings.Repeat("n", 200)}

// mutate changes a tree n times at random. Operations that make no sense where they hit are
// no-ops.
func mutate(t *rapid.T, root string, n int) {
	pick := rapid.Custom(func(t *rapid.T) string {
		depth := rapid.IntRange(1, 3).Draw(t, "depth")
		parts := make([]string, depth)
		for i := range parts {
			parts[i] = rapid.SampledFrom(names).Draw(t, "name")
		}
		return filepath.Join(parts...)
	})
	ops := []string{
		"file", "file", "mkdir", "mkdir", "symlink", "node", "fifo", "link", "link", "rename",
		"remove", "chmod", "chown", "xattr", "times", "overwrite", "sneaky", "touch", "socket", "root",
	}
	for range n {
		op := rapid.SampledFrom(ops).Draw(t, "op")
		p := filepath.Join(root, pick.Draw(t, "path"))
		seed := rapid.IntRange(0, 9).Draw(t, "seed")
		if seed < 8 && op != "mkdir" {
			_ = os.MkdirAll(filepath.Dir(p), 0o755)
		}
		if fi, err := os.Stat(filepath.Dir(p)); err != nil || !fi.IsDir() {
			continue // also since opening a fifo as a directory's name waits
		}
		err := mutation(op, p, filepath.Join(root, pick.Draw(t, "other")), seed)
		ok := errors.As(err, new(*os.PathError)) || errors.As(err, new(*os.LinkError)) || errors.As(err, new(unix.Errno))
		if err != nil && !ok {
			t.Fatalf("%s: %v", op, err)
		}
	}
}

func mutation(op, p, other string, seed int) error {
	sizes := []int{0, 1, 5, 511, 512, 513, 4096, 8192, 70000, 300000}
	switch op {
	case "file":
		data := make([]byte, sizes[seed])
		for i := 0; i < len(data); i += 5000 {
			data[i] = byte(seed + 1)
		}
		if fi, err := os.Lstat(p); err == nil && !fi.Mode().IsRegular() {
			return nil // opening a fifo waits
		}
		return os.WriteFile(p, data, 0o640)
	case "mkdir":
		return os.MkdirAll(p, 0o750)
	case "symlink":
		return os.Symlink([]string{"a", "/bstest-nowhere/c", ".", "nowhere"}[seed%4], p)
	case "node":
		return unix.Mknod(p, unix.S_IFCHR|0o600, int(unix.Mkdev(uint32(seed), 300)))
	case "fifo":
		return unix.Mknod(p, unix.S_IFIFO|0o622, 0)
	case "socket":
		return unix.Mknod(p, unix.S_IFSOCK|0o622, 0)
	case "link":
		return os.Link(other, p)
	case "rename":
		return os.Rename(other, p)
	case "remove":
		return os.RemoveAll(p)
	case "chmod":
		if fi, err := os.Lstat(p); err != nil || fi.Mode()&os.ModeSymlink != 0 {
			return err
		}
		return unix.Chmod(p, []uint32{0, 0o644, 0o4755, 0o2755, 0o1777, 0o7777}[seed%6])
	case "chown":
		return unix.Lchown(p, seed*70000, seed*90000)
	case "times":
		ts := []unix.Timespec{{Sec: 1}, {Sec: []int64{-5, 0, 1700000000, 4000000000}[seed%4], Nsec: int64(seed) * 111111111}}
		return unix.UtimesNanoAt(unix.AT_FDCWD, p, ts, unix.AT_SYMLINK_NOFOLLOW)
	case "root":
		return unix.Chmod(filepath.Dir(p), 0o711)
	}
	return mutateInside(op, p, seed)
}

func mutateInside(op, p string, seed int) error {
	switch op {
	case "xattr":
		name := []string{"user.a", "trusted.b=c%", "security.capability", "system.posix_acl_default", "user.z"}[seed%5]
		value := []byte{byte(seed), 0, 1}
		switch name {
		case "security.capability":
			value = []byte{1, 0, 0, 2, byte(seed), 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
		case "system.posix_acl_default":
			value = aclValue
		}
		if seed > 7 {
			return unix.Lremovexattr(p, name)
		}
		return unix.Lsetxattr(p, name, value, 0)
	case "overwrite":
		if fi, err := os.Lstat(p); err != nil || !fi.Mode().IsRegular() {
			return err
		}
		f, err := os.OpenFile(p, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.WriteAt([]byte("changed"), int64(seed)*100)
		return err
	case "sneaky": // same size, same time, other content
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size == 0 {
			return err
		}
		f, err := os.OpenFile(p, os.O_WRONLY|unix.O_NOFOLLOW, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := f.WriteAt([]byte{byte(200 + seed)}, st.Size-1); err != nil {
			return err
		}
		return unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{st.Atim, st.Mtim}, 0)
	case "touch": // rewritten, but the same
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		return unix.Lchown(p, int(st.Uid), int(st.Gid))
	}
	return fmt.Errorf("no operation %q", op)
}

// aclValue is user::rwx, user:1000:rw-, group::r-x, mask::rwx, other::r-- in the
// form of linux/posix_acl_xattr.h.
var aclValue = []byte{
	2, 0, 0, 0,
	1, 0, 7, 0, 0xff, 0xff, 0xff, 0xff,
	2, 0, 6, 0, 0xe8, 3, 0, 0,
	4, 0, 5, 0, 0xff, 0xff, 0xff, 0xff,
	16, 0, 7, 0, 0xff, 0xff, 0xff, 0xff,
	32, 0, 4, 0, 0xff, 0xff, 0xff, 0xff,
}
