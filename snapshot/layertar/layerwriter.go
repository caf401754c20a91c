package layertar

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// layerWriter writes the records of a comparison as a tar.
type layerWriter struct {
	ctx   context.Context
	opts  DiffOptions
	dirs  *dirs
	tar   *tar.Writer
	first map[inode]string // names under which inodes with several names were written
	buf   []byte
	done  Diffed
}

func writeLayer(ctx context.Context, upper string, records []record, w io.Writer, opts DiffOptions) (_ Diffed, err error) {
	ds, err := openDirs(upper, nil)
	if err != nil {
		return Diffed{}, err
	}
	defer func() { err = errors.Join(err, ds.close()) }()
	l := &layerWriter{
		ctx: ctx, opts: opts, dirs: ds, tar: tar.NewWriter(w),
		first: map[inode]string{}, buf: make([]byte, contentBuffer),
	}
	for _, r := range records {
		if ctx.Err() != nil {
			return l.done, context.Cause(ctx)
		}
		if err := l.record(r); err != nil {
			return l.done, fmt.Errorf("%q: %w", r.path, err)
		}
	}
	return l.done, l.tar.Close()
}

func (l *layerWriter) record(r record) error {
	if r.out == outNothing {
		return nil
	}
	dir, base := path.Dir(r.path), baseName(r.path)
	if strings.HasPrefix(base, whiteoutPrefix) && r.out != outOpaque {
		return reason(ErrUnrepresentable, `names that begin with ".wh." mean deletions there; rename it`)
	}
	switch r.out {
	case outWhiteout:
		return l.header(&tar.Header{Typeflag: tar.TypeReg, Name: path.Join(dir, whiteoutPrefix+base), ModTime: time.Unix(0, 0)})
	case outOpaque:
		return l.header(&tar.Header{Typeflag: tar.TypeReg, Name: r.path, ModTime: time.Unix(0, 0)})
	}
	d, err := l.dirs.get(dir, false)
	if err != nil {
		return gone(err)
	}
	return l.entry(d, base, r.path)
}

// gone turns the error for a file that was there when the trees were compared.
func gone(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return reason(ErrChanged, "it vanished")
	}
	return err
}

func (l *layerWriter) header(hdr *tar.Header) error {
	hdr.Format = tar.FormatPAX
	if err := l.tar.WriteHeader(hdr); err != nil {
		if errors.Is(err, tar.ErrHeader) || errors.Is(err, tar.ErrFieldTooLong) {
			return fmt.Errorf("%w: %w", ErrUnrepresentable, err)
		}
		return err
	}
	l.done.Entries++
	l.done.Size += hdr.Size
	return nil
}

// entry writes one file.
func (l *layerWriter) entry(d *dir, base, name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(d.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return gone(err)
	}
	hdr := &tar.Header{
		Name: name, Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid),
		ModTime: time.Unix(st.Mtim.Unix()),
	}
	if latest := l.opts.Latest; !latest.IsZero() && hdr.ModTime.After(latest) {
		hdr.ModTime = latest
	}
	if l.opts.Owners != nil {
		var err error
		if hdr.Uid, hdr.Gid, err = l.opts.Owners(hdr.Uid, hdr.Gid); err != nil {
			return fmt.Errorf("mapping the owner: %w", err)
		}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR && st.Nlink > 1 {
		id := inode{st.Dev, st.Ino}
		if first, ok := l.first[id]; ok {
			hdr.Typeflag, hdr.Linkname = tar.TypeLink, first
			return l.header(hdr)
		}
		l.first[id] = name
	}
	xattrs, err := listXattrs(d.fd, base)
	if err != nil {
		return gone(err)
	}
	if len(xattrs) > 0 {
		hdr.PAXRecords = make(map[string]string, len(xattrs))
		for _, x := range xattrs {
			hdr.PAXRecords[paxXattr+paxEncode.Replace(x.name)] = x.value
		}
	}
	return l.typed(d, base, hdr, &st)
}

func (l *layerWriter) typed(d *dir, base string, hdr *tar.Header, st *unix.Stat_t) error {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return l.file(d, base, hdr, st)
	case unix.S_IFDIR:
		hdr.Typeflag = tar.TypeDir
		hdr.Name += "/"
	case unix.S_IFLNK:
		hdr.Typeflag = tar.TypeSymlink
		target, err := readlink(d.fd, base)
		if err != nil {
			return gone(err)
		}
		hdr.Linkname = target
	case unix.S_IFCHR, unix.S_IFBLK:
		hdr.Typeflag = tar.TypeChar
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			hdr.Typeflag = tar.TypeBlock
		}
		hdr.Devmajor, hdr.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	case unix.S_IFIFO:
		hdr.Typeflag = tar.TypeFifo
	default:
		return reason(ErrChanged, "it became a socket")
	}
	return l.header(hdr)
}

// file writes a regular file, and makes sure that header and content are of one moment.
func (l *layerWriter) file(d *dir, base string, hdr *tar.Header, st *unix.Stat_t) error {
	hdr.Typeflag, hdr.Size = tar.TypeReg, st.Size
	fd := -1
	if st.Size > 0 {
		var err error
		if fd, err = openFile(d.fd, base); err != nil {
			return gone(err)
		}
		defer unix.Close(fd)
		if err := unchanged(fd, st); err != nil {
			return err
		}
	}
	if err := l.header(hdr); err != nil {
		return err
	}
	for off := int64(0); off < st.Size; {
		if l.ctx.Err() != nil {
			return context.Cause(l.ctx)
		}
		n, err := readAt(fd, l.buf[:min(int64(len(l.buf)), st.Size-off)], off)
		if err != nil {
			return fmt.Errorf("reading: %w", err)
		}
		if n == 0 {
			return reason(ErrChanged, "it shrank while it was read")
		}
		if _, err := l.tar.Write(l.buf[:n]); err != nil {
			return err
		}
		off += int64(n)
	}
	if fd < 0 {
		return nil
	}
	return unchanged(fd, st)
}

// unchanged compares a file with what it was before. Any write moves the change time.
func unchanged(fd int, st *unix.Stat_t) error {
	var now unix.Stat_t
	if err := unix.Fstat(fd, &now); err != nil {
		return err
	}
	if now.Dev != st.Dev || now.Ino != st.Ino || now.Mode != st.Mode || now.Size != st.Size ||
		now.Mtim != st.Mtim || now.Ctim != st.Ctim {
		return reason(ErrChanged, "it changed while it was read")
	}
	return nil
}
