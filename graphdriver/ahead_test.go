package graphdriver

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot"
)

// beginContainer has the init layer of a container made whose image has got another one from this process, and sees that the
// container is made ahead, and not dockerd's.
func (w *world) beginContainer(id, image string) snapshot.Info {
	w.t.Helper()
	w.must("CreateReadWrite", request{ID: id + initSuffix, Parent: image}, nil)
	w.plugin.calls.Wait()
	in, err := w.store.Stat(w.t.Context(), Name(id))
	require.NoError(w.t, err)
	require.False(w.t, w.exists(id))
	require.True(w.t, w.exists(id+initSuffix))
	return in
}

// gone asserts that the store has no such container.
func (w *world) gone(id string) {
	w.t.Helper()
	_, err := w.store.Stat(w.t.Context(), Name(id))
	require.ErrorIs(w.t, err, snapshot.ErrNotFound)
}

func TestMadeAhead(t *testing.T) {
	w := directories(t)
	image, first := hex("a"), hex("b")
	w.create(image, "")
	same := func(dir string) { dockerInit(t, dir) }
	w.create(first+initSuffix, image)
	w.plugin.calls.Wait()
	w.gone(first) // nobody knows yet on what
	w.in(first+initSuffix, same)
	w.create(first, first+initSuffix)
	on, err := w.store.Stat(t.Context(), Name(first))
	require.NoError(t, err)
	ids := []string{first}
	next := func() string {
		ids = append(ids, hex(string(rune('b'+len(ids)))))
		return ids[len(ids)-1]
	}

	t.Run("taken", func(t *testing.T) {
		id := next()
		began := w.beginContainer(id, image)
		commits := w.store.CatalogCounts().Commits
		w.in(id+initSuffix, same)
		w.create(id, id+initSuffix)
		require.True(t, w.exists(id))
		require.Equal(t, commits, w.store.CatalogCounts().Commits)
		in, err := w.store.Stat(t.Context(), Name(id))
		require.NoError(t, err)
		require.Equal(t, began, in)
		require.Equal(t, on.Parent, in.Parent)
		require.Equal(t, on.Labels, in.Labels)
	})
	t.Run("another init layer", func(t *testing.T) {
		id := next()
		began := w.beginContainer(id, image)
		w.in(id+initSuffix, func(dir string) { same(dir); write(t, dir, "etc/more", "x") })
		w.create(id, id+initSuffix)
		in, err := w.store.Stat(t.Context(), Name(id))
		require.NoError(t, err)
		require.NotEqual(t, began.Parent, in.Parent)
		w.in(id, func(dir string) { require.Equal(t, "x", read(t, dir, "etc/more")) })
		require.Empty(t, w.changes(id, id+initSuffix))
		again := w.beginContainer(next(), image)
		require.Equal(t, in.Parent, again.Parent, "the last one's")
		w.remove(ids[len(ids)-1] + initSuffix)
		w.gone(ids[len(ids)-1])
	})
	t.Run("another size", func(t *testing.T) {
		id := next()
		w.beginContainer(id, image)
		w.in(id+initSuffix, same)
		w.must("CreateReadWrite", request{ID: id, Parent: id + initSuffix, StorageOpt: map[string]string{"size": "2000g"}}, nil)
		in, err := w.store.Stat(t.Context(), Name(id))
		require.NoError(t, err)
		require.Equal(t, int64(2000<<30), in.Volume.Size)
	})
	t.Run("given up", func(t *testing.T) {
		id := next()
		w.beginContainer(id, image)
		w.in(id+initSuffix, same)
		w.remove(id + initSuffix)
		w.gone(id)
		require.False(t, w.exists(id+initSuffix))
	})
	t.Run("given up after a restart", func(t *testing.T) {
		id := next()
		w.beginContainer(id, image)
		w.restart()
		require.False(t, w.exists(id))
		w.remove(id + initSuffix)
		w.gone(id)
	})
	t.Run("taken after a restart", func(t *testing.T) {
		w.container(next(), image, same) // the process before this one knew on what
		id := next()
		w.beginContainer(id, image)
		w.restart()
		w.in(id+initSuffix, same)
		w.create(id, id+initSuffix)
		require.True(t, w.exists(id))
		w.in(id, func(dir string) { require.FileExists(t, filepath.Join(dir, ".dockerenv")) })
	})
	t.Run("another dockerd", func(t *testing.T) {
		id := next()
		w.beginContainer(id, image)
		w.must("Init", request{Home: w.home}, nil)
		w.gone(id)
		require.Empty(t, w.inits())
		w.create(id+initSuffix, image)
		w.plugin.calls.Wait()
		w.gone(id)
		w.remove(id + initSuffix)
	})
	t.Run("a name that is taken", func(t *testing.T) {
		id := next()
		w.container(id, image, same)
		later := next()
		w.in(id, func(dir string) { write(t, dir, "kept", "x") })
		w.fails("exists", "Create", request{ID: id + initSuffix, Parent: image})
		w.fails("exists", "Create", request{ID: id, Parent: id + initSuffix})
		w.in(id, func(dir string) { require.Equal(t, "x", read(t, dir, "kept")) })
		w.beginContainer(later, image)
		w.fails("has an init layer", "Create", request{ID: later, Parent: image})
		w.in(later+initSuffix, same)
		w.create(later, later+initSuffix)

		layer := next()
		w.create(layer, image)
		w.in(layer, func(dir string) { write(t, dir, "kept", "x") })
		w.fails("there already", "Create", request{ID: layer + initSuffix, Parent: image})
		w.fails("exists", "Create", request{ID: layer, Parent: layer + initSuffix})
		w.remove(layer + initSuffix)
		w.in(layer, func(dir string) { require.Equal(t, "x", read(t, dir, "kept")) })
	})
	for _, id := range ids {
		w.remove(id, id+initSuffix)
	}
	w.remove(image)
	all, err := w.store.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, all)
}
