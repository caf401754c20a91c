package layertar

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// baseName is the last component of a clean path.
func baseName(p string) string { return p[strings.LastIndexByte(p, '/')+1:] }

// metadataDiffer compares what a tar header says of a path of one type in both trees:
// mode, owner, modification time and extended attributes. The descriptors are those of
// the directories that hold base.
func (c *comparer) metadataDiffer(p pair, lowerFD, upperFD int, base string) (bool, error) {
	l, u := &p.lower.st, &p.upper.st
	if c.untouched(p) {
		return false, nil
	}
	if l.Mode != u.Mode || l.Uid != u.Uid || l.Gid != u.Gid || l.Mtim != u.Mtim {
		return true, nil
	}
	lx, err := listXattrs(lowerFD, base)
	if err != nil {
		return false, err
	}
	ux, err := listXattrs(upperFD, base)
	if err != nil {
		return false, err
	}
	return !slices.Equal(lx, ux), nil
}

// filesDiffer compares a path that is not a directory in upper and is there in lower.
func (c *comparer) filesDiffer(parent, p pair) (bool, error) {
	if p.lower.kind() != p.upper.kind() {
		return true, nil
	}
	if c.untouched(p) {
		return false, nil
	}
	l, u := &p.lower.st, &p.upper.st
	switch p.upper.kind() {
	case unix.S_IFREG, unix.S_IFLNK:
		if l.Size != u.Size {
			return true, nil
		}
	case unix.S_IFCHR, unix.S_IFBLK:
		if l.Rdev != u.Rdev {
			return true, nil
		}
	}
	base := baseName(p.path)
	differ, err := c.metadataDiffer(p, parent.lower.fd, parent.upper.fd, base)
	if differ || err != nil {
		return differ, err
	}
	switch p.upper.kind() {
	case unix.S_IFREG:
		return c.contentDiffers(parent, base, u.Size)
	case unix.S_IFLNK:
		lt, err := readlink(parent.lower.fd, base)
		if err != nil {
			return false, err
		}
		ut, err := readlink(parent.upper.fd, base)
		return lt != ut, err
	}
	return false, nil
}

// contentDiffers reads two files of one size.
func (c *comparer) contentDiffers(parent pair, base string, size int64) (bool, error) {
	if size == 0 {
		return false, nil
	}
	lfd, err := openFile(parent.lower.fd, base)
	if err != nil {
		return false, fmt.Errorf("opening lower file: %w", err)
	}
	defer unix.Close(lfd)
	ufd, err := openFile(parent.upper.fd, base)
	if err != nil {
		return false, fmt.Errorf("opening upper file: %w", err)
	}
	defer unix.Close(ufd)
	if c.bufs[0] == nil {
		c.bufs = [2][]byte{make([]byte, contentBuffer), make([]byte, contentBuffer)}
	}
	for off := int64(0); off < size; {
		if c.ctx.Err() != nil {
			return false, context.Cause(c.ctx)
		}
		n, err := readAt(lfd, c.bufs[0], off)
		if err != nil {
			return false, fmt.Errorf("reading lower file: %w", err)
		}
		m, err := readAt(ufd, c.bufs[1], off)
		if err != nil {
			return false, fmt.Errorf("reading upper file: %w", err)
		}
		if n != m || n == 0 || !bytes.Equal(c.bufs[0][:n], c.bufs[1][:m]) {
			return true, nil
		}
		off += int64(n)
	}
	return false, nil
}

// readAt fills b as far as the file goes.
func readAt(fd int, b []byte, off int64) (int, error) {
	n := 0
	for n < len(b) {
		m, err := pread(fd, b[n:], off+int64(n))
		if err != nil {
			return n, err
		}
		if m == 0 {
			break
		}
		n += m
	}
	return n, nil
}
