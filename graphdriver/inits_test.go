package graphdriver

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot"
)

// dockerInit does to an init layer what dockerd does, by ADR 14: its own paths are there afterwards, in the place of what was no
// directory.
func dockerInit(t *testing.T, dir string) {
	t.Helper()
	place := func(name string) (at string, free bool) {
		at = filepath.Join(dir, name)
		for above := filepath.Dir(name); above != "."; above = filepath.Dir(above) {
			clearUnlessDir(t, filepath.Join(dir, above))
		}
		clearUnlessDir(t, at)
		require.NoError(t, os.MkdirAll(filepath.Dir(at), 0o755))
		_, err := os.Lstat(at)
		return at, os.IsNotExist(err)
	}
	for _, name := range []string{"proc", "sys", "dev/pts", "dev/shm"} {
		if at, free := place(name); free {
			require.NoError(t, os.Mkdir(at, 0o755))
		}
	}
	for _, name := range []string{".dockerenv", "dev/console", "etc/hostname", "etc/hosts", "etc/resolv.conf"} {
		if at, free := place(name); free {
			require.NoError(t, os.WriteFile(at, nil, 0o755))
		}
	}
	if at, free := place("etc/mtab"); free {
		require.NoError(t, os.Symlink("/proc/mounts", at))
	}
}

func clearUnlessDir(t *testing.T, path string) {
	t.Helper()
	if st, err := os.Lstat(path); err == nil && !st.IsDir() {
		require.NoError(t, os.Remove(path))
	}
}

// container makes a container of an image as dockerd does, and returns what it stands on.
func (w *world) container(id, image string, init func(dir string)) string {
	w.t.Helper()
	w.create(id+initSuffix, image)
	w.in(id+initSuffix, init)
	w.create(id, id+initSuffix)
	in, err := w.store.Stat(w.t.Context(), Name(id))
	require.NoError(w.t, err)
	require.True(w.t, w.exists(id+initSuffix))
	return in.Parent
}

func (w *world) uncontainer(ids ...string) {
	w.t.Helper()
	for _, id := range ids {
		w.remove(id, id+initSuffix)
		require.False(w.t, w.exists(id+initSuffix))
	}
}

// inits lists the directories that dockerd was shown and that are left.
func (w *world) inits() []string {
	w.t.Helper()
	w.plugin.calls.Wait()
	entries, err := os.ReadDir(w.plugin.dir)
	require.NoError(w.t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestSharedInit(t *testing.T) { sharedInit(t, directories(t)) }

// sharedInit: containers of an image stand on one init layer of the image's. What Docker asks of them is as with one of
// their own.
func sharedInit(t *testing.T, w *world) {
	image := hex("a")
	w.create(image, "")
	w.in(image, func(dir string) {
		write(t, dir, "etc/passwd", "root")
		write(t, dir, "etc/hosts", "the image's")
	})
	ids := []string{hex("b"), hex("c"), hex("d")}
	on := map[string]bool{}
	for _, id := range ids {
		on[w.container(id, image, func(dir string) { dockerInit(t, dir) })] = true
		require.Empty(t, w.changes(id, id+initSuffix))
		w.in(id, func(dir string) {
			require.Empty(t, read(t, dir, "etc/hosts"))
			require.Equal(t, "root", read(t, dir, "etc/passwd"))
			write(t, dir, "etc/new", "new")
			require.NoError(t, os.Remove(filepath.Join(dir, ".dockerenv")))
		})
		require.Equal(t, []change{{"/.dockerenv", 2}, {"/etc", 0}, {"/etc/new", 1}}, w.changes(id, id+initSuffix))
	}
	require.Len(t, on, 1)
	require.Empty(t, w.inits())
	require.Equal(t, w.size(ids[0], ids[0]+initSuffix), w.size(ids[2], ids[2]+initSuffix))
	require.False(t, w.exists(hex("9")+initSuffix))
	w.fails("stands on it", "Remove", request{ID: image})
	w.uncontainer(ids...)
	w.remove(image)
	for name := range on {
		_, err := w.store.Stat(t.Context(), name)
		require.ErrorIs(t, err, snapshot.ErrNotFound, "it goes with the image")
	}
}

// TestSharedInitIsDockers: what is in a container is what dockerd would have written over the image, whatever is in that.
func TestSharedInitIsDockers(t *testing.T) {
	images := map[string]func(t *testing.T, dir string){
		"nothing": func(*testing.T, string) {},
		"ordinary": func(t *testing.T, dir string) {
			write(t, dir, "etc/passwd", "root")
			write(t, dir, "etc/hosts", "the image's")
			write(t, dir, "proc/left", "by somebody")
			require.NoError(t, os.Chmod(filepath.Join(dir, "etc"), 0o700))
			require.NoError(t, os.Chown(filepath.Join(dir, "proc"), 5, 6))
			require.NoError(t, os.Symlink("elsewhere", filepath.Join(dir, "etc/mtab")))
			require.NoError(t, os.MkdirAll(filepath.Join(dir, "dev"), 0o755))
			require.NoError(t, unix.Mknod(filepath.Join(dir, "dev/console"), unix.S_IFCHR|0o600, int(unix.Mkdev(5, 1))))
		},
		"links out of it": func(t *testing.T, dir string) {
			for _, name := range []string{"etc", "dev", "proc", ".dockerenv"} {
				require.NoError(t, os.Symlink("../../../../../../../../../tmp", filepath.Join(dir, name)))
			}
		},
		"directories for files, and files for directories": func(t *testing.T, dir string) {
			for _, name := range []string{"etc/hosts", "etc/mtab", ".dockerenv", "dev/console/x"} {
				require.NoError(t, os.MkdirAll(filepath.Join(dir, name), 0o750))
			}
			write(t, dir, "proc", "a file")
			write(t, dir, "sys", "a file")
		},
	}
	for what, fill := range images {
		t.Run(what, func(t *testing.T) {
			w := directories(t)
			image := hex("a")
			w.create(image, "")
			w.in(image, func(dir string) { fill(t, dir) })
			expected := t.TempDir()
			require.NoError(t, os.Chmod(expected, 0o755))
			fill(t, expected)
			dockerInit(t, expected)
			w.container(hex("b"), image, func(dir string) { dockerInit(t, dir) })
			w.in(hex("b"), func(dir string) { require.Equal(t, described(t, expected), described(t, dir)) })
			w.uncontainer(hex("b"))
			w.remove(image)
		})
	}
}

// described is what a tree holds but for its times, by path.
func described(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		require.NoError(t, err)
		var st unix.Stat_t
		require.NoError(t, unix.Lstat(path, &st))
		content := ""
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			content = read(t, path, "")
		case unix.S_IFLNK:
			content, err = os.Readlink(path)
			require.NoError(t, err)
		}
		name, err := filepath.Rel(dir, path)
		require.NoError(t, err)
		all[name] = strings.Join([]string{os.FileMode(st.Mode).String(), content}, " ") + " " + string(rune('0'+st.Uid)) + string(rune('0'+st.Gid))
		return nil
	}))
	return all
}

// TestSharedInitDiffers: what is written otherwise, as by another dockerd, is another init layer.
func TestSharedInitDiffers(t *testing.T) {
	w := directories(t)
	image := hex("a")
	w.create(image, "")
	ids, on := []string{}, map[string]string{}
	for i, change := range []func(dir string) error{
		func(string) error { return nil },
		func(dir string) error { return os.WriteFile(filepath.Join(dir, "etc/more"), nil, 0o644) },
		func(dir string) error { return os.Remove(filepath.Join(dir, "etc/hosts")) },
		func(dir string) error { return os.Chmod(filepath.Join(dir, "dev/shm"), 0o700) },
		func(dir string) error { return os.Chown(filepath.Join(dir, "etc/hosts"), 7, 7) },
		func(dir string) error { return os.WriteFile(filepath.Join(dir, "etc/hosts"), []byte("x"), 0o644) },
		func(dir string) error {
			return os.Rename(filepath.Join(dir, "etc/mtab"), filepath.Join(dir, "etc/mtab2"))
		},
	} {
		id := strings.Repeat(string(rune('1'+i)), 64)
		name := w.container(id, image, func(dir string) { dockerInit(t, dir); require.NoError(t, change(dir)) })
		require.Empty(t, on[name], "container %d", i)
		on[name], ids = id, append(ids, id)
	}
	w.create(hex("b")+initSuffix, image)
	w.in(hex("b")+initSuffix, func(dir string) { require.NoError(t, unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600)) })
	w.fails("dockerd has put", "Create", request{ID: hex("b"), Parent: hex("b") + initSuffix})
	w.remove(hex("b") + initSuffix)
	w.uncontainer(ids...)
	w.remove(image)
}

// TestSharedInitSizes: a container may be larger than the init layer.
func TestSharedInitSizes(t *testing.T) {
	w := directories(t)
	image := hex("a")
	w.create(image, "")
	on := w.container(hex("b"), image, func(dir string) { dockerInit(t, dir) })
	larger := map[string]string{"size": "2000g"}
	w.must("CreateReadWrite", request{ID: hex("d") + initSuffix, Parent: image, StorageOpt: larger}, nil)
	w.in(hex("d")+initSuffix, func(dir string) { dockerInit(t, dir) })
	w.must("CreateReadWrite", request{ID: hex("d"), Parent: hex("d") + initSuffix, StorageOpt: larger}, nil)
	in, err := w.store.Stat(t.Context(), Name(hex("d")))
	require.NoError(t, err)
	require.Equal(t, on, in.Parent)
	require.Equal(t, int64(2000<<30), in.Volume.Size)
	w.fails("size", "CreateReadWrite", request{ID: hex("e") + initSuffix, Parent: image, StorageOpt: map[string]string{"size": "x"}})
	w.uncontainer(hex("b"), hex("d"))
	w.remove(image)
}

// TestSharedInitRestart: what dockerd has written outlives the server, and not the dockerd.
func TestSharedInitRestart(t *testing.T) {
	w := directories(t)
	image := hex("a")
	w.create(image, "")
	w.create(hex("b")+initSuffix, image)
	dir := w.get(hex("b") + initSuffix)
	w.restart()
	require.Equal(t, dir, w.get(hex("b")+initSuffix))
	dockerInit(t, dir)
	w.put(hex("b") + initSuffix)
	w.put(hex("b") + initSuffix)
	w.restart()
	w.fails("exists", "Create", request{ID: hex("b") + initSuffix, Parent: image})
	w.create(hex("b"), hex("b")+initSuffix)
	require.Empty(t, w.inits())
	w.create(hex("b"), hex("b")+initSuffix) // its answer was lost
	require.Empty(t, w.changes(hex("b"), hex("b")+initSuffix))
	w.in(hex("b"), func(string) {})
	w.fails("exists", "Create", request{ID: hex("b"), Parent: hex("b") + initSuffix})

	require.NoError(t, os.Mkdir(filepath.Join(w.plugin.dir, hex("c")+initSuffix), 0o700)) // by a process that died over it
	w.create(hex("c")+initSuffix, image)
	w.create(hex("d")+initSuffix, image)
	w.remove(hex("c")+initSuffix, hex("c")+initSuffix)
	require.False(t, w.exists(hex("c")+initSuffix))
	require.Equal(t, []string{hex("d") + initSuffix}, w.inits())
	w.must("Init", request{Home: w.home}, nil)
	require.Empty(t, w.inits())
	require.False(t, w.exists(hex("d")+initSuffix))
	w.fails("not found", "Create", request{ID: hex("e") + initSuffix, Parent: hex("9")})
	w.uncontainer(hex("b"))
	w.remove(image)
}

// TestSharedInitCutShort: one whose making was cut short is no layer, and is made anew; or it goes with the image.
func TestSharedInitCutShort(t *testing.T) {
	w := directories(t)
	image := hex("a")
	w.create(image, "")
	name := w.container(hex("b"), image, func(dir string) { dockerInit(t, dir) })
	w.uncontainer(hex("b"))
	require.NoError(t, w.store.Discard(t.Context(), name))
	left := snapshot.CreateRequest{Parent: Name(image), FreezeParent: true, Labels: map[string]string{labelInit: "x"}}
	_, err := w.store.Create(t.Context(), name, left)
	require.NoError(t, err)
	require.Equal(t, name, w.container(hex("c"), image, func(dir string) { dockerInit(t, dir) }))
	w.in(hex("c"), func(dir string) { require.DirExists(t, filepath.Join(dir, "dev/shm")) })
	w.uncontainer(hex("c"))
	require.NoError(t, w.store.Discard(t.Context(), name))
	_, err = w.store.Create(t.Context(), name, left)
	require.NoError(t, err)
	w.remove(image)
}

// TestSharedInitAtOnce: many containers of an image, the first among them, made at once.
func TestSharedInitAtOnce(t *testing.T) {
	w := directories(t)
	image := hex("a")
	w.create(image, "")
	var all sync.WaitGroup
	var ids []string
	for i := range 32 {
		id := strings.Repeat(string(rune('A'+i)), 64)
		ids = append(ids, id)
		all.Go(func() { w.container(id, image, func(dir string) { dockerInit(t, dir) }) })
	}
	all.Wait()
	above, err := w.store.Children(t.Context(), Name(image))
	require.NoError(t, err)
	require.Len(t, above, 1)
	on, err := w.store.Children(t.Context(), above[0].Name)
	require.NoError(t, err)
	require.Len(t, on, len(ids))
	w.uncontainer(ids...)
	w.remove(image)
}

// TestSharedInitCounts: such a container is one commit and, where spares are kept, no snapshot.
func TestSharedInitCounts(t *testing.T) {
	w := directories(t)
	w.store.KeepSpares()
	image := hex("a")
	w.create(image, "")
	for _, id := range []string{"1", "2", "3"} {
		w.container(hex(id), image, func(dir string) { dockerInit(t, dir) })
	}
	require.Eventually(t, func() bool { return w.store.Spares().Ready >= 8 }, 10*time.Second, time.Millisecond, "spares of the init layer")
	spares, commits := w.store.Spares(), w.store.CatalogCounts().Commits
	w.container(hex("5"), image, func(dir string) { dockerInit(t, dir) })
	require.Equal(t, commits+1, w.store.CatalogCounts().Commits)
	require.Equal(t, spares.Taken+1, w.store.Spares().Taken)
	for _, id := range []string{"1", "2", "3", "5"} {
		w.uncontainer(hex(id))
	}
	w.remove(image)
}

// TestSharedInitOrphans: an image's init layer is forgotten when the image is.
func TestSharedInitOrphans(t *testing.T) {
	w := directories(t)
	image, id := hex("a"), hex("b")
	w.create(image, "")
	on := w.container(id, image, func(dir string) { dockerInit(t, dir) })
	w.docker("image/blockstore/layerdb/sha256/"+hex("1")+"/cache-id", image)
	w.docker("image/blockstore/layerdb/mounts/"+hex("2")+"/mount-id", id)
	w.docker("image/blockstore/layerdb/mounts/"+hex("2")+"/init-id", id+initSuffix)
	require.Empty(t, w.orphans())
	w.uncontainer(id)
	require.Empty(t, w.orphans(), "the image is known, and the next container stands on it")
	w.docker("image/blockstore/layerdb/sha256/"+hex("1")+"/cache-id", hex("f"))
	require.Equal(t, []string{on, Name(image)}, w.orphans(), "from the top down")
	w.remove(image)
}
