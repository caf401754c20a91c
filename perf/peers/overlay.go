package peers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"blockstore.dev/blockstore/snapshot/mount"
)

// overlay keeps a directory for what each layer and container has of its own. It
// does what Docker's and containerd's drivers do for that, and keeps no records.
type overlay struct {
	root    string
	mu      sync.Mutex
	parents map[string]string
}

func openOverlay(kind string) func(context.Context, *Site) (Store, error) {
	return func(ctx context.Context, s *Site) (Store, error) {
		root, err := s.fileSystem(ctx, kind)
		return &overlay{root: root, parents: map[string]string{}}, err
	}
}

func (o *overlay) path(name, what string) string { return filepath.Join(o.root, name, what) }

// Upper is where overlay keeps what a container changed.
func (o *overlay) Upper(name string) string { return o.path(name, "upper") }

func (o *overlay) parent(name string) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.parents[name]
}

func (o *overlay) Layer(ctx context.Context, name, parent string, fill func(string) error) error {
	if err := o.Create(ctx, name, parent); err != nil {
		return err
	}
	if parent == "" {
		return errors.Join(fill(o.path(name, "upper")), written(o.root))
	}
	dir, err := o.Mount(ctx, name)
	if err != nil {
		return err
	}
	return errors.Join(fill(dir), o.Unmount(ctx, name), written(o.root))
}

func (o *overlay) Create(_ context.Context, name, layer string) error {
	if err := os.Mkdir(filepath.Join(o.root, name), 0o755); err != nil {
		return err
	}
	for _, what := range []string{"upper", "work", "merged"} {
		if err := os.Mkdir(o.path(name, what), 0o755); err != nil {
			return err
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.parents[name] = layer
	return nil
}

func (o *overlay) Mount(_ context.Context, name string) (string, error) {
	var lower []string
	for at := o.parent(name); at != ""; at = o.parent(at) {
		lower = append(lower, o.path(at, "upper"))
	}
	m := mount.Mount{Type: "overlay", Source: "overlay", Options: []string{
		"noatime", "lowerdir=" + strings.Join(lower, ":"), "upperdir=" + o.path(name, "upper"), "workdir=" + o.path(name, "work"),
	}}
	if n := len(strings.Join(m.Options, ",")); n >= os.Getpagesize() {
		return "", fmt.Errorf("%d layers' paths do not fit into a page of mount options: %w", len(lower), ErrCannot)
	}
	dir := o.path(name, "merged")
	return dir, mount.At(m, dir)
}

func (o *overlay) Unmount(_ context.Context, name string) error {
	return mount.Unmount(o.path(name, "merged"))
}

func (o *overlay) Remove(_ context.Context, name string) error {
	o.mu.Lock()
	delete(o.parents, name)
	o.mu.Unlock()
	return os.RemoveAll(filepath.Join(o.root, name))
}
