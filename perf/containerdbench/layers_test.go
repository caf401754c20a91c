package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestLayers: no layer of a chain changes what is not there, and each leaves the
// files that containerd's benchmark would.
func TestLayers(t *testing.T) {
	root := t.TempDir()
	data := content(64)
	for n := 1; n <= 13; n++ {
		require.NoError(t, fillLayer(n, data)(root))
		for i, what := range plan(n) {
			_, err := os.Stat(filepath.Join(root, fileName(i)))
			assert.Equal(t, what == removed, os.IsNotExist(err), "layer %d, file %s", n, fileName(i))
		}
	}
}

func TestUpdateChangesFourBytes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a")
	data := content(64)
	require.NoError(t, changeFile(file, created, make([]byte, 64)))
	require.NoError(t, changeFile(file, updated, data))
	got, err := os.ReadFile(file)
	require.NoError(t, err)
	want := make([]byte, 64)
	copy(want[32:], data[:4])
	assert.Equal(t, want, got)
	assert.Error(t, changeFile(filepath.Join(t.TempDir(), "missing"), updated, data))
}

func TestFillFiles(t *testing.T) {
	root := t.TempDir()
	require.NoError(t, fillFiles(3, content(10))(root))
	for i := range 3 {
		info, err := os.Stat(filepath.Join(root, fmt.Sprint("file-", i)))
		require.NoError(t, err)
		assert.Equal(t, int64(10), info.Size())
	}
}
