package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"blockstore.dev/blockstore/internal/durable"
	"blockstore.dev/blockstore/snapshot"
)

// SaveTo writes images to path: a file, or a directory for SaveOCIDir. It is there
// whole and durable, or not at all: it is made beside path under a temporary
// name. A file that exists is replaced; a directory that exists must be empty; a
// device or a pipe is written to.
func SaveTo(ctx context.Context, s Saver, refs []string, path string, o SaveOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	if o.Format == SaveOCIDir {
		return WriteDir(path, func(root *os.Root) error { return saveInto(ctx, s, refs, dirSink{root}, o) })
	}
	return WriteFile(path, func(w io.Writer) error { return Save(ctx, s, refs, w, o) })
}

// WriteFile makes the file path whole and durable, or leaves what was there:
// write writes to a temporary file in the same directory, which then takes the
// name (rename(2)). Only its owner may read it: an image can hold secrets. A path
// that is no regular file is written to as it is.
func WriteFile(path string, write func(io.Writer) error) error {
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case st.IsDir():
		return &fs.PathError{Op: "write", Path: path, Err: errors.New("is a directory")}
	case !st.Mode().IsRegular():
		return writeThrough(path, write)
	default:
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return err
		}
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(noSpace(err), os.Remove(f.Name()))
	}
	return durable.Dir(filepath.Dir(path))
}

func writeThrough(path string, write func(io.Writer) error) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return write(f)
}

// WriteDir makes the directory path whole and durable, or not at all, like
// WriteFile. What is there already must be an empty directory.
func WriteDir(path string, write func(*os.Root) error) error {
	path = filepath.Clean(path)
	entries, err := os.ReadDir(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(entries) > 0 {
		return fmt.Errorf("%s %w and is not empty: name a new directory", path, snapshot.ErrExists)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	if err = fillDir(tmp, write); err == nil {
		err = os.Rename(tmp, path) // replaces an empty directory: rename(2)
	}
	if err != nil {
		return errors.Join(noSpace(err), os.RemoveAll(tmp))
	}
	return durable.Dir(filepath.Dir(path))
}

// fillDir has a directory filled and makes it durable.
func fillDir(dir string, write func(*os.Root) error) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	if err := errors.Join(write(root), root.Close()); err != nil {
		return err
	}
	return syncTree(dir)
}

// syncTree makes the names in a directory tree durable.
func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		return durable.Dir(path)
	})
}
