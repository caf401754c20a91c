package drivertest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot"
)

// bare is an env without a store.
func bare(t testing.TB, f Factory) *env {
	t.Helper()
	e := &env{t: t, f: f, dir: f.Dir(t), goroutines: runtime.NumGoroutine()}
	e.root = filepath.Join(e.dir, "store")
	t.Cleanup(func() { e.rescue(t) })
	return e
}

// crashInit kills Init at every step. What it left must be cleared by the next
// Init as well as by Destroy.
func crashInit(t *testing.T, f Factory) {
	for k, died := 1, true; died; k++ {
		require.Less(t, k, maxSteps)
		for _, mend := range []string{"init again", "destroy"} {
			e := bare(t, f)
			var step string
			step, died = e.childAt("Init", strconv.Itoa(k))
			where := fmt.Sprintf("Init killed at step %d, %s; %s", k, step, mend)
			if mend == "init again" {
				e.initAgain(where)
			}
			e.destroyed(where)
		}
	}
}

func (e *env) initAgain(where string) {
	e.t.Helper()
	o := snapshot.InitOptions{Root: e.root, BaseSize: e.f.BaseSize}
	if e.f.Prepare != nil {
		e.f.Prepare(e.t, &o)
	}
	err := snapshot.Init(e.ctx(), e.f.Kind, o, "again")
	if !errors.Is(err, snapshot.ErrExists) { // it may have been finished
		require.NoError(e.t, err, where)
	}
	e.openAfterCrash(where)
	e.create("c", "")
	e.in("c", func(dir string) { e.write(dir, "f", "f") })
	e.clean()
	e.close()
}

// destroyed destroys what there is and sees that nothing is left but, of a store
// that was cut short before its catalog or after it, a lock file.
func (e *env) destroyed(where string) {
	e.t.Helper()
	err := snapshot.Destroy(e.ctx(), e.options())
	if !errors.Is(err, snapshot.ErrNotFound) {
		require.NoError(e.t, err, where)
	}
	found, err := findLeaks(e.f, e.root, e.id, true)
	require.NoError(e.t, err)
	require.Empty(e.t, found, "left behind, %s", where)
	if _, err := os.Stat(e.root); !errors.Is(err, os.ErrNotExist) {
		for _, name := range e.entries(e.root) {
			require.Equal(e.t, "lock", name, "a file left behind, %s", where)
		}
	}
	e.ended = true
}

// crashDestroy kills Destroy at every step. The next Destroy must finish it.
func crashDestroy(t *testing.T, f Factory) {
	for k, died := 1, true; died; k++ {
		require.Less(t, k, maxSteps)
		e := makeEnv(t, f, f.BaseSize)
		im := e.image("config", []string{"a:1"}, simpleTar(1), simpleTar(2))
		e.create("c", im.Layers[1])
		e.close()
		var step string
		step, died = e.childAt("Destroy", strconv.Itoa(k))
		e.destroyed(fmt.Sprintf("Destroy killed at step %d, %s", k, step))
	}
}
