package layertar

import (
	"errors"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	dirsOpen  = 64 // directories kept open at a time
	linksMost = 40 // symbolic links on the way to one directory, as in path_resolution(7)
)

// dir is an open directory of the tree. Its modification time is put back when
// it is closed, so that what is unpacked into it leaves no trace in it.
type dir struct {
	fd    int
	path  string // canonical: relative to the root, without symbolic links
	mtime unix.Timespec
	dirty bool
	used  bool // its path is marked as used by this layer
	// new entries would inherit a group or an ACL from it
	inherits bool
	acl      bool
}

// dirs resolves directories beneath a root. Each component is opened on its own
// with O_NOFOLLOW relative to its parent's descriptor; symbolic links are
// read and walked here, with ".." and absolute targets kept within the root. So no
// descriptor ever lies outside, and every directory has one canonical path.
type dirs struct {
	root *dir
	open map[string]*dir // by canonical path, and by path through symbolic links
	seen *seen
	pin  *dir // not to be closed

	links int // symbolic links followed for the path at hand
	// missing makes a directory that has no entry of its own.
	missing func(parent *dir, base string) error
}

func openDirs(root string, s *seen) (*dirs, error) {
	fd, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, reason(err, "opening root "+root)
	}
	ds := &dirs{open: map[string]*dir{}, seen: s}
	ds.root, err = ds.take(fd, ".")
	return ds, err
}

// take makes an open descriptor a dir.
func (ds *dirs) take(fd int, canonical string) (*dir, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return nil, reason(err, "inspecting directory")
	}
	d := &dir{fd: fd, path: canonical, mtime: st.Mtim}
	_, err := unix.Fgetxattr(fd, xattrACLDefault, nil)
	d.setInherits(st.Mode, err == nil)
	ds.open[canonical] = d
	return d, nil
}

func (d *dir) setInherits(mode uint32, acl bool) {
	d.acl = acl
	d.inherits = acl || mode&unix.S_ISGID != 0
}

// join gives the canonical path of a name in d.
func (d *dir) join(base string) string {
	if d.path == "." {
		return base
	}
	return d.path + "/" + base
}

// get opens the directory at a clean path, making what is missing if make is set (else
// the error matches ENOENT).
func (ds *dirs) get(name string, create bool) (*dir, error) {
	if d, ok := ds.open[name]; ok && (d.used || !create) {
		return d, nil
	}
	ds.links = 0
	return ds.walk(name, create)
}

func (ds *dirs) walk(name string, create bool) (*dir, error) {
	if name == "." {
		return ds.root, nil
	}
	if d, ok := ds.open[name]; ok && (d.used || !create) {
		return d, nil
	}
	cur := ds.root
	if parent := path.Dir(name); parent != "." {
		var err error
		if cur, err = ds.walk(parent, create); err != nil {
			return nil, err
		}
	}
	d, err := ds.step(cur, path.Base(name), create)
	if err != nil {
		return nil, err
	}
	if len(ds.open) > dirsOpen {
		if err := ds.flush(d); err != nil {
			return nil, err
		}
	}
	if create {
		ds.open[name] = d // links on the way are marked as used: the name keeps its meaning
	}
	return d, nil
}

// step goes one component down from cur.
func (ds *dirs) step(cur *dir, base string, create bool) (*dir, error) {
	canonical := cur.join(base)
	if create {
		ds.seen.add(canonical, seenUsed)
	}
	if d, ok := ds.open[canonical]; ok && d.path == canonical {
		d.used = d.used || create
		return d, nil
	}
	for {
		fd, err := unix.Openat(cur.fd, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		switch {
		case err == nil:
			d, err := ds.take(fd, canonical)
			if err == nil {
				d.used = create
			}
			return d, err
		case err == unix.EINTR:
			continue
		case err == unix.ENOENT && create:
			if err := ds.missing(cur, base); err != nil {
				return nil, err
			}
		case err == unix.ENOTDIR || err == unix.ELOOP:
			return ds.follow(cur, base, create)
		default:
			return nil, reason(err, "opening parent directory "+quote(canonical))
		}
	}
}

// follow walks the symbolic link base in cur.
func (ds *dirs) follow(cur *dir, base string, create bool) (*dir, error) {
	target, err := readlink(cur.fd, base)
	if errors.Is(err, unix.EINVAL) {
		return nil, reason(ErrMalformed, "its parent "+quote(cur.join(base))+" is not a directory")
	}
	if err != nil {
		return nil, reason(err, "reading symbolic link "+quote(cur.join(base)))
	}
	if ds.links++; ds.links > linksMost {
		return nil, reason(ErrMalformed, "a loop of symbolic links at "+quote(cur.join(base)))
	}
	if strings.HasPrefix(target, "/") {
		cur = ds.root
	}
	for c := range strings.SplitSeq(target, "/") {
		switch c {
		case "", ".":
		case "..":
			cur, err = ds.walk(path.Dir(cur.path), create)
		default:
			cur, err = ds.step(cur, c, create)
		}
		if err != nil {
			return nil, err
		}
	}
	return cur, nil
}

// forget closes everything: paths may mean something else now.
func (ds *dirs) forget() error { return ds.flush(nil) }

// flush closes all directories but the root, keep and the pinned one.
func (ds *dirs) flush(keep *dir) error {
	var first error
	for name, d := range ds.open {
		if d == ds.root || d == keep || d == ds.pin {
			if name != d.path {
				delete(ds.open, name)
			}
			continue
		}
		delete(ds.open, name)
		if d.fd < 0 {
			continue // met under its other name
		}
		if err := d.close(); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// close closes all.
func (ds *dirs) close() error {
	ds.pin = nil
	err := ds.flush(nil)
	if cerr := ds.root.close(); err == nil {
		err = cerr
	}
	return err
}

// close puts the modification time back and closes the descriptor.
func (d *dir) close() error {
	var err error
	if d.dirty {
		err = setTimes(d.fd, ".", unix.Timespec{Nsec: unix.UTIME_OMIT}, d.mtime)
	}
	unix.Close(d.fd)
	d.fd = -1
	if err != nil {
		return reason(err, "setting the time of directory "+quote(d.path))
	}
	return nil
}

func readlink(dirfd int, base string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dirfd, base, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

func setTimes(dirfd int, base string, atime, mtime unix.Timespec) error {
	return unix.UtimesNanoAt(dirfd, base, []unix.Timespec{atime, mtime}, unix.AT_SYMLINK_NOFOLLOW)
}
