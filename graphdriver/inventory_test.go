package graphdriver

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// docker writes a file below the data root, as dockerd does.
func (w *world) docker(name, content string) {
	w.t.Helper()
	write(w.t, filepath.Dir(w.home), name, content)
}

func hex(digit string) string { return strings.Repeat(digit, 64) }

// orphans are the names of what Docker has forgotten.
func (w *world) orphans() []string {
	w.t.Helper()
	names, err := Orphans(w.t.Context(), w.store)
	require.NoError(w.t, err)
	return names
}

func TestOrphans(t *testing.T) {
	w := directories(t)
	known, lost, child, build := hex("a"), hex("b"), hex("c"), "25characterslikebuildkits"
	w.create(known, "")
	w.create(lost, known)
	w.create(child, lost)
	w.create(build, lost)
	w.create(hex("d")+"-init", known)
	w.create(hex("e"), hex("d")+"-init")
	require.Empty(t, w.orphans(), "without a data root nothing is called lost")

	w.docker("image/blockstore/layerdb/sha256/"+hex("1")+"/cache-id", known)
	w.docker("image/blockstore/layerdb/mounts/"+hex("2")+"/mount-id", hex("e"))
	w.docker("image/blockstore/layerdb/mounts/"+hex("2")+"/init-id", hex("d")+"-init")
	require.Equal(t, []string{Name(child)}, w.orphans(), "BuildKit's needs its parent, and is BuildKit's")
	w.remove(build)
	require.Equal(t, []string{Name(child), Name(lost)}, w.orphans(), "from the top down")
	w.get(child)
	require.Empty(t, w.orphans(), "what is mounted is somebody's")
	w.put(child)
	require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(w.home), "image/blockstore/layerdb/mounts", hex("2"), "init-id"), nil, 0o600))
	require.Equal(t, []string{Name(child), Name(lost)}, w.orphans(), "a file that a power cut has emptied: its layer is below another's")
	w.must("Init", request{Home: w.home + "2"}, nil)
	w.docker("image/blockstore2/layerdb/sha256/"+hex("1")+"/cache-id", known)
	require.Empty(t, w.orphans(), "of another data root, nothing is known")
	inv, err := Inventory(t.Context(), w.store)
	require.NoError(t, err)
	require.True(t, inv.Known[known])
	for _, id := range []string{child, lost, hex("e"), hex("d") + "-init", known} {
		w.remove(id)
	}
}
