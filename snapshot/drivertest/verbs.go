package drivertest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/layertar"
	"blockstore.dev/blockstore/snapshot/layertar/treetest"
	"blockstore.dev/blockstore/snapshot/mount"
)

// entry is all that is compared of one file.
type entry = treetest.Entry

// create makes a container.
func (e *env) create(name, parent string) snapshot.Info {
	e.t.Helper()
	in, err := e.s.Create(e.ctx(), name, snapshot.CreateRequest{Parent: parent})
	require.NoError(e.t, err, "creating %q from %q", name, parent)
	return in
}

func (e *env) view(name, parent string) snapshot.Info {
	e.t.Helper()
	in, err := e.s.View(e.ctx(), name, snapshot.CreateRequest{Parent: parent})
	require.NoError(e.t, err, "view %q of %q", name, parent)
	return in
}

func (e *env) remove(names ...string) {
	e.t.Helper()
	for _, name := range names {
		require.NoError(e.t, e.s.Remove(e.ctx(), name), "removing %q", name)
	}
}

func (e *env) mount(name string) string {
	e.t.Helper()
	dir, err := e.s.Mount(e.ctx(), name)
	require.NoError(e.t, err, "mounting %q", name)
	return dir
}

func (e *env) unmount(name string) {
	e.t.Helper()
	require.NoError(e.t, e.s.Unmount(e.ctx(), name), "unmounting %q", name)
}

// in runs fn on the mounted tree of a snapshot.
func (e *env) in(name string, fn func(dir string)) {
	e.t.Helper()
	dir := e.mount(name)
	fn(dir)
	e.unmount(name)
}

// commit makes a layer of a container, which stays.
func (e *env) commit(container string) snapshot.Info {
	e.t.Helper()
	_, in, err := e.s.Commit(e.ctx(), container, snapshot.CommitRequest{})
	require.NoError(e.t, err, "committing %q", container)
	return in
}

// layer makes a layer on top of parent with what fn does to its tree.
func (e *env) layer(parent string, fn func(dir string)) snapshot.Info {
	e.t.Helper()
	const name = "layer in the making"
	e.create(name, parent)
	e.in(name, fn)
	in := e.commit(name)
	e.remove(name)
	return in
}

// tree captures a snapshot's tree.
func (e *env) tree(name string) map[string]entry {
	e.t.Helper()
	var tree map[string]entry
	e.in(name, func(dir string) { tree = e.capture(dir) })
	return tree
}

func (e *env) capture(dir string) map[string]entry {
	e.t.Helper()
	tree, err := treetest.Capture(dir)
	require.NoError(e.t, err)
	return tree
}

// same fails if two trees differ.
func (e *env) same(want, got map[string]entry, what string) {
	e.t.Helper()
	if d := treetest.DifferenceOf(want, got); d != "" {
		e.t.Fatalf("%s (- wanted, + got):\n%s", what, d)
	}
}

// layerTar is a layer's tar as the store writes it.
func (e *env) layerTar(name string) []byte {
	e.t.Helper()
	var b bytes.Buffer
	require.NoError(e.t, e.s.WriteLayer(e.ctx(), name, &b), "writing layer %s", name)
	return b.Bytes()
}

func (e *env) usage(name string) snapshot.Usage {
	e.t.Helper()
	u, err := e.s.Usage(e.ctx(), name)
	require.NoError(e.t, err)
	require.GreaterOrEqual(e.t, u.Added, int64(0))
	return u
}

func (e *env) referenced(name string) int64 {
	e.t.Helper()
	n, err := e.s.Referenced(e.ctx(), name)
	require.NoError(e.t, err)
	return n
}

func (e *env) used() int64 {
	e.t.Helper()
	st, err := e.s.Status(e.ctx())
	require.NoError(e.t, err)
	require.True(e.t, st.Backing.Healthy, st.Backing.Problem)
	return st.Backing.Data.Used
}

// names lists all snapshots by name.
func (e *env) names() []string {
	e.t.Helper()
	all, err := e.s.List(e.ctx())
	require.NoError(e.t, err)
	names := make([]string, len(all))
	for i, in := range all {
		names[i] = in.Name
	}
	return names
}

// The helpers below act on plain directories.

func (e *env) ok(err error) {
	e.t.Helper()
	require.NoError(e.t, err)
}

func (e *env) write(dir, name, content string) {
	e.t.Helper()
	path := filepath.Join(dir, name)
	e.ok(os.MkdirAll(filepath.Dir(path), 0o755))
	e.ok(os.WriteFile(path, []byte(content), 0o644))
}

func (e *env) read(dir, name string) string {
	e.t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, name))
	e.ok(err)
	return string(raw)
}

func (e *env) missing(dir, name string) {
	e.t.Helper()
	_, err := os.Lstat(filepath.Join(dir, name))
	require.ErrorIs(e.t, err, os.ErrNotExist, "%s is still there", name)
}

// entries lists a directory.
func (e *env) entries(dir string) []string {
	e.t.Helper()
	all, err := os.ReadDir(dir)
	e.ok(err)
	names := []string{}
	for _, d := range all {
		names = append(names, d.Name())
	}
	return names
}

// stat looks at a file itself.
func (e *env) stat(dir, name string) unix.Stat_t {
	e.t.Helper()
	var st unix.Stat_t
	e.ok(unix.Lstat(filepath.Join(dir, name), &st))
	return st
}

// mode asserts type and permission bits and the owner.
func (e *env) mode(dir, name string, mode uint32, uid, gid uint32) {
	e.t.Helper()
	st := e.stat(dir, name)
	require.Equal(e.t, fmt.Sprintf("%o %d:%d", mode, uid, gid), fmt.Sprintf("%o %d:%d", st.Mode, st.Uid, st.Gid), "mode and owner of %s", name)
}

// apply unpacks a layer tar.
func (e *env) apply(dir string, tar []byte) {
	e.t.Helper()
	_, err := layertar.Apply(e.ctx(), dir, bytes.NewReader(tar), layertar.ApplyOptions{})
	e.ok(err)
}

func changeLines(all []layertar.Change) []string {
	lines := []string{}
	for _, c := range all {
		lines = append(lines, c.Path+" "+c.Kind.String())
	}
	slices.Sort(lines)
	return lines
}

func errIsAny(err error, targets ...error) bool {
	return slices.ContainsFunc(targets, func(t error) bool { return errors.Is(err, t) })
}

func (e *env) mountAll(ms []mount.Mount, target string) {
	e.t.Helper()
	e.ok(mount.All(ms, target))
}

func (e *env) unmountAll(ms []mount.Mount, target string) {
	e.t.Helper()
	for range ms {
		e.ok(mount.Unmount(target))
	}
}

// beside runs fn beside the caller until end is called, which may be twice.
func beside(fn func(stop chan struct{}) error) (end func() error) {
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- fn(stop) }()
	return sync.OnceValue(func() error {
		close(stop)
		return <-ended
	})
}

// untilClosed calls fn, once at least, until it fails or stop is closed.
func untilClosed(stop <-chan struct{}, fn func() error) error {
	for {
		if err := fn(); err != nil {
			return err
		}
		select {
		case <-stop:
			return nil
		default:
		}
	}
}
