package graphdriver

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"sort"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/btrfs"
	"blockstore.dev/blockstore/snapshot/thin"
	"blockstore.dev/blockstore/snapshot/zfs"
)

// limited is a size that a store's limit tests can fill; no driver takes less for
// its stores (Docker's own test has 50 MiB, which no thin device of ours has).
const limited = 320 << 20

// The drivers. Each runs on the kernel that has it.
func drivers() map[string]func(*testing.T) *world {
	return map[string]func(*testing.T) *world{
		"btrfs": func(t *testing.T) *world {
			return kernelWorld(t, btrfs.Kind{}, snapshot.InitOptions{Loopback: 4 << 30, BaseSize: limited})
		},
		"devicemapper-ext4": func(t *testing.T) *world {
			return kernelWorld(t, thin.Kind{}, snapshot.InitOptions{Loopback: 4 << 30, BaseSize: limited})
		},
		"devicemapper-xfs": func(t *testing.T) *world {
			return kernelWorld(t, thin.Kind{}, snapshot.InitOptions{Loopback: 4 << 30, BaseSize: limited, FileSystem: "xfs"})
		},
		"zfs": func(t *testing.T) *world {
			return kernelWorld(t, zfs.Kind{}, snapshot.InitOptions{Loopback: 4 << 30, BaseSize: limited})
		},
	}
}

func kernelWorld(t *testing.T, kind snapshot.Kind, o snapshot.InitOptions) *world {
	t.Helper()
	needRoot(t)
	if err := kind.Probe(t.Context()); err != nil {
		t.Skipf("this kernel cannot run the driver: %v", err)
	}
	return newWorld(t, kind, o)
}

// TestGraph are the cases of Docker's graphtest, which its own block drivers never
// ran whole, through the socket. docs/docker.md tells them apart.
func TestGraph(t *testing.T) {
	cases := map[string]func(*testing.T, *world){
		"CreateEmpty": createEmpty, "CreateBase": createBase, "CreateSnap": createSnap,
		"DeepLayerRead": deepLayerRead, "DiffApply": diffApply, "Changes": changesExact,
		"SetQuota": setQuota, "Template": template, "Echo": echo, "SharedInit": sharedInit,
	}
	for name, open := range drivers() {
		t.Run(name, func(t *testing.T) {
			w := open(t)
			outer := w.t
			defer func() { w.t = outer }()
			for name, run := range cases {
				t.Run(name, func(t *testing.T) {
					w.t = t
					run(t, w)
				})
			}
		})
	}
}

func createEmpty(t *testing.T, w *world) {
	w.create("empty", "")
	require.True(t, w.exists("empty"))
	w.in("empty", func(dir string) {
		inspect(t, dir, unix.S_IFDIR|0o755, 0, 0)
		require.Empty(t, list(t, dir))
	})
	w.remove("empty")
	require.False(t, w.exists("empty"))
}

// makeBase is graphtest's: a directory and a file with odd modes and owners.
func makeBase(t *testing.T, w *world, id string) {
	t.Helper()
	w.must("CreateReadWrite", request{ID: id}, nil)
	w.in(id, func(dir string) {
		sub, file := filepath.Join(dir, "a subdir"), filepath.Join(dir, "a file")
		require.NoError(t, os.Mkdir(sub, 0o700))
		require.NoError(t, os.Chown(sub, 1, 2))
		require.NoError(t, os.Chmod(sub, 0o705|os.ModeSticky))
		require.NoError(t, os.WriteFile(file, []byte("Some data"), 0o200))
		require.NoError(t, os.Chmod(file, 0o222|os.ModeSetuid))
	})
}

func checkBase(t *testing.T, w *world, id string) {
	t.Helper()
	w.in(id, func(dir string) {
		inspect(t, filepath.Join(dir, "a subdir"), unix.S_IFDIR|0o1705, 1, 2)
		inspect(t, filepath.Join(dir, "a file"), unix.S_IFREG|0o4222, 0, 0)
		require.Equal(t, []string{"a file", "a subdir"}, list(t, dir))
	})
}

func createBase(t *testing.T, w *world) {
	makeBase(t, w, "Base")
	checkBase(t, w, "Base")
	w.remove("Base")
}

func createSnap(t *testing.T, w *world) {
	makeBase(t, w, "Base")
	w.must("CreateReadWrite", request{ID: "Snap", Parent: "Base"}, nil)
	checkBase(t, w, "Snap")
	w.remove("Snap", "Base")
}

// deepLayerRead: 128 layers is what overlay2 can have; we have no limit.
func deepLayerRead(t *testing.T, w *world) {
	const depth = 300
	w.create("layer-0", "")
	w.in("layer-0", func(dir string) { write(t, dir, "testfile.txt", "at the bottom") })
	for i := 1; i <= depth; i++ {
		id, parent := fmt.Sprintf("layer-%d", i), fmt.Sprintf("layer-%d", i-1)
		w.create(id, parent)
		w.in(id, func(dir string) {
			write(t, dir, "top-id", id)
			write(t, dir, filepath.Join(id, "layer-id"), id)
			write(t, dir, filepath.Join(id, "parent-id"), parent)
		})
	}
	for _, top := range []int{128, depth} {
		w.in(fmt.Sprintf("layer-%d", top), func(dir string) {
			require.Equal(t, fmt.Sprintf("layer-%d", top), read(t, dir, "top-id"))
			for i := top; i > 0; i-- {
				id := fmt.Sprintf("layer-%d", i)
				require.Equal(t, id, read(t, dir, filepath.Join(id, "layer-id")))
				require.Equal(t, fmt.Sprintf("layer-%d", i-1), read(t, dir, filepath.Join(id, "parent-id")))
			}
			require.Equal(t, "at the bottom", read(t, dir, "testfile.txt"))
		})
	}
	require.Equal(t, []change{{"/layer-300", 1}, {"/layer-300/layer-id", 1}, {"/layer-300/parent-id", 1}, {"/top-id", 0}},
		w.changes("layer-300", "layer-299"))
	for i := depth; i >= 0; i-- {
		w.remove(fmt.Sprintf("layer-%d", i))
	}
}

// manyFiles writes n files of 64 random bytes.
func manyFiles(t *testing.T, dir string, n int, seed int64) {
	t.Helper()
	random := rand.New(rand.NewSource(seed))
	content := make([]byte, 64)
	for i := range n {
		random.Read(content)
		write(t, dir, manyName(i), string(content))
	}
}

func manyName(i int) string { return fmt.Sprintf("directory-%d/file-%d", i/100, i) }

func diffApply(t *testing.T, w *world) {
	const n = 10
	w.create("base", "")
	w.in("base", func(dir string) {
		manyFiles(t, dir, n, 3)
		write(t, dir, "file-remove.txt", "this will be removed")
		require.NoError(t, os.MkdirAll(filepath.Join(dir, "var", "lib"), 0o755))
	})
	w.create("upper", "base")
	w.in("upper", func(dir string) {
		manyFiles(t, dir, n, 6)
		require.NoError(t, os.Remove(filepath.Join(dir, "file-remove.txt")))
		require.NoError(t, os.RemoveAll(filepath.Join(dir, "var")))
	})
	size := w.size("upper", "")
	require.EqualValues(t, n*64, size)
	w.create("diff", "base")
	w.in("diff", func(dir string) { require.Equal(t, "this will be removed", read(t, dir, "file-remove.txt")) })
	applied, err := w.apply("diff", "base", bytes.NewReader(w.diff("upper", "base")))
	require.NoError(t, err)
	require.Equal(t, size, applied)
	w.in("diff", func(dir string) {
		w.in("upper", func(want string) {
			for i := range n {
				require.Equal(t, read(t, want, manyName(i)), read(t, dir, manyName(i)))
			}
		})
		require.NoFileExists(t, filepath.Join(dir, "file-remove.txt"))
		require.NoDirExists(t, filepath.Join(dir, "var"))
		require.ErrorIs(t, os.WriteFile(filepath.Join(dir, "x"), nil, 0o600), unix.EROFS, "an unpacked layer is immutable")
	})
	require.Empty(t, w.changes("diff", "upper"), "two layers with one content")
	w.remove("diff", "upper", "base")
}

func changesExact(t *testing.T, w *world) {
	const n = 20
	w.create("base", "")
	w.in("base", func(dir string) { manyFiles(t, dir, n, 3) })
	w.create("upper", "base")
	var want []change
	w.in("upper", func(dir string) {
		for i := range n {
			name := manyName(i)
			switch i % 3 {
			case 0:
				write(t, dir, name, string(bytes.Repeat([]byte{byte(i)}, 64)))
				want = append(want, change{"/" + name, 0})
			case 1:
				added := fmt.Sprintf("directory-%d/added-%d", i/100, i)
				write(t, dir, added, "new")
				want = append(want, change{"/" + added, 1})
			case 2:
				require.NoError(t, os.Remove(filepath.Join(dir, name)))
				want = append(want, change{"/" + name, 2})
			}
		}
	})
	want = append(want, change{"/directory-0", 0})
	sort.Slice(want, func(i, j int) bool { return want[i].Path < want[j].Path })
	require.Equal(t, want, w.changes("upper", "base"))
	for _, c := range w.changes("base", "") {
		require.Equal(t, 1, c.Kind, "over nothing everything is added")
	}
	w.remove("upper", "base")
}

// setQuota: a container's limit is its own, above that of its image, and holds for
// the image's files and its own.
func setQuota(t *testing.T, w *world) {
	if w.rowsByLabel()["Size Limits"] == "none" {
		t.Skip("this kernel's btrfs has no simple quotas (Linux 6.7)")
	}
	w.create("base", "")
	w.in("base", func(dir string) { write(t, dir, "f", "f") })
	w.fails("below its image's limit", "CreateReadWrite", request{ID: "small", Parent: "base", StorageOpt: map[string]string{"size": "50M"}})
	const limit = limited + 80<<20
	w.must("CreateReadWrite", request{ID: "c-init", Parent: "base", StorageOpt: map[string]string{"size": fmt.Sprint(limit)}}, nil)
	w.must("CreateReadWrite", request{ID: "c", Parent: "c-init", StorageOpt: map[string]string{"SIZE": fmt.Sprint(limit)}}, nil)
	w.in("c", func(dir string) {
		require.NoError(t, fill(filepath.Join(dir, "half"), limit/2))
		err := fill(filepath.Join(dir, "too much"), limit)
		require.True(t, errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT), "%v", err)
		require.NoError(t, os.Remove(filepath.Join(dir, "too much")))
		require.NoError(t, os.Remove(filepath.Join(dir, "half")))
	})
	w.create("others", "base")
	w.remove("others", "c", "c-init", "base")
}

// fill writes n bytes and syncs them.
func fill(path string, n int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	block := make([]byte, 1<<20)
	rand.New(rand.NewSource(n)).Read(block)
	for ; n > 0 && err == nil; n -= int64(len(block)) {
		_, err = f.Write(block)
	}
	return errors.Join(err, f.Sync(), f.Close())
}

// template: a layer that was made as a copy of another, by a diff over the same
// parent, has no changes against it.
func template(t *testing.T, w *world) {
	w.create("base", "")
	w.in("base", func(dir string) { manyFiles(t, dir, 5, 1) })
	w.create("original", "base")
	w.in("original", func(dir string) {
		write(t, dir, "mine", "mine")
		require.NoError(t, os.Remove(filepath.Join(dir, manyName(2))))
	})
	w.create("copy", "base")
	_, err := w.apply("copy", "base", bytes.NewReader(w.diff("original", "base")))
	require.NoError(t, err)
	require.Empty(t, w.changes("copy", "original"))
	require.Equal(t, w.changes("original", "base"), w.changes("copy", "base"))
	w.must("CreateReadWrite", request{ID: "writable", Parent: "copy"}, nil)
	require.Empty(t, w.changes("writable", "copy"))
	require.Equal(t, w.changes("original", "base"), w.changes("writable", "base"))
	w.remove("writable", "copy", "original", "base")
}

// echo: directories that go and come back, at several depths: the classic of
// drivers that keep whiteouts.
func echo(t *testing.T, w *world) {
	deep := func(n int) string { return filepath.Join("d0", filepath.Join(numbered(n)...)) }
	const depth = 5
	for k := range depth {
		w.create("base", "")
		w.in("base", func(dir string) { write(t, dir, filepath.Join(deep(depth), "f"), "first") })
		w.create("middle", "base")
		w.in("middle", func(dir string) { require.NoError(t, os.RemoveAll(filepath.Join(dir, deep(k)))) })
		w.create("top", "middle")
		w.in("top", func(dir string) { write(t, dir, filepath.Join(deep(depth), "g"), "second") })
		gone := "/" + deep(k)
		require.Contains(t, w.changes("middle", "base"), change{gone, 2})
		require.Contains(t, w.changes("top", "middle"), change{gone, 1})
		over := w.changes("top", "base")
		require.Contains(t, over, change{"/" + deep(depth) + "/f", 2})
		require.Contains(t, over, change{"/" + deep(depth) + "/g", 1})
		w.create("again", "base")
		_, err := w.apply("again", "base", bytes.NewReader(w.diff("top", "base")))
		require.NoError(t, err)
		require.Empty(t, w.changes("again", "top"))
		w.remove("again", "top", "middle", "base")
	}
}

func numbered(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("d%d", i+1)
	}
	return names
}

func inspect(t *testing.T, path string, mode, uid, gid uint32) {
	t.Helper()
	var st unix.Stat_t
	require.NoError(t, unix.Lstat(path, &st))
	require.Equal(t, fmt.Sprintf("%o %d:%d", mode, uid, gid), fmt.Sprintf("%o %d:%d", st.Mode, st.Uid, st.Gid), path)
}

func list(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
