package drivertest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot"
)

// crowdCases have many goroutines at one store.
func crowdCases() []testCase {
	return []testCase{
		{name: "Creators64", run: creators},
		{name: "CreatorsAndRemovers", run: creatorsAndRemovers},
		{name: "OneNameManyCreators", run: oneName},
		{name: "MountersOfOneLayer", run: mountersOfOneLayer},
		{name: "CommitsAtOnce", run: commitsAtOnce},
		{name: "GCWhileLoading", run: gcWhileLoading},
		{name: "CountedWhileOthersGo", run: countedWhileOthersGo},
	}
}

func creators(t *testing.T, e *env) {
	n := e.f.scaled(64, 16)
	layer := e.layer("", func(dir string) { e.write(dir, "f", "f") })
	e.parallel(n, func(i int) error {
		name := fmt.Sprintf("c-%03d", i)
		if _, err := e.s.Create(e.ctx(), name, snapshot.CreateRequest{Parent: layer.Name}); err != nil {
			return err
		}
		dir, err := e.s.Mount(e.ctx(), name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "own"), []byte(name), 0o644); err != nil {
			return err
		}
		return e.s.Unmount(e.ctx(), name)
	})
	want := []string{}
	for i := range n {
		want = append(want, fmt.Sprintf("c-%03d", i))
	}
	require.Equal(t, append(want, layer.Name), e.names())
	if ids := e.volumes(); ids != nil {
		require.Len(t, ids, n+1)
	}
	e.clean()
	for _, name := range []string{want[0], want[n-1]} {
		e.in(name, func(dir string) {
			require.Equal(t, name, e.read(dir, "own"))
			require.Equal(t, []string{"f", "own"}, e.entries(dir))
		})
	}
	e.parallel(n, func(i int) error { return e.s.Remove(e.ctx(), want[i]) })
	require.Equal(t, []string{layer.Name}, e.names())
}

func creatorsAndRemovers(t *testing.T, e *env) {
	layer := e.layer("", func(dir string) { e.write(dir, "f", "f") })
	rounds := e.f.scaled(6, 2)
	e.parallel(16, func(i int) error {
		for r := range rounds {
			name := fmt.Sprintf("c-%02d-%d", i, r)
			if _, err := e.s.Create(e.ctx(), name, snapshot.CreateRequest{Parent: layer.Name}); err != nil {
				return err
			}
			if i%4 == 0 {
				continue // stays
			}
			if err := e.s.Remove(e.ctx(), name); err != nil {
				return err
			}
		}
		return nil
	})
	require.Len(t, e.names(), 1+4*rounds)
	e.reopen()
	require.Len(t, e.names(), 1+4*rounds)
	if ids := e.volumes(); ids != nil {
		require.Len(t, ids, 1+4*rounds)
	}
}

func oneName(t *testing.T, e *env) {
	errs := make([]error, 16)
	e.parallel(len(errs), func(i int) error {
		_, errs[i] = e.s.Create(e.ctx(), "wanted", snapshot.CreateRequest{})
		return nil
	})
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
			continue
		}
		require.ErrorIs(t, err, snapshot.ErrExists)
	}
	require.Equal(t, 1, won)
	removed := make([]error, 8)
	e.parallel(len(removed), func(i int) error { removed[i] = e.s.Remove(e.ctx(), "wanted"); return nil })
	won = 0
	for _, err := range removed {
		if err == nil {
			won++
			continue
		}
		require.ErrorIs(t, err, snapshot.ErrNotFound)
	}
	require.Equal(t, 1, won)
}

func mountersOfOneLayer(t *testing.T, e *env) {
	layer := e.layer("", func(dir string) { e.write(dir, "f", "f") })
	e.create("c", layer.Name)
	e.parallel(16, func(i int) error {
		for _, name := range []string{layer.Name, "c"} {
			dir, release, err := e.s.Use(e.ctx(), name)
			if err != nil {
				return err
			}
			if _, err := os.ReadFile(filepath.Join(dir, "f")); err != nil {
				return err
			}
			if _, err := e.s.Changes(e.ctx(), "c"); err != nil {
				return err
			}
			if err := release(); err != nil {
				return err
			}
		}
		return nil
	})
}

func commitsAtOnce(t *testing.T, e *env) {
	layer := e.layer("", func(dir string) { e.write(dir, "f", "f") })
	e.create("same", layer.Name)
	e.in("same", func(dir string) { e.write(dir, "g", "g") })
	got := make([]snapshot.Info, 8)
	e.parallel(len(got), func(i int) (err error) {
		_, got[i], err = e.s.Commit(e.ctx(), "same", snapshot.CommitRequest{})
		return err
	})
	for _, in := range got {
		require.Equal(t, got[0], in, "one content is one layer")
	}
	require.Len(t, e.names(), 3)
	if ids := e.volumes(); ids != nil {
		require.Len(t, ids, 3, "volumes of the commits that came second")
	}
}

// gcWhileLoading collects garbage while layers come and go: an image that was
// loaded is whole, whatever else is removed.
func gcWhileLoading(t *testing.T, e *env) {
	rounds := e.f.scaled(6, 2)
	e.parallel(6, func(i int) error {
		for r := range rounds {
			if i < 2 {
				if _, err := e.s.GC(e.ctx()); err != nil {
					return err
				}
				continue
			}
			ref := fmt.Sprintf("img-%d:%d", i, r)
			im, err := e.s.Load(e.ctx(), snapshot.LoadRequest{
				Layers: sources(simpleTar(1), simpleTar(2), simpleTar(10+i)), Config: []byte(ref), Refs: []string{ref},
			})
			if err != nil {
				return fmt.Errorf("loading %s: %w", ref, err)
			}
			for _, l := range im.Layers {
				if _, err := e.s.Stat(e.ctx(), l); err != nil {
					return fmt.Errorf("layer of %s: %w", ref, err)
				}
			}
			if _, _, err := e.s.RemoveImage(e.ctx(), ref, false); err != nil {
				return fmt.Errorf("removing %s: %w", ref, err)
			}
		}
		return nil
	})
	_, err := e.s.GC(e.ctx())
	require.NoError(t, err)
	require.Empty(t, e.names())
}

// countedWhileOthersGo: whoever counts all that there is gets an answer, however many come and go meanwhile.
func countedWhileOthersGo(t *testing.T, e *env) {
	layer := e.layer("", func(dir string) { e.write(dir, "f", "f") })
	e.create("stays", layer.Name)
	rounds := e.f.scaled(8, 3)
	e.parallel(8, func(i int) error {
		for r := range rounds {
			if i < 6 {
				name := fmt.Sprintf("c-%d-%d", i, r)
				if _, err := e.s.Create(e.ctx(), name, snapshot.CreateRequest{Parent: layer.Name}); err != nil {
					return err
				}
				if err := e.s.Remove(e.ctx(), name); err != nil {
					return err
				}
				continue
			}
			list, err := e.s.List(e.ctx())
			if err == nil {
				list, err = e.s.CountUsage(e.ctx(), list)
			}
			if err == nil {
				list, err = e.s.CountReferenced(e.ctx(), list)
			}
			if err != nil {
				return err
			}
			for _, name := range []string{layer.Name, "stays"} {
				if !slices.ContainsFunc(list, func(in snapshot.Info) bool { return in.Name == name && in.Usage.Referenced > 0 }) {
					return fmt.Errorf("%s was not counted", name)
				}
			}
		}
		return nil
	})
	require.ElementsMatch(t, []string{layer.Name, "stays"}, e.names())
}
