package snapshot_test

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/drivertest/dirdriver"
)

// modelSnapshot is what the model knows of a snapshot.
type modelSnapshot struct {
	kind    snapshot.SnapshotKind
	parent  string
	files   map[string]string
	mounted bool
}

// model is what the store ought to hold.
type model struct {
	f      *fixture
	all    map[string]*modelSnapshot
	images map[string][]string // reference -> layers
	config map[string]string   // reference -> configuration
}

// TestModel does random operations, with random failures of the driver among
// them, on a store and on a model of it.
func TestModel(t *testing.T) {
	if checks := flag.Lookup("rapid.checks"); checks.Value.String() == checks.DefValue {
		require.NoError(t, checks.Value.Set("12")) // a few seconds; more by the flag
		defer func() { _ = checks.Value.Set(checks.DefValue) }()
	}
	rapid.Check(t, func(rt *rapid.T) {
		f := newFixtureFor(t, rt)
		defer f.end()
		m := &model{f: f, all: map[string]*modelSnapshot{}, images: map[string][]string{}, config: map[string]string{}}
		rt.Repeat(map[string]func(*rapid.T){
			"create": m.create, "view": m.view, "mount": m.mount, "unmount": m.unmount, "write": m.write,
			"commit": m.commit, "remove": m.remove, "removeAll": m.removeAll, "load": m.load, "removeImage": m.removeImage,
			"gc": m.gc, "reopen": m.reopen, "content": m.content, "": m.compare,
		})
		f.kind.Faults.FailAt(0, nil)
		f.reopen()
		f.exact("at the end")
		m.unmountAll(rt)
	})
}

// fault makes one of the next driver steps fail, now and then.
func (m *model) fault(t *rapid.T) {
	if k := rapid.IntRange(-8, 5).Draw(t, "fail at step"); k > 0 {
		m.f.kind.Faults.FailAt(k, dirdriver.ErrInjected)
	}
}

// settle ends a fault and says whether the operation happened.
func (m *model) settle(t *rapid.T, err error) bool {
	m.f.kind.Faults.FailAt(0, nil)
	if err != nil && !errors.Is(err, dirdriver.ErrInjected) {
		t.Fatalf("unexpected: %v", err)
	}
	return err == nil
}

func (m *model) pick(t *rapid.T, ok func(name string, s *modelSnapshot) bool) (string, *modelSnapshot) {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(m.all)) {
		if ok(name, m.all[name]) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		t.Skip("none there")
	}
	name := rapid.SampledFrom(names).Draw(t, "snapshot")
	return name, m.all[name]
}

func (m *model) parent(t *rapid.T) (string, map[string]string) {
	names := []string{""}
	for _, name := range slices.Sorted(maps.Keys(m.all)) {
		if m.all[name].kind == snapshot.KindLayer {
			names = append(names, name)
		}
	}
	name := rapid.SampledFrom(names).Draw(t, "parent")
	if name == "" {
		return "", map[string]string{}
	}
	return name, maps.Clone(m.all[name].files)
}

func (m *model) make(t *rapid.T, kind snapshot.SnapshotKind, do func(string, snapshot.CreateRequest) error) {
	name := rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "name")
	parent, files := m.parent(t)
	m.fault(t)
	err := do(name, snapshot.CreateRequest{Parent: parent})
	if m.all[name] != nil {
		m.f.kind.Faults.FailAt(0, nil)
		if !errors.Is(err, snapshot.ErrExists) {
			t.Fatalf("a taken name gave %v", err)
		}
		return
	}
	if m.settle(t, err) {
		m.all[name] = &modelSnapshot{kind: kind, parent: parent, files: files}
	}
}

func (m *model) create(t *rapid.T) {
	m.make(t, snapshot.KindContainer, func(name string, r snapshot.CreateRequest) error {
		_, err := m.f.s.Create(ctx, name, r)
		return err
	})
}

func (m *model) view(t *rapid.T) {
	m.make(t, snapshot.KindView, func(name string, r snapshot.CreateRequest) error {
		_, err := m.f.s.View(ctx, name, r)
		return err
	})
}

func isContainer(_ string, s *modelSnapshot) bool { return s.kind == snapshot.KindContainer }

func (m *model) mount(t *rapid.T) {
	name, s := m.pick(t, isContainer)
	m.fault(t)
	_, err := m.f.s.Mount(ctx, name)
	m.settle(t, err)
	s.mounted = m.isMounted(t, name)
	if err == nil != s.mounted {
		t.Fatalf("Mount gave %v, mounted: %v", err, s.mounted)
	}
}

func (m *model) unmount(t *rapid.T) {
	name, s := m.pick(t, isContainer)
	m.fault(t)
	m.settle(t, m.f.s.Unmount(ctx, name))
	s.mounted = false
	if m.isMounted(t, name) {
		t.Fatal("still mounted")
	}
}

func (m *model) isMounted(t *rapid.T, name string) bool {
	in, err := m.f.s.Stat(ctx, name)
	require.NoError(t, err)
	return in.Mounted != ""
}

func (m *model) write(t *rapid.T) {
	name, s := m.pick(t, func(_ string, s *modelSnapshot) bool { return s.mounted })
	in, err := m.f.s.Stat(ctx, name)
	require.NoError(t, err)
	file := rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "file")
	if content := rapid.SampledFrom([]string{"", "1", "2", "3"}).Draw(t, "content"); content == "" {
		err = os.RemoveAll(filepath.Join(in.Mounted, file))
		delete(s.files, file)
	} else {
		err = os.WriteFile(filepath.Join(in.Mounted, file), []byte(content), 0o644)
		s.files[file] = content
	}
	require.NoError(t, err)
}

func (m *model) commit(t *rapid.T) {
	name, s := m.pick(t, isContainer)
	m.fault(t)
	_, in, err := m.f.s.Commit(ctx, name, snapshot.CommitRequest{})
	if !m.settle(t, err) {
		return
	}
	if old := m.all[in.Name]; old != nil && !maps.Equal(old.files, s.files) {
		t.Fatalf("layer %s stands for two contents", in.Name)
	}
	m.all[in.Name] = &modelSnapshot{kind: snapshot.KindLayer, parent: s.parent, files: maps.Clone(s.files)}
}

// needed says whether something stands on a snapshot.
func (m *model) needed(name string) bool {
	for _, s := range m.all {
		if s.parent == name {
			return true
		}
	}
	for _, layers := range m.images {
		if slices.Contains(layers, name) {
			return true
		}
	}
	return false
}

func (m *model) remove(t *rapid.T) {
	name, s := m.pick(t, func(string, *modelSnapshot) bool { return true })
	m.fault(t)
	err := m.f.s.Remove(ctx, name)
	if s.mounted || m.needed(name) {
		m.f.kind.Faults.FailAt(0, nil)
		if !errors.Is(err, snapshot.ErrBusy) && !errors.Is(err, dirdriver.ErrInjected) {
			t.Fatalf("removing what is needed gave %v", err)
		}
		return
	}
	if m.settle(t, err) {
		delete(m.all, name)
	}
}

// removeAll names some of what there is, in some order, and now and then one twice.
func (m *model) removeAll(t *rapid.T) {
	there := slices.Sorted(maps.Keys(m.all))
	if len(there) == 0 {
		t.Skip("none there")
	}
	names := rapid.SliceOfN(rapid.SampledFrom(there), 1, 6).Draw(t, "names")
	m.fault(t)
	errs := m.f.s.RemoveAll(ctx, names...)
	m.f.kind.Faults.FailAt(0, nil)
	gone := map[string]bool{}
	for i, name := range names {
		if errs[i] == nil {
			gone[name] = true
		}
	}
	for i, name := range names {
		switch err := errs[i]; {
		case err == nil:
		case gone[name] && errors.Is(err, snapshot.ErrNotFound):
		case !errors.Is(err, snapshot.ErrBusy) && !errors.Is(err, dirdriver.ErrInjected):
			t.Fatalf("removing %s among %v gave %v", name, names, err)
		}
	}
	for again := true; again; { // in the order in which the store may have done it
		again = false
		for name := range gone {
			if s := m.all[name]; s != nil && !s.mounted && !m.needed(name) {
				delete(m.all, name)
				again = true
			}
		}
	}
	for i, name := range names {
		s := m.all[name]
		if gone[name] && s != nil {
			t.Fatalf("%s was removed, and is mounted or needed", name)
		}
		if errors.Is(errs[i], snapshot.ErrBusy) && s != nil && !s.mounted && !m.needed(name) {
			t.Fatalf("%s could go: %v", name, errs[i])
		}
	}
}

func (m *model) load(t *rapid.T) {
	chain := rapid.SliceOfN(rapid.IntRange(1, 3), 1, 3).Draw(t, "layers")
	config := rapid.SampledFrom([]string{"", "one", "two"}).Draw(t, "configuration")
	if config != "" {
		config = fmt.Sprint(config, chain)
	}
	m.fault(t)
	im, err := m.f.s.Load(ctx, request(m.f.t, config, chain...))
	if !m.settle(t, err) {
		return
	}
	files, parent := map[string]string{}, ""
	for i, name := range im.Layers {
		files[fmt.Sprintf("file-%d", chain[i])] = fmt.Sprintf("content %d", chain[i])
		m.all[name] = &modelSnapshot{kind: snapshot.KindLayer, parent: parent, files: maps.Clone(files)}
		parent = name
	}
	if config != "" {
		m.images[config+":1"] = im.Layers
	}
}

func (m *model) removeImage(t *rapid.T) {
	refs := slices.Sorted(maps.Keys(m.images))
	if len(refs) == 0 {
		t.Skip("none there")
	}
	ref := rapid.SampledFrom(refs).Draw(t, "reference")
	m.fault(t)
	_, _, err := m.f.s.RemoveImage(ctx, ref, false)
	if !m.settle(t, err) {
		return
	}
	layers := m.images[ref]
	delete(m.images, ref)
	for i := len(layers) - 1; i >= 0 && !m.needed(layers[i]); i-- {
		delete(m.all, layers[i])
	}
}

func (m *model) gc(t *rapid.T) {
	m.fault(t)
	removed, err := m.f.s.GC(ctx)
	if !m.settle(t, err) {
		return
	}
	for again := true; again; {
		again = false
		for name, s := range m.all {
			if s.kind == snapshot.KindLayer && !m.needed(name) {
				if !slices.Contains(removed, name) {
					t.Fatalf("GC left %s", name)
				}
				delete(m.all, name)
				again = true
			}
		}
	}
}

func (m *model) reopen(t *rapid.T) {
	m.f.reopen()
	m.f.exact("after reopening")
}

// content compares a snapshot's tree and a layer's tar.
func (m *model) content(t *rapid.T) {
	name, s := m.pick(t, func(string, *modelSnapshot) bool { return true })
	dir, release, err := m.f.s.Use(ctx, name)
	require.NoError(t, err)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	got := map[string]string{}
	for _, e := range entries {
		raw, err := os.ReadFile(filepath.Join(dir, e.Name()))
		require.NoError(t, err)
		got[e.Name()] = string(raw)
	}
	require.NoError(t, release())
	require.Equal(t, s.files, got, "files of %s", name)
}

// compare runs after every step.
func (m *model) compare(t *rapid.T) {
	all, err := m.f.s.List(ctx)
	require.NoError(t, err)
	var got []string
	for _, in := range all {
		s := m.all[in.Name]
		require.NotNil(t, s, "the store has %s %q", in.Kind, in.Name)
		require.Equal(t, s.kind, in.Kind)
		require.Equal(t, s.parent, in.Parent)
		got = append(got, in.Name)
	}
	require.Equal(t, slices.Sorted(maps.Keys(m.all)), got)
	images, err := m.f.s.Images(ctx)
	require.NoError(t, err)
	require.Len(t, images, len(m.images))
	require.Empty(t, m.f.kind.Faults.Violations())
}

func (m *model) unmountAll(t *rapid.T) {
	for name, s := range m.all {
		if s.mounted {
			require.NoError(t, m.f.s.Unmount(ctx, name))
		}
	}
}
