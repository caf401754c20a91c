package treetest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

type inode struct{ dev, ino uint64 }

// capturer has memory for what is read of one file after the other. In User Mode Linux, where the tests of the drivers run, memory that is
// touched for the first time is as dear as system calls are.
type capturer struct {
	content []byte
	names   []byte // of extended attributes
	value   []byte
}

func capture(dir string) (map[string]Entry, error) {
	c := capturer{make([]byte, 128<<10), make([]byte, 64<<10), make([]byte, 64<<10)}
	tree := map[string]Entry{}
	links := map[inode][]string{}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		entry, id, err := c.path(path)
		if err != nil {
			return fmt.Errorf("capturing %s: %w", path, err)
		}
		tree[rel] = entry
		if entry.Type != "dir" {
			links[id] = append(links[id], rel)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, names := range links {
		if len(names) < 2 {
			continue
		}
		slices.Sort(names)
		for _, name := range names {
			entry := tree[name]
			entry.Links = strings.Join(names, " ")
			tree[name] = entry
		}
	}
	return tree, nil
}

func (c *capturer) path(path string) (Entry, inode, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return Entry{}, inode{}, err
	}
	e := Entry{
		Mode: st.Mode & 0o7777, UID: st.Uid, GID: st.Gid,
		MTime: time.Unix(st.Mtim.Unix()).UTC(),
	}
	var err error
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		e.Type, e.Size = "file", st.Size
		e.SHA256, err = c.hash(path, st.Size)
	case unix.S_IFDIR:
		e.Type = "dir"
	case unix.S_IFLNK:
		e.Type = "symlink"
		e.Target, err = os.Readlink(path)
	case unix.S_IFCHR:
		e.Type = "char"
	case unix.S_IFBLK:
		e.Type = "block"
	case unix.S_IFIFO:
		e.Type = "fifo"
	case unix.S_IFSOCK:
		e.Type = "socket"
	}
	if err != nil {
		return Entry{}, inode{}, err
	}
	if e.Type == "char" || e.Type == "block" {
		e.Rdev = fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	}
	e.Xattrs, err = c.xattrs(path)
	return e, inode{st.Dev, st.Ino}, err
}

// hash reads a file by as few system calls as can be: package os has four more for each that it opens.
func (c *capturer) hash(path string, size int64) (_ string, err error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	h := sha256.New()
	for {
		n, err := unix.Read(fd, c.content)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return "", err
		}
		h.Write(c.content[:n])
		size -= int64(n)
		if n == 0 || size <= 0 && n < len(c.content) { // its end, by a read that says so or by one that had room for more
			return fmt.Sprintf("%x", h.Sum(nil)), nil
		}
	}
}

func (c *capturer) xattrs(path string) (map[string]string, error) {
	n, err := unix.Llistxattr(path, c.names)
	if err != nil || n == 0 {
		if err == unix.ENOTSUP {
			err = nil
		}
		return nil, err
	}
	m := map[string]string{}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(c.names[:n]), "\x00"), "\x00") {
		if name == "security.selinux" || strings.HasPrefix(name, "btrfs.") {
			continue
		}
		n, err := unix.Lgetxattr(path, name, c.value)
		if err != nil {
			return nil, fmt.Errorf("reading attribute %s: %w", name, err)
		}
		m[name] = string(c.value[:n])
	}
	if len(m) == 0 {
		return nil, nil
	}
	return m, nil
}

// Difference returns the first differences between two trees as lines for people, or "".
func Difference(want, got string) string {
	a, err := capture(want)
	if err != nil {
		return err.Error()
	}
	b, err := capture(got)
	if err != nil {
		return err.Error()
	}
	return DifferenceOf(a, b)
}

// DifferenceOf is [Difference] for trees captured before.
func DifferenceOf(want, got map[string]Entry) string {
	const limit = 20
	names := map[string]bool{}
	for n := range want {
		names[n] = true
	}
	for n := range got {
		names[n] = true
	}
	sorted := make([]string, 0, len(names))
	for n := range names {
		sorted = append(sorted, n)
	}
	slices.Sort(sorted)
	var out []string
	for _, n := range sorted {
		w, inWant := want[n]
		g, inGot := got[n]
		if inWant && inGot && reflect.DeepEqual(w, g) {
			continue
		}
		if inWant {
			out = append(out, fmt.Sprintf("- %q %s", n, w))
		}
		if inGot {
			out = append(out, fmt.Sprintf("+ %q %s", n, g))
		}
		if len(out) > limit {
			out = append(out, "...")
			break
		}
	}
	return strings.Join(out, "\n")
}

// String puts the entry on one line.
func (e Entry) String() string {
	s := fmt.Sprintf("%s %04o %d:%d %d %s", e.Type, e.Mode, e.UID, e.GID, e.Size, e.MTime.Format(time.RFC3339Nano))
	if e.Target != "" {
		s += fmt.Sprintf(" -> %q", e.Target)
	}
	if e.Rdev != "" {
		s += " " + e.Rdev
	}
	if len(e.Xattrs) > 0 {
		s += fmt.Sprintf(" %q", e.Xattrs)
	}
	if e.Links != "" {
		s += fmt.Sprintf(" links[%s]", e.Links)
	}
	if e.SHA256 != "" {
		s += " " + e.SHA256[:12]
	}
	return s
}
