package peers

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/perf"
)

// copies are directories, each a copy of its parent.
type copies struct {
	root    string
	reflink string // cp's --reflink
}

func openCopies(kind, reflink string) func(context.Context, *Site) (Store, error) {
	return func(ctx context.Context, s *Site) (Store, error) {
		root, err := s.fileSystem(ctx, kind)
		return copies{root, reflink}, err
	}
}

func (c copies) path(name string) string { return filepath.Join(c.root, name) }

func (c copies) Layer(ctx context.Context, name, parent string, fill func(string) error) error {
	if parent == "" {
		if err := os.Mkdir(c.path(name), 0o755); err != nil {
			return err
		}
	} else if err := c.Create(ctx, name, parent); err != nil {
		return err
	}
	return errors.Join(fill(c.path(name)), written(c.root))
}

func (c copies) Create(ctx context.Context, name, layer string) error {
	_, err := perf.Output(ctx, "cp", "-a", "--reflink="+c.reflink, c.path(layer), c.path(name))
	return err
}

func (c copies) Mount(_ context.Context, name string) (string, error) { return c.path(name), nil }
func (c copies) Unmount(context.Context, string) error                { return nil }
func (c copies) Remove(_ context.Context, name string) error          { return os.RemoveAll(c.path(name)) }

// plain is a file system: a container is the layer's directory under a second name.
type plain struct{ copies }

func openPlain(kind string) func(context.Context, *Site) (Store, error) {
	return func(ctx context.Context, s *Site) (Store, error) {
		root, err := s.fileSystem(ctx, kind)
		return plain{copies{root: root}}, err
	}
}

func (p plain) Layer(ctx context.Context, name, parent string, fill func(string) error) error {
	if parent != "" {
		return ErrCannot
	}
	return p.copies.Layer(ctx, name, "", fill)
}

func (p plain) Create(_ context.Context, name, layer string) error {
	return os.Symlink(layer, p.path(name))
}

func (p plain) Mount(_ context.Context, name string) (string, error) {
	return filepath.EvalSymlinks(p.path(name))
}

// Remove takes a name away, and a layer with its files.
func (p plain) Remove(_ context.Context, name string) error {
	err := unix.Unlink(p.path(name))
	if errors.Is(err, unix.EISDIR) {
		return os.RemoveAll(p.path(name))
	}
	return err
}
