package graphdriver

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"blockstore.dev/blockstore/snapshot"
)

// written is what dockerd has been shown as a container's init layer: a directory of the door's with the tree, and a symbolic
// link to the id of the layer below. It outlives the process, and goes when the container is made, when Docker removes the
// init layer, and when a dockerd begins.
type written string

func (w written) tree() string { return filepath.Join(string(w), "tree") }

// below is the id of the layer below, and whether there is such a directory at all.
func (w written) below() (layer string, ok bool, err error) {
	layer, err = os.Readlink(filepath.Join(string(w), "below"))
	if errors.Is(err, os.ErrNotExist) {
		return "", false, nil
	}
	return layer, err == nil, err
}

func (w written) make(layer string) error {
	if err := os.Mkdir(string(w), 0o700); err != nil {
		return err
	}
	err := errors.Join(os.Mkdir(w.tree(), 0o755), os.Symlink(layer, filepath.Join(string(w), "below")))
	if err != nil {
		err = errors.Join(err, w.remove())
	}
	return err
}

// end notes that the container is made: there is no layer below any more.
func (w written) end() error { return os.Remove(filepath.Join(string(w), "below")) }

func (w written) remove() error { return os.RemoveAll(string(w)) }

// sum sums up all that dockerd has written: kind, mode, owner and content of each file.
func (w written) sum() (string, error) {
	sum := sha256.New()
	err := w.each(func(name string, f initFile) error {
		_, err := fmt.Fprintf(sum, "%q %o %d:%d %q\n", name, f.mode, f.uid, f.gid, f.content)
		return err
	})
	return fmt.Sprintf("%x", sum.Sum(nil)), err
}

// initFile is one of those that dockerd writes: a directory, a symbolic link or a small file.
type initFile struct {
	mode     fs.FileMode
	uid, gid int
	content  string // or where the link leads
}

// maxInitFile bounds what dockerd writes into a file. It writes nothing.
const maxInitFile = 1 << 20

// each calls fn for each file, directories before what is in them.
func (w written) each(fn func(name string, f initFile) error) error {
	return filepath.WalkDir(w.tree(), func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == w.tree() {
			return err
		}
		name, err := filepath.Rel(w.tree(), path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		f := initFile{mode: info.Mode(), uid: int(st.Uid), gid: int(st.Gid)}
		switch {
		case f.mode.IsDir():
		case f.mode.Type() == fs.ModeSymlink:
			f.content, err = os.Readlink(path)
		case f.mode.IsRegular() && info.Size() == 0: // as dockerd's are
		case f.mode.IsRegular() && info.Size() <= maxInitFile:
			var raw []byte
			raw, err = os.ReadFile(path)
			f.content = string(raw)
		default:
			err = fmt.Errorf("dockerd has put %s of %d bytes into an init layer, %s: %w", f.mode, info.Size(), name, snapshot.ErrNotSupported)
		}
		if err != nil {
			return err
		}
		return fn(name, f)
	})
}

// writeTo does to an image's tree what dockerd did to the empty directory. As dockerd would it leaves directories that are there as
// they are, and puts all else in the place of what is there and is no directory; moby's daemon/initlayer.
func (w written) writeTo(dir string) error {
	root, err := os.OpenRoot(dir) // an image may have links to anywhere
	if err != nil {
		return err
	}
	err = w.each(func(name string, f initFile) error {
		switch there, err := root.Lstat(name); {
		case err == nil && there.IsDir():
			return nil
		case err == nil:
			err = root.Remove(name)
			if err != nil {
				return err
			}
		case !errors.Is(err, os.ErrNotExist):
			return err
		}
		return f.writeTo(root, name)
	})
	return errors.Join(err, root.Close())
}

func (f initFile) writeTo(root *os.Root, name string) (err error) {
	switch {
	case f.mode.IsDir():
		err = root.Mkdir(name, 0o700)
	case f.mode.IsRegular():
		err = root.WriteFile(name, []byte(f.content), 0o600)
	default:
		return errors.Join(root.Symlink(f.content, name), root.Lchown(name, f.uid, f.gid))
	}
	return errors.Join(err, root.Lchown(name, f.uid, f.gid), root.Chmod(name, f.mode))
}
