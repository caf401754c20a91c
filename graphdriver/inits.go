package graphdriver

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"blockstore.dev/blockstore/snapshot"
)

// Below each container dockerd makes a layer of its own, the init layer, and writes into it before it makes the container.
// What it writes is the same for all containers of an image. So it is shown an empty directory, and the containers stand on
// one layer of the image's that has on it what was written there; see ADR 14.

// labelInit is the label of an image's init layer: the sum of what dockerd has written.
const labelInit = "docker.init"

// imageInit is the id of the init layer that containers of an image share, by the id of the image's last layer and the sum of
// what dockerd has written. Docker has no such ids.
func imageInit(layer, sum string) string { return layer + "-" + sum[:12] + initSuffix }

// isImageInit says whether a snapshot is an image's init layer, or was to become one.
func isImageInit(in snapshot.Info) bool { return in.Labels[labelInit] != "" }

// written is what dockerd has been shown as a container's init layer: a directory of the door's with the tree, and a symbolic
// link to the id of the layer below. It outlives the process, and goes when the container is made, when Docker removes the
// init layer, and when a dockerd begins.
type written string

func (p *Plugin) written(id string) written { return written(filepath.Join(p.dir, id)) }

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
	err := os.Mkdir(string(w), 0o700)
	if err == nil {
		err = errors.Join(os.Mkdir(w.tree(), 0o755), os.Symlink(layer, filepath.Join(string(w), "below")))
	}
	if err != nil {
		err = errors.Join(err, w.remove())
	}
	return err
}

func (w written) remove() error { return os.RemoveAll(string(w)) }

// createInit makes what dockerd is shown as a container's init layer.
func (p *Plugin) createInit(ctx context.Context, q request) error {
	if _, err := p.store.Stat(ctx, Name(q.Parent)); err != nil {
		return fmt.Errorf("parent: %w", err)
	}
	if p.hasInit(ctx, q.ID) {
		return fmt.Errorf("init layer %q: %w", q.ID, snapshot.ErrExists)
	}
	return p.written(q.ID).make(q.Parent)
}

// forgetInits removes what dockerds before this one have written and made no containers of.
func (p *Plugin) forgetInits() {
	entries, err := os.ReadDir(p.dir)
	for _, e := range entries {
		err = errors.Join(err, p.written(e.Name()).remove())
	}
	if err != nil {
		p.log.Warn("what an earlier dockerd wrote into init layers is left", "error", err)
	}
}

// hasInit says whether Docker made an init layer and has not removed it.
func (p *Plugin) hasInit(ctx context.Context, id string) bool {
	container, ok := strings.CutSuffix(id, initSuffix)
	if !ok {
		return false
	}
	if _, ok, _ := p.written(id).below(); ok {
		return true
	}
	in, err := p.store.Stat(ctx, Name(container))
	if err != nil || in.Parent == "" {
		return false
	}
	in, err = p.store.Stat(ctx, in.Parent)
	return err == nil && isImageInit(in)
}

// createContainer makes a container on its image's init layer, which is made first where there is none. made is for the
// container on the image.
func (p *Plugin) createContainer(ctx context.Context, q request, made snapshot.CreateRequest) error {
	w := p.written(q.Parent)
	sum, err := w.sum()
	if err != nil {
		return err
	}
	layer, _ := ID(made.Parent)
	shared := imageInit(layer, sum)
	if err := p.needInit(ctx, w, shared, sum, made); err != nil {
		return err
	}
	made.Parent, made.FreezeParent = Name(shared), false
	if _, err := p.store.Create(ctx, Name(q.ID), made); err != nil {
		return err
	}
	p.calls.Go(func() { _ = w.remove() }) // what stays goes with the next dockerd
	return nil
}

// needInit makes an image's init layer, if there is none. It replaces what a process has left that died over it.
func (p *Plugin) needInit(ctx context.Context, w written, id, sum string, made snapshot.CreateRequest) (err error) {
	_, unlock := p.refs.lock(id) // one makes it, and the others find it
	defer unlock()
	in, err := p.store.Stat(ctx, Name(id))
	switch {
	case err == nil && in.Kind == snapshot.KindLayer:
		return nil
	case err == nil:
		err = p.store.Discard(ctx, Name(id))
	case errors.Is(err, snapshot.ErrNotFound):
		err = nil
	}
	if err != nil {
		return err
	}
	made.Size, made.Scratch = 0, true
	made.Labels = map[string]string{labelHome: made.Labels[labelHome], labelInit: sum}
	if _, err := p.store.Create(ctx, Name(id), made); err != nil {
		return err
	}
	dir, release, err := p.store.Use(ctx, Name(id))
	if err == nil {
		err = errors.Join(w.writeTo(dir), release())
	}
	if err == nil {
		_, err = p.store.Freeze(ctx, Name(id), snapshot.FreezeRequest{Labels: made.Labels})
	}
	if err != nil {
		err = errors.Join(err, p.store.Discard(context.WithoutCancel(ctx), Name(id)))
	}
	return err
}

// discard is Discard of a layer and of the init layers that were made of it for an image's containers, of which Docker
// does not know.
func (p *Plugin) discard(ctx context.Context, id string) error {
	err := p.store.Discard(ctx, Name(id))
	if !errors.Is(err, snapshot.ErrBusy) {
		return err
	}
	above, listErr := p.store.Children(ctx, Name(id))
	if listErr != nil {
		return errors.Join(err, listErr)
	}
	for _, in := range above {
		if isImageInit(in) {
			if err := p.store.Discard(ctx, in.Name); err != nil && !errors.Is(err, snapshot.ErrNotFound) {
				return err
			}
		}
	}
	return p.store.Discard(ctx, Name(id))
}

// below is the name of what a layer is compared with. A container's init layer is what the container stands on.
func (p *Plugin) below(ctx context.Context, q request) (string, error) {
	if q.Parent != q.ID+initSuffix {
		return parentName(q.Parent), nil
	}
	in, err := p.store.Stat(ctx, Name(q.ID))
	return in.Parent, err
}

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
