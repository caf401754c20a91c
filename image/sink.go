package image

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"time"
)

// sink takes the files of an archive.
type sink interface {
	// file takes a file; write must write exactly h.size bytes.
	file(h fileHeader, write func(io.Writer) error) error
	// link takes a symbolic link.
	link(name, target string, at time.Time) error
}

type fileHeader struct {
	name  string
	size  int64
	mtime time.Time
}

// tarSink writes a tar. Owners are root, modes and times are given: nothing of
// the machine gets in.
type tarSink struct {
	buf  *bufio.Writer
	tar  *tar.Writer
	dirs map[string]bool
}

func newTarSink(w io.Writer) *tarSink {
	buf := bufio.NewWriterSize(w, copyBuffer)
	return &tarSink{buf: buf, tar: tar.NewWriter(buf), dirs: map[string]bool{}}
}

// parents writes the directories above a name.
func (t *tarSink) parents(name string) error {
	dir := path.Dir(name)
	if dir == "." || t.dirs[dir] {
		return nil
	}
	if err := t.parents(dir); err != nil {
		return err
	}
	t.dirs[dir] = true
	return t.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755, ModTime: epoch()})
}

func (t *tarSink) file(h fileHeader, write func(io.Writer) error) error {
	if err := t.parents(h.name); err != nil {
		return err
	}
	header := tar.Header{Typeflag: tar.TypeReg, Name: h.name, Size: h.size, Mode: 0o644, ModTime: h.mtime}
	if err := t.tar.WriteHeader(&header); err != nil {
		return err
	}
	if err := write(t.tar); err != nil {
		return err
	}
	if err := t.tar.Flush(); err != nil {
		return fmt.Errorf("%s: %w", h.name, err) // fewer bytes than promised
	}
	return nil
}

func (t *tarSink) link(name, target string, at time.Time) error {
	if err := t.parents(name); err != nil {
		return err
	}
	return t.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777, ModTime: at})
}

// close ends the tar; the caller's writer stays open.
func (t *tarSink) close() error {
	if err := t.tar.Close(); err != nil {
		return err
	}
	return t.buf.Flush()
}

// dirSink writes into a directory that nobody else uses.
type dirSink struct{ root *os.Root }

func (d dirSink) file(h fileHeader, write func(io.Writer) error) (err error) {
	if err := d.root.MkdirAll(path.Dir(h.name), 0o755); err != nil {
		return err
	}
	f, err := d.root.OpenFile(h.name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size := &sizeWriter{w: f}
	if err := write(size); err != nil {
		return err
	}
	if size.n != h.size {
		return fmt.Errorf("%s: %d bytes instead of %d", h.name, size.n, h.size)
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return d.root.Chtimes(h.name, h.mtime, h.mtime)
}

func (d dirSink) link(name, target string, _ time.Time) error {
	if err := d.root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	return d.root.Symlink(target, name)
}
