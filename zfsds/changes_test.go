package zfsds

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// changed maps paths to what happened to them.
func (w *world) changed(t *testing.T, from, to string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for c, err := range w.Changes(t.Context(), from, to) {
		require.NoError(t, err)
		switch {
		case c.Old == nil:
			all[c.New.Path] = "new"
		case c.New == nil:
			all[c.Old.Path] = "gone"
		default:
			all[c.New.Path] = "changed"
		}
	}
	return all
}

func TestChanges(t *testing.T) {
	const same = 300
	w := newWorld(t, Ioctl)
	ctx := t.Context()
	fs := w.create(t, "changes")
	w.in(t, fs, false, func(dir string) {
		for _, name := range []string{"same", "written", "deleted", "moved", "d/below"} {
			path := filepath.Join(dir, name)
			require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
			require.NoError(t, os.WriteFile(path, []byte(name), 0o644))
		}
		for i := range same { // their objects lie in other blocks
			in := filepath.Join(dir, "d", strconv.Itoa(i/20)) // few in each: of a changed one's neighbours the names are looked for
			require.NoError(t, os.MkdirAll(in, 0o755))
			require.NoError(t, os.WriteFile(filepath.Join(in, strconv.Itoa(i)), nil, 0o644))
		}
	})
	from := w.snap(t, fs+"@from")
	require.NoError(t, w.Clone(ctx, from, w.name("changed"), nil))
	w.in(t, w.name("changed"), false, func(dir string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "written"), []byte("anew"), 0o644))
		require.NoError(t, os.Remove(filepath.Join(dir, "deleted")))
		require.NoError(t, os.Rename(filepath.Join(dir, "moved"), filepath.Join(dir, "there")))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "new"), nil, 0o644))
	})
	to := w.snap(t, w.name("changed@to"))
	require.Equal(t, map[string]string{
		"/": "changed", "/written": "changed", "/deleted": "gone", "/there": "changed", "/new": "new",
	}, w.changed(t, from, to))
	for range w.Changes(ctx, from, to) { // one is enough
		break
	}
	for range w.Rewritten(ctx, from, to) {
		break
	}
	var rewritten []uint64
	last := uint64(0)
	for objects, err := range w.Rewritten(ctx, from, to) {
		require.NoError(t, err)
		require.True(t, last < objects.First && objects.First <= objects.Last, "in order: %v", objects)
		for last = objects.First; last < objects.Last; last++ {
			rewritten = append(rewritten, last)
		}
		rewritten = append(rewritten, last)
	}
	for c, err := range w.Changes(ctx, from, to) {
		require.NoError(t, err)
		require.Equal(t, c.New != nil, slices.Contains(rewritten, c.Object), "%v", c.New)
	}
	// A block of 32 each for the five that changed and two of the file system's own, at most: each processor has objects in a block of its own.
	require.LessOrEqual(t, len(rewritten), 7*32, "of more than %d", same)
	require.Empty(t, w.changed(t, from, w.snap(t, fs+"@same")))
	t.Run("Signals", func(t *testing.T) {
		defer disturbed()()
		for range 5 {
			require.Len(t, w.changed(t, from, to), 5)
		}
	})
	other := w.snap(t, w.create(t, "other")+"@s")
	for _, err := range w.Changes(ctx, other, to) {
		require.ErrorIs(t, err, ErrInvalid, "unrelated")
	}
	for _, err := range w.Rewritten(ctx, other, to) {
		require.ErrorIs(t, err, ErrInvalid, "unrelated")
	}
	for _, err := range w.Changes(ctx, fs+"@none", to) {
		require.ErrorIs(t, err, ErrNotFound)
	}
}

func TestAuto(t *testing.T) {
	w := newWorld(t, Ioctl) // so that the self-test has a pool
	h, err := Open(t.Context(), Options{})
	require.NoError(t, err)
	defer h.Close()
	way, reason := h.Access()
	require.Equal(t, Ioctl, way, reason)
	_, err = h.Stat(t.Context(), w.pool)
	require.NoError(t, err)
}

func TestPools(t *testing.T) {
	w := newWorld(t, Ioctl)
	ctx := t.Context()
	w.create(t, "kept")
	file := filepath.Join(w.dir, "pool.img")
	require.NoError(t, os.Truncate(file, 2<<30))
	require.NoError(t, w.GrowPool(ctx, w.pool, file))
	p, err := w.Pool(ctx, w.pool)
	require.NoError(t, err)
	require.Greater(t, p.Size, Bytes(1900<<20))
	require.NoError(t, w.TrimPool(ctx, w.pool))
	w.in(t, w.name("kept"), false, func(dir string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "f"), nil, 0o600))
		f, err := os.Open(filepath.Join(dir, "f"))
		require.NoError(t, err)
		require.ErrorIs(t, w.ExportPool(ctx, w.pool), ErrBusy)
		require.NoError(t, f.Close())
	})
	require.NoError(t, w.ExportPool(ctx, w.pool))
	require.ErrorIs(t, w.ExportPool(ctx, w.pool), ErrNotFound)
	require.ErrorIs(t, w.ImportPool(ctx, w.pool, t.TempDir()), ErrNotFound)
	require.NoError(t, w.ImportPool(ctx, w.pool, w.dir))
	require.ErrorIs(t, w.ImportPool(ctx, w.pool, w.dir), ErrExists)
	_, err = w.Stat(ctx, w.name("kept"))
	require.NoError(t, err)
	for _, o := range []PoolOptions{
		{Name: "a/b", File: file, Size: 1 << 30},
		{Name: "bstest-x"},
		{Name: "bstest-x", File: "relative", Size: 1 << 30},
		{Name: "bstest-x", File: file, Size: 1 << 20},
		{Name: "bstest-x", Devices: []string{"sdb"}},
		{Name: "bstest-x", Devices: []string{"/dev/x"}, File: file, Size: 1 << 30},
	} {
		require.ErrorIs(t, w.CreatePool(ctx, o), ErrInvalid, "%+v", o)
	}
	require.ErrorIs(t, w.CreatePool(ctx, PoolOptions{Name: "bstest-x", File: file, Size: 1 << 30}), os.ErrExist)
	require.ErrorIs(t, w.CreatePool(ctx, PoolOptions{Name: w.pool, File: file + "2", Size: 1 << 30}), ErrExists)
	require.NoFileExists(t, file+"2")
}
