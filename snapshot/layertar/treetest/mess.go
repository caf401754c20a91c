package treetest

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// Mess does what containers do to a tree, by chance: all that a comparison may be mistaken about is among it.
type Mess struct {
	R   *rapid.T
	Dir string
}

func (m Mess) must(err error) {
	if err != nil {
		m.R.Fatal(err)
	}
}

// paths lists what is there: directories with the root, or other files.
func (m Mess) paths(dirs bool) (all []string) {
	m.must(filepath.WalkDir(m.Dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() == dirs {
			all = append(all, path)
		}
		return err
	}))
	return all
}

func (m Mess) pick(from []string) string { return rapid.SampledFrom(from).Draw(m.R, "path") }

// place is a name in some directory, mostly free.
func (m Mess) place() string {
	return filepath.Join(m.pick(m.paths(true)), rapid.StringMatching(`[a-d]{1,2}`).Draw(m.R, "name"))
}

func (m Mess) content() []byte {
	size := rapid.SampledFrom([]int{0, 1, 5, 5000, 70_000}).Draw(m.R, "size")
	return bytes.Repeat([]byte{byte(rapid.IntRange('a', 'c').Draw(m.R, "byte"))}, size)
}

// Step does one thing.
func (m Mess) Step() {
	files := m.paths(false)
	acts := []func([]string){
		m.create, m.create, m.mkdir, m.mkdir, m.write, m.overwrite, m.chmod, m.chown, m.xattr, m.touch,
		m.rename, m.rename, m.renameDir, m.renameDir, m.swap, m.link, m.link, m.remove, m.removeDir, m.again, m.replaceDir, m.replaceFile,
		m.copyLink, m.special, m.recreateLike, m.truncate,
	}
	acts[rapid.IntRange(0, len(acts)-1).Draw(m.R, "act")](files)
}

func (m Mess) create([]string) {
	if p := m.place(); !exists(p) {
		m.must(os.WriteFile(p, m.content(), 0o644))
	}
}

func (m Mess) mkdir([]string) {
	p := m.place()
	if !exists(p) {
		m.must(os.MkdirAll(filepath.Join(p, "deep", "er"), 0o755))
		m.must(os.WriteFile(filepath.Join(p, "deep", "er", "file"), m.content(), 0o600))
	}
}

func exists(p string) bool {
	_, err := os.Lstat(p)
	return err == nil
}

// regular picks a file that can be written to; "" is none.
func (m Mess) regular(files []string) string {
	if len(files) == 0 {
		return ""
	}
	p := m.pick(files)
	if st, err := os.Lstat(p); err != nil || !st.Mode().IsRegular() {
		return ""
	}
	return p
}

func (m Mess) write(files []string) {
	if p := m.regular(files); p != "" {
		m.must(os.WriteFile(p, m.content(), 0o644))
	}
}

// overwrite leaves size and modification time, and perhaps even the content.
func (m Mess) overwrite(files []string) {
	p := m.regular(files)
	if p == "" {
		return
	}
	st, err := os.Stat(p)
	m.must(err)
	b := bytes.Repeat([]byte{byte(rapid.IntRange('a', 'c').Draw(m.R, "byte"))}, int(st.Size()))
	f, err := os.OpenFile(p, os.O_WRONLY, 0)
	m.must(err)
	_, err = f.Write(b)
	m.must(errors.Join(err, f.Close(), os.Chtimes(p, st.ModTime(), st.ModTime())))
}

func (m Mess) truncate(files []string) {
	if p := m.regular(files); p != "" {
		m.must(os.Truncate(p, int64(rapid.SampledFrom([]int{0, 4, 100_000}).Draw(m.R, "size"))))
	}
}

func (m Mess) anything(files []string) string { return m.pick(append(m.paths(true), files...)) }

func (m Mess) chmod(files []string) {
	p := m.anything(files)
	if st, err := os.Lstat(p); err == nil && st.Mode()&fs.ModeSymlink == 0 {
		m.must(os.Chmod(p, os.FileMode(rapid.SampledFrom([]int{0o600, 0o755, 0o644}).Draw(m.R, "mode"))))
	}
}

func (m Mess) chown(files []string) {
	m.must(os.Lchown(m.anything(files), rapid.IntRange(0, 1).Draw(m.R, "uid"), 0))
}

func (m Mess) xattr(files []string) {
	p, value := m.anything(files), rapid.SampledFrom([]string{"", "1", "2"}).Draw(m.R, "value")
	var err error
	if value == "" {
		err = unix.Lremovexattr(p, "trusted.test")
	} else {
		err = unix.Lsetxattr(p, "trusted.test", []byte(value), 0)
	}
	if !errors.Is(err, unix.ENODATA) {
		m.must(err)
	}
}

func (m Mess) touch(files []string) {
	at := unix.Timespec{Sec: 1_600_000_000}
	m.must(unix.UtimesNanoAt(unix.AT_FDCWD, m.anything(files), []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW))
}

func (m Mess) rename(files []string) {
	if len(files) == 0 {
		return
	}
	from, to := m.pick(files), m.place()
	if st, err := os.Lstat(to); err != nil || !st.IsDir() {
		m.must(os.Rename(from, to))
	}
}

// renameDir moves a directory with all that is in it.
func (m Mess) renameDir([]string) {
	from, to := m.pick(m.paths(true)), m.place()
	if from != m.Dir && !exists(to) {
		if err := os.Rename(from, to); !errors.Is(err, unix.EINVAL) { // into itself
			m.must(err)
		}
	}
}

// swap exchanges two of anything.
func (m Mess) swap(files []string) {
	a, b := m.anything(files), m.anything(files)
	if a != m.Dir && b != m.Dir && a != b {
		if err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE); !errors.Is(err, unix.EINVAL) {
			m.must(err)
		}
	}
}

func (m Mess) link(files []string) {
	if len(files) == 0 {
		return
	}
	if to := m.place(); !exists(to) {
		m.must(os.Link(m.pick(files), to))
	}
}

// copyLink puts a copy that cannot be told apart in the place of a name.
func (m Mess) copyLink(files []string) {
	p := m.regular(files)
	if p == "" {
		return
	}
	st, err := os.Stat(p)
	m.must(err)
	b, err := os.ReadFile(p)
	m.must(err)
	twin := filepath.Join(filepath.Dir(p), "twin")
	m.must(os.WriteFile(twin, b, 0o600))
	m.must(os.Lchown(twin, int(st.Sys().(*syscall.Stat_t).Uid), 0))
	m.must(os.Chmod(twin, st.Mode().Perm()))
	m.must(os.Chtimes(twin, st.ModTime(), st.ModTime()))
	m.must(os.Rename(twin, p))
}

func (m Mess) remove(files []string) {
	if len(files) > 0 {
		m.must(os.Remove(m.pick(files)))
	}
}

func (m Mess) removeDir([]string) {
	if p := m.pick(m.paths(true)); p != m.Dir {
		m.must(os.RemoveAll(p))
	}
}

// again removes a file and makes another one of the same name.
func (m Mess) again(files []string) {
	if p := m.regular(files); p != "" {
		m.must(os.Remove(p))
		m.must(os.WriteFile(p, m.content(), 0o644))
	}
}

func (m Mess) replaceDir([]string) {
	if p := m.pick(m.paths(true)); p != m.Dir {
		m.must(os.RemoveAll(p))
		m.must(os.WriteFile(p, m.content(), 0o644))
	}
}

func (m Mess) replaceFile(files []string) {
	if len(files) > 0 {
		p := m.pick(files)
		m.must(os.Remove(p))
		m.must(os.MkdirAll(filepath.Join(p, "below"), 0o755))
	}
}

// recreateLike moves a directory away and makes one with the same names in its place.
func (m Mess) recreateLike([]string) {
	p, to := m.pick(m.paths(true)), m.place()
	if p == m.Dir || exists(to) {
		return
	}
	entries, err := os.ReadDir(p)
	m.must(err)
	if err := os.Rename(p, to); errors.Is(err, unix.EINVAL) {
		return
	}
	m.must(os.Mkdir(p, 0o755))
	for _, e := range entries {
		if from := filepath.Join(to, e.Name()); e.Type().IsRegular() && rapid.Bool().Draw(m.R, "link") {
			m.must(os.Link(from, filepath.Join(p, e.Name())))
		} else if e.Type().IsRegular() {
			b, err := os.ReadFile(from)
			m.must(errors.Join(err, os.WriteFile(filepath.Join(p, e.Name()), b, 0o644)))
		}
	}
}

// special makes files of the other kinds.
func (m Mess) special([]string) {
	p := m.place()
	if exists(p) {
		return
	}
	switch rapid.IntRange(0, 3).Draw(m.R, "kind") {
	case 0:
		m.must(os.Symlink(rapid.SampledFrom([]string{"a", "b"}).Draw(m.R, "target"), p))
	case 1:
		m.must(unix.Mknod(p, unix.S_IFSOCK|0o600, 0))
	case 2:
		m.must(unix.Mknod(p, unix.S_IFIFO|0o600, 0))
	default:
		m.must(unix.Mknod(p, unix.S_IFCHR|0o600, int(unix.Mkdev(1, uint32(rapid.IntRange(3, 5).Draw(m.R, "minor"))))))
	}
}
