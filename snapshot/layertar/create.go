package layertar

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"math"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// file is what an entry is about to become.
type file struct {
	dir      *dir
	base     string
	hdr      *tar.Header
	mode     uint32 // permission bits with setuid, setgid and sticky
	uid, gid int
	xattrs   []xattr
	atime    unix.Timespec
	mtime    unix.Timespec
}

// prepare takes the metadata out of the header.
func (a *applier) prepare(f *file) error {
	hdr := f.hdr
	f.mode = uint32(hdr.Mode) & 0o7777
	f.uid, f.gid = hdr.Uid, hdr.Gid
	if a.opts.Owners != nil {
		var err error
		if f.uid, f.gid, err = a.opts.Owners(f.uid, f.gid); err != nil {
			return reason(err, "mapping the owner")
		}
	}
	// (uid_t)-1 means "leave it" to chown(2), so it is no owner.
	if f.uid < 0 || f.gid < 0 || f.uid >= math.MaxUint32 || f.gid >= math.MaxUint32 {
		return reason(ErrMalformed, fmt.Sprintf("impossible owner %d:%d", f.uid, f.gid))
	}
	var foreign int
	var err error
	if f.xattrs, foreign, err = headerXattrs(hdr); err != nil {
		return err
	}
	a.done.IgnoredXattrs += foreign
	f.mtime = timespec(hdr.ModTime)
	// Without a time of its own the access time must not be younger than the inode's
	// change time anyhow; a constant one makes trees alike.
	f.atime = f.mtime
	if !hdr.AccessTime.IsZero() {
		f.atime = timespec(hdr.AccessTime)
	}
	return nil
}

func timespec(t time.Time) unix.Timespec {
	if t.IsZero() {
		return unix.Timespec{}
	}
	return unix.Timespec{Sec: t.Unix(), Nsec: int64(t.Nanosecond())}
}

// chownNeeded tells whether a new file would get another owner by itself.
func (a *applier) chownNeeded(f file) bool {
	return f.dir.inherits || f.uid != a.uid || f.gid != a.gid
}

// chmodNeeded tells whether a new file would get another mode by itself.
func (a *applier) chmodNeeded(f file) bool {
	return f.dir.inherits || f.mode&^0o777 != 0 || f.mode&a.umask != 0
}

// makeFile creates a regular file. raw keeps its content in the split data.
func (a *applier) makeFile(f file, raw bool) error {
	fd, err := a.createFile(f)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if f.hdr.Size > 0 {
		// A sparse entry's bytes are its map and its fragments, not the file's content.
		raw = raw || isSparse(f.hdr)
		if !raw {
			a.rec.beginContent()
		}
		if err := writeContent(a.ctx, fd, a.tar, f.hdr.Size, a.buf); err != nil {
			if a.rec.srcErr != nil || !errors.As(err, new(*reasonError)) && a.ctx.Err() == nil {
				return a.readError(err, "reading content")
			}
			return err
		}
		if !raw {
			if err := a.rec.endContent(f.hdr.Name, f.hdr.Size); err != nil {
				return err
			}
		}
	}
	if a.chownNeeded(f) {
		if err := unix.Fchown(fd, f.uid, f.gid); err != nil {
			return reason(err, "setting the owner")
		}
	}
	if f.dir.acl {
		if err := unix.Fremovexattr(fd, xattrACLAccess); err != nil && !errors.Is(err, unix.ENODATA) {
			return reason(err, "removing the inherited ACL")
		}
	}
	if a.chmodNeeded(f) {
		if err := unix.Fchmod(fd, f.mode); err != nil {
			return reason(err, "setting the mode")
		}
	}
	for _, x := range f.xattrs {
		if err := a.setXattr(x, false, unix.Fsetxattr(fd, x.name, []byte(x.value), 0)); err != nil {
			return err
		}
	}
	return a.finish(f)
}

func isSparse(hdr *tar.Header) bool {
	if hdr.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for k := range hdr.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return true
		}
	}
	return false
}

func (a *applier) createFile(f file) (int, error) {
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	for {
		fd, err := unix.Openat(f.dir.fd, f.base, flags, f.mode&0o777)
		switch {
		case err == nil:
			return fd, nil
		case err == unix.EINTR:
		case err == unix.EEXIST:
			if err := a.remove(f.dir, f.base); err != nil {
				return -1, err
			}
		default:
			return -1, reason(err, "creating file")
		}
	}
}

// replace makes something with make, removing what is in its place first.
func (a *applier) replace(f file, what string, create func() error) error {
	for {
		err := create()
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EEXIST):
			if err := a.remove(f.dir, f.base); err != nil {
				return err
			}
		default:
			return reason(err, what)
		}
	}
}

func (a *applier) makeSymlink(f file, name string) error {
	if err := checkSymlink(name, f.hdr.Linkname); err != nil {
		return err
	}
	err := a.replace(f, "creating symbolic link", func() error {
		return unix.Symlinkat(f.hdr.Linkname, f.dir.fd, f.base)
	})
	if err != nil {
		return err
	}
	f.mode = 0o777 // has no meaning on a link
	return a.attributes(f, false)
}

func (a *applier) makeNode(f file) error {
	mode, dev := f.mode&0o777, uint64(0)
	switch f.hdr.Typeflag {
	case tar.TypeFifo:
		mode |= unix.S_IFIFO
	case tar.TypeChar:
		mode |= unix.S_IFCHR
	case tar.TypeBlock:
		mode |= unix.S_IFBLK
	}
	if f.hdr.Typeflag != tar.TypeFifo {
		if a.opts.NoDevices {
			return reason(ErrDevice, fmt.Sprintf("device %d:%d", f.hdr.Devmajor, f.hdr.Devminor))
		}
		// The kernel's dev_t has 12 bits for the major and 20 for the minor number.
		if f.hdr.Devmajor < 0 || f.hdr.Devmajor >= 1<<12 || f.hdr.Devminor < 0 || f.hdr.Devminor >= 1<<20 {
			return reason(ErrMalformed, fmt.Sprintf("impossible device %d:%d", f.hdr.Devmajor, f.hdr.Devminor))
		}
		dev = unix.Mkdev(uint32(f.hdr.Devmajor), uint32(f.hdr.Devminor))
	}
	err := a.replace(f, "creating node", func() error {
		return unix.Mknodat(f.dir.fd, f.base, mode, int(dev))
	})
	if err != nil {
		return err
	}
	return a.attributes(f, true)
}

// makeLink creates a hard link. The entry's other metadata repeat those of the file
// and are not used.
func (a *applier) makeLink(f file) error {
	target, err := cleanLink(f.hdr.Linkname)
	if err != nil {
		return err
	}
	missing := reason(ErrMalformed, "hard link to a missing file "+quote(f.hdr.Linkname))
	from, err := a.dirs.get(path.Dir(target), false)
	if errors.Is(err, unix.ENOENT) {
		return missing
	}
	if err != nil {
		return err
	}
	base := path.Base(target)
	if from == f.dir && base == f.base {
		return reason(ErrMalformed, "hard link to itself")
	}
	var st unix.Stat_t
	err = unix.Fstatat(from.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case errors.Is(err, unix.ENOENT):
		return missing
	case err != nil:
		return reason(err, "inspecting "+quote(f.hdr.Linkname))
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return reason(ErrMalformed, "hard link to the directory "+quote(f.hdr.Linkname))
	}
	err = unix.Linkat(from.fd, base, f.dir.fd, f.base, 0)
	if errors.Is(err, unix.EEXIST) {
		if err = a.remove(f.dir, f.base); err != nil {
			return err
		}
		// Removing a directory closed what was open, and may have removed the target.
		if from, err = a.dirs.get(path.Dir(target), false); err == nil {
			err = unix.Linkat(from.fd, base, f.dir.fd, f.base, 0)
		}
	}
	if errors.Is(err, unix.ENOENT) {
		return missing
	}
	if err != nil {
		return reason(err, "creating hard link to "+quote(f.hdr.Linkname))
	}
	return nil
}

// attributes sets owner, mode, extended attributes and times of a new symbolic link,
// node or directory.
func (a *applier) attributes(f file, chmod bool) error {
	if a.chownNeeded(f) {
		if err := unix.Fchownat(f.dir.fd, f.base, f.uid, f.gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return reason(err, "setting the owner")
		}
	}
	if f.dir.acl && chmod {
		if err := a.dropXattrs(f, xattrACLAccess, xattrACLDefault); err != nil {
			return err
		}
	}
	if chmod && a.chmodNeeded(f) {
		if err := unix.Fchmodat(f.dir.fd, f.base, f.mode, 0); err != nil {
			return reason(err, "setting the mode")
		}
	}
	if err := a.setXattrs(f); err != nil {
		return err
	}
	return a.finish(f)
}

func (a *applier) setXattrs(f file) error {
	special := f.hdr.Typeflag != tar.TypeDir
	for _, x := range f.xattrs {
		err := unix.Lsetxattr(at(f.dir.fd, f.base), x.name, []byte(x.value), 0)
		if err := a.setXattr(x, special, err); err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) setXattr(x xattr, special bool, err error) error {
	ignored, err := checkSet(x, special, err)
	if ignored {
		a.done.IgnoredXattrs++
	}
	return err
}

func (a *applier) dropXattrs(f file, names ...string) error {
	for _, n := range names {
		err := unix.Lremovexattr(at(f.dir.fd, f.base), n)
		if err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.ENOTSUP) {
			return reason(err, "removing extended attribute "+quote(n))
		}
	}
	return nil
}

// finish sets the times, after everything that would change them.
func (a *applier) finish(f file) error {
	if err := setTimes(f.dir.fd, f.base, f.atime, f.mtime); err != nil {
		return reason(err, "setting the times")
	}
	if a.ctx.Err() != nil {
		return context.Cause(a.ctx)
	}
	return nil
}
