package drivertest

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// treeCases change a tree layer by layer and compare it with a plain directory
// that saw the same changes.
func treeCases() []testCase {
	var all []testCase
	steps := layered()
	for _, name := range slices.Sorted(maps.Keys(steps)) {
		all = append(all, testCase{name: name, run: func(t *testing.T, e *env) { e.layers(steps[name]...) }})
	}
	return append(all, testCase{name: "SameSecondUpdates", run: sameSecondUpdates})
}

// step changes a tree.
type step func(e *env, dir string)

// layers makes one layer per step and compares tree and replayed tars with a
// plain directory after each.
func (e *env) layers(steps ...step) {
	e.t.Helper()
	flat := filepath.Join(e.dir, "flat")
	e.ok(os.Mkdir(flat, 0o755))
	defer func() { e.ok(os.RemoveAll(flat)) }()
	parent := ""
	for i, change := range steps {
		change(e, flat)
		var written map[string]entry
		layer := e.layer(parent, func(dir string) {
			change(e, dir)
			written = e.capture(dir)
		})
		e.same(withoutTimes(e.capture(flat)), withoutTimes(written), fmt.Sprintf("step %d against a plain directory", i))
		e.same(written, e.tree(layer.Name), fmt.Sprintf("the layer of step %d against the container that it was made from", i))
		e.same(written, e.replayed(parent, layer.Name), fmt.Sprintf("the tar of step %d on top of its parent", i))
		parent = layer.Name
	}
}

func withoutTimes(tree map[string]entry) map[string]entry {
	plain := map[string]entry{}
	for name, en := range tree {
		en.MTime = time.Time{}
		plain[name] = en
	}
	return plain
}

func at(dir, name string) string { return filepath.Join(dir, name) }

// layered are the cases by name.
func layered() map[string][]step {
	etc := func(e *env, dir string) {
		e.write(dir, "etc/hosts", "127.0.0.1 localhost")
		e.write(dir, "etc/profile", "profile")
		e.write(dir, "usr/share/doc/readme", "read me")
		e.write(dir, "var/log/a/b/c", "deep")
	}
	return map[string][]step{
		"FileUpdate": {
			etc,
			func(e *env, dir string) { e.write(dir, "etc/hosts", "127.0.0.1 otherhost") },
			func(e *env, dir string) { e.write(dir, "etc/hosts", "short") },
		},
		"RemoveDirectoryInLowerLayer": {
			etc,
			func(e *env, dir string) { e.ok(os.RemoveAll(at(dir, "var/log"))) },
			func(e *env, dir string) { e.write(dir, "var/log/new", "new") },
			func(e *env, dir string) { e.ok(os.RemoveAll(at(dir, "var"))); e.write(dir, "var", "a file now") },
			func(e *env, dir string) { e.ok(os.Remove(at(dir, "var"))); e.write(dir, "var/x", "a directory again") },
		},
		"Chown": {
			etc,
			func(e *env, dir string) { e.ok(os.Chown(at(dir, "etc/hosts"), 70000, 1<<31)) },
			func(e *env, dir string) { e.ok(os.Chown(at(dir, "etc"), 5, 6)) },
			func(e *env, dir string) { e.ok(os.Chown(dir, 1, 1)) },
		},
		"DirectoryPermissions": {
			etc,
			func(e *env, dir string) { e.ok(unix.Chmod(at(dir, "var"), 0o1777)) },
			func(e *env, dir string) { e.ok(unix.Chmod(at(dir, "var/log"), 0o2750)); e.write(dir, "var/log/f", "f") },
			func(e *env, dir string) { e.ok(unix.Chmod(dir, 0o711)) },
		},
		"DeletedFilesInChild": {
			etc,
			func(e *env, dir string) { e.ok(os.Remove(at(dir, "etc/hosts"))) },
			func(e *env, dir string) { e.write(dir, "etc/hosts", "back"); e.ok(os.Remove(at(dir, "etc/profile"))) },
		},
		"MoveFromLowerLayer": {
			etc,
			func(e *env, dir string) {
				e.ok(os.Rename(at(dir, "etc/hosts"), at(dir, "etc/moved")))
				e.ok(os.Rename(at(dir, "usr/share/doc/readme"), at(dir, "readme")))
			},
			func(e *env, dir string) { e.ok(os.Rename(at(dir, "etc/moved"), at(dir, "etc/hosts"))) },
		},
		"RenameLowerDirectory": {
			etc,
			func(e *env, dir string) { e.ok(os.Rename(at(dir, "var/log"), at(dir, "var/logs"))) },
			func(e *env, dir string) {
				e.ok(os.Rename(at(dir, "etc"), at(dir, "old")))
				e.ok(os.Rename(at(dir, "usr"), at(dir, "etc")))
			},
		},
		"RootPermission": {
			func(e *env, dir string) { e.mode(dir, ".", unix.S_IFDIR|0o755, 0, 0) },
			func(e *env, dir string) { e.ok(os.Chmod(dir, 0o700)) },
		},
		"XattrsOnly": {
			etc,
			func(e *env, dir string) {
				e.ok(unix.Setxattr(at(dir, "etc/hosts"), "user.a", []byte("1"), 0))
				e.ok(unix.Setxattr(at(dir, "etc/hosts"), "trusted.b", []byte{0, 1, 0xff}, 0))
			},
			func(e *env, dir string) { e.ok(unix.Setxattr(at(dir, "etc/hosts"), "user.a", []byte("2"), 0)) },
			func(e *env, dir string) {
				e.ok(unix.Setxattr(at(dir, "etc/profile"), "security.capability", capNetRaw(), 0))
				e.ok(unix.Setxattr(at(dir, "etc"), "user.dir", nil, 0))
			},
			func(e *env, dir string) {
				e.ok(unix.Removexattr(at(dir, "etc/hosts"), "user.a"))
				e.ok(unix.Removexattr(at(dir, "etc"), "user.dir"))
			},
		},
		"HardLinksAcrossLayers": {
			func(e *env, dir string) {
				e.write(dir, "one", "shared")
				e.ok(os.Link(at(dir, "one"), at(dir, "two")))
				e.write(dir, "alone", "alone")
			},
			func(e *env, dir string) { e.ok(os.Link(at(dir, "one"), at(dir, "three"))) },
			func(e *env, dir string) { e.ok(os.Link(at(dir, "alone"), at(dir, "sub-alone"))) },
			func(e *env, dir string) { e.ok(os.Remove(at(dir, "one"))) },
			func(e *env, dir string) {
				e.ok(os.WriteFile(at(dir, "two"), []byte("changed through one name"), 0o644))
			},
			func(e *env, dir string) { // same content, not the same file any more
				e.ok(os.Remove(at(dir, "three")))
				e.write(dir, "three", "changed through one name")
			},
		},
		"SpecialFiles": {
			func(e *env, dir string) {
				e.ok(unix.Mkfifo(at(dir, "fifo"), 0o640))
				e.ok(unix.Mknod(at(dir, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
				e.ok(unix.Mknod(at(dir, "disk"), unix.S_IFBLK|0o660, int(unix.Mkdev(259, 70000))))
				e.ok(os.Symlink("/etc/passwd", at(dir, "link")))
				e.ok(os.Symlink("loop", at(dir, "loop")))
			},
			func(e *env, dir string) {
				e.ok(os.Remove(at(dir, "null")))
				e.ok(unix.Mknod(at(dir, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))))
				e.ok(os.Remove(at(dir, "link")))
				e.ok(os.Symlink("/etc/shadow", at(dir, "link")))
				e.ok(os.Lchown(at(dir, "loop"), 3, 4))
			},
			func(e *env, dir string) { e.ok(os.Remove(at(dir, "fifo"))); e.write(dir, "fifo", "a file now") },
		},
		"NamesAndSizes": {
			func(e *env, dir string) {
				e.write(dir, "empty", "")
				e.write(dir, "bytes \xff\xfe", "not UTF-8")
				e.write(dir, fmt.Sprintf("%0250d", 1), "long name")
				e.write(dir, filepath.Join(longPath(), "f"), "long path")
				e.ok(os.WriteFile(at(dir, "large"), noise(1, 3<<20), 0o644))
				e.ok(os.WriteFile(at(dir, "sparse"), []byte("head"), 0o644))
				e.ok(os.Truncate(at(dir, "sparse"), 40<<20))
			},
			func(e *env, dir string) { patch(e, at(dir, "large"), 1<<20, "four") },
			func(e *env, dir string) { patch(e, at(dir, "sparse"), 30<<20, "data in the hole") },
		},
	}
}

func longPath() string {
	p := ""
	for i := range 12 {
		p = filepath.Join(p, fmt.Sprintf("%040d", i))
	}
	return p
}

// patch overwrites bytes in the middle of a file.
func patch(e *env, path string, offset int64, data string) {
	e.t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	e.ok(err)
	_, err = f.WriteAt([]byte(data), offset)
	e.ok(err)
	e.ok(f.Close())
}

// capNetRaw is a file capability as setcap(8) writes it: cap_net_raw=ep,
// version 2 of struct vfs_cap_data (linux/capability.h).
func capNetRaw() []byte {
	return []byte{1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
}

// sameSecondUpdates overwrites a file with content of the same size in the same
// second, layer by layer.
func sameSecondUpdates(t *testing.T, e *env) {
	parent := e.layer("", func(dir string) { e.write(dir, "f", "0") }).Name
	for i := 1; i <= 5; i++ {
		content := fmt.Sprint(i)
		layer := e.layer(parent, func(dir string) { e.write(dir, "f", content) })
		e.in(layer.Name, func(dir string) { require.Equal(t, content, e.read(dir, "f")) })
		e.in(parent, func(dir string) { require.Equal(t, fmt.Sprint(i-1), e.read(dir, "f")) })
		changes, err := e.s.Changes(e.ctx(), layer.Name)
		require.NoError(t, err)
		require.Equal(t, []string{"/f C"}, changeLines(changes))
		parent = layer.Name
	}
}
