package graphdriver

import (
	"testing"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot"
)

// TestInitLayers: a container's init layer is nobody's before the container is on top of it, and a layer then.
func TestInitLayers(t *testing.T) {
	w := directories(t)
	stat := func(id string) snapshot.Info {
		t.Helper()
		in, err := w.store.Stat(t.Context(), Name(id))
		require.NoError(t, err)
		return in
	}
	image, container := hex("a"), hex("b")
	w.create(image, "")
	require.False(t, stat(image).Scratch)
	w.create(container+"-init", image)
	require.True(t, stat(container+"-init").Scratch)
	w.create(container, container+"-init")
	made := stat(container) // which waits for it
	require.Equal(t, snapshot.KindContainer, made.Kind)
	require.False(t, made.Scratch)
	layer := stat(container + "-init")
	require.Equal(t, snapshot.KindLayer, layer.Kind)
	require.False(t, layer.Scratch)
	w.remove(container, container+"-init", image)
}
