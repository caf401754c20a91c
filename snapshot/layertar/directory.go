package layertar

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// rootEntry gives the root itself owner, mode, attributes and times.
func (a *applier) rootEntry(hdr *tar.Header) error {
	if hdr.Typeflag != tar.TypeDir {
		return reason(ErrMalformed, "the root must be a directory")
	}
	f := file{dir: a.dirs.root, base: ".", hdr: hdr}
	if err := a.prepare(&f); err != nil {
		return err
	}
	return a.mergeDir(f)
}

// makeDir creates a directory or gives an existing one new metadata.
func (a *applier) makeDir(f file, flags seenFlags) error {
	for {
		err := unix.Mkdirat(f.dir.fd, f.base, f.mode&0o777)
		switch {
		case err == nil:
			f.dir.dirty = true
			return a.attributes(f, true)
		case err == unix.EINTR:
			continue
		case err != unix.EEXIST:
			return reason(err, "creating directory")
		}
		var st unix.Stat_t
		if err := unix.Fstatat(f.dir.fd, f.base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return reason(err, "inspecting what is in its place")
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return a.mergeDir(f)
		}
		if flags&seenUsed != 0 {
			return reason(ErrDuplicate, "this layer used the symbolic link in its place as a directory")
		}
		f.dir.dirty = true
		if err := a.remove(f.dir, f.base); err != nil {
			return err
		}
	}
}

// mergeDir gives an existing directory the metadata of an entry: all of them,
// so that attributes which the entry lacks are removed.
func (a *applier) mergeDir(f file) error {
	if err := unix.Fchownat(f.dir.fd, f.base, f.uid, f.gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return reason(err, "setting the owner")
	}
	old, err := listXattrs(f.dir.fd, f.base)
	if err != nil {
		return reason(err, "replacing metadata")
	}
	for _, x := range old {
		if !slices.ContainsFunc(f.xattrs, func(n xattr) bool { return n.name == x.name }) {
			if err := a.dropXattrs(f, x.name); err != nil {
				return err
			}
		}
	}
	if err := unix.Fchmodat(f.dir.fd, f.base, f.mode, 0); err != nil {
		return reason(err, "setting the mode")
	}
	if err := a.setXattrs(f); err != nil {
		return err
	}
	name := "."
	if f.base != "." {
		name = f.dir.join(f.base)
	}
	// If it is open, its time is set when it is closed.
	if d, ok := a.dirs.open[name]; ok && d.path == name {
		d.mtime = f.mtime
		d.dirty = true
		d.setInherits(f.mode, hasXattr(f.xattrs, xattrACLDefault))
	}
	return a.finish(f)
}

func hasXattr(list []xattr, name string) bool {
	return slices.ContainsFunc(list, func(x xattr) bool { return x.name == name })
}

// missingParent makes a directory that only other entries' names speak of: 0755, root's,
// and as old as the epoch, so that the tree depends on nothing but the layers.
func (a *applier) missingParent(parent *dir, base string) error {
	if err := unix.Mkdirat(parent.fd, base, 0o755); err != nil {
		return reason(err, "creating missing parent directory "+quote(parent.join(base)))
	}
	parent.dirty = true
	f, err := a.plainDir(parent, base)
	if err != nil {
		return err
	}
	return a.attributes(f, true)
}

func (a *applier) plainDir(parent *dir, base string) (file, error) {
	f := file{dir: parent, base: base, hdr: &tar.Header{Typeflag: tar.TypeDir, Mode: 0o755}}
	err := a.prepare(&f)
	return f, err
}

// whiteout removes what the layers below have at base in d.
func (a *applier) whiteout(d *dir, base string) error {
	canonical := d.join(base)
	flags := a.seen.get(canonical)
	if flags&seenFile != 0 {
		return nil // it took the place of what was below
	}
	if flags == 0 {
		return a.remove(d, base)
	}
	// This layer wrote into it. Whatever the order, only that stays.
	if err := a.dirs.forget(); err != nil {
		return err
	}
	return a.hideBelow(d, base, flags)
}

// opaque removes everything in d that this layer did not write.
func (a *applier) opaque(d *dir) error {
	if err := a.dirs.forget(); err != nil {
		return err
	}
	d.dirty = true
	return a.hide(d)
}

// hide removes everything in d that this layer did not write.
func (a *applier) hide(d *dir) error {
	names, err := readNames(d.fd)
	if err != nil {
		return reason(err, "reading directory "+quote(d.path))
	}
	for _, name := range names {
		flags := a.seen.get(d.join(name))
		switch {
		case flags&seenFile != 0:
		case flags == 0:
			if err := a.remove(d, name); err != nil {
				return err
			}
		default:
			if err := a.hideBelow(d, name, flags); err != nil {
				return err
			}
		}
	}
	return nil
}

// hideBelow hides what the layers below have in a directory that this layer wrote into.
func (a *applier) hideBelow(d *dir, base string, flags seenFlags) error {
	fd, err := unix.Openat(d.fd, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOTDIR) {
		return reason(ErrDuplicate, "this layer used the symbolic link "+quote(d.join(base))+" as a directory and hides it")
	}
	if err != nil {
		return reason(err, "opening directory "+quote(d.join(base)))
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return reason(err, "inspecting directory")
	}
	sub := &dir{fd: fd, path: d.join(base), mtime: st.Mtim, dirty: true}
	herr := a.hide(sub)
	if err := sub.close(); herr == nil {
		herr = err
	}
	if herr != nil || flags&seenDir != 0 {
		return herr
	}
	f, err := a.plainDir(d, base)
	if err != nil {
		return err
	}
	return a.mergeDir(f)
}

// remove removes base in d with all below it; nothing there is no error.
func (a *applier) remove(d *dir, base string) error {
	var st unix.Stat_t
	err := unix.Fstatat(d.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return reason(err, "inspecting "+quote(d.join(base)))
	}
	d.dirty = true
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR, unix.S_IFLNK:
		if err := a.dirs.forget(); err != nil { // a path on which others were opened
			return err
		}
	}
	if err := removeAll(d.fd, base); err != nil {
		return reason(err, "removing "+quote(d.join(base)))
	}
	return nil
}

// removeAll removes base in dirfd with all below it, following nothing.
func removeAll(dirfd int, base string) error {
	err := unix.Unlinkat(dirfd, base, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) {
		return err
	}
	fd, oerr := unix.Openat(dirfd, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if oerr != nil {
		return err
	}
	defer unix.Close(fd)
	names, err := readNames(fd)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := removeAll(fd, name); err != nil {
			return err
		}
	}
	return unix.Unlinkat(dirfd, base, unix.AT_REMOVEDIR)
}

// readNames lists an open directory from its beginning, in no order.
func readNames(fd int) ([]string, error) {
	all, err := readDir(fd)
	names := make([]string, len(all))
	for i, d := range all {
		names[i] = d.name
	}
	return names, err
}

// dirent is a name in a directory, with what getdents64(2) says of its file.
type dirent struct {
	name  string
	inode uint64
	kind  uint8 // DT_REG and so on
}

func (d dirent) compare(other dirent) int { return strings.Compare(d.name, other.name) }

// Offsets in struct linux_dirent64, see getdents(2).
const (
	direntLength = 16
	direntKind   = 18
	direntName   = 19
)

// readDir lists an open directory from its beginning, in no order, without "." and "..".
func readDir(fd int) ([]dirent, error) {
	if _, err := unix.Seek(fd, 0, 0); err != nil {
		return nil, err
	}
	var all []dirent
	buf := make([]byte, 32<<10)
	for {
		n, err := unix.ReadDirent(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		if n <= 0 {
			return all, nil
		}
		for b := buf[:n]; len(b) > direntName; {
			length := int(binary.NativeEndian.Uint16(b[direntLength:]))
			name, _, _ := bytes.Cut(b[direntName:length], []byte{0})
			if s := string(name); s != "." && s != ".." {
				all = append(all, dirent{name: s, inode: binary.NativeEndian.Uint64(b), kind: b[direntKind]})
			}
			b = b[length:]
		}
	}
}
