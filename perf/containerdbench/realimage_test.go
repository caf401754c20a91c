package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/perf"
)

// tinyImage is an OCI layout with an image of one layer, which holds one file.
func tinyImage(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	put := func(content []byte) v1.Descriptor {
		d := v1.Descriptor{Digest: digest.FromBytes(content), Size: int64(len(content))}
		file := filepath.Join(dir, "blobs", "sha256", d.Digest.Encoded())
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, content, 0o600))
		return d
	}
	putJSON := func(v any) v1.Descriptor {
		text, err := json.Marshal(v)
		require.NoError(t, err)
		return put(text)
	}
	var layer bytes.Buffer
	zip := gzip.NewWriter(&layer)
	w := tar.NewWriter(zip)
	require.NoError(t, w.WriteHeader(&tar.Header{Name: "file", Mode: 0o644, Size: 5}))
	_, err := w.Write([]byte("hello"))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	require.NoError(t, zip.Close())
	image := putJSON(v1.Manifest{Layers: []v1.Descriptor{put(layer.Bytes())}})
	image.Annotations = map[string]string{v1.AnnotationRefName: "ref"}
	text, err := json.Marshal(v1.Index{Manifests: []v1.Descriptor{image}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "index.json"), text, 0o600))
	return dir + ":ref"
}

func TestLayerTars(t *testing.T) {
	image, dir := tinyImage(t), t.TempDir()
	tars, err := perf.LayerTars(image, dir)
	require.NoError(t, err)
	require.Len(t, tars, 1)
	root := t.TempDir()
	require.NoError(t, applyTar(t.Context(), root, tars[0]))
	text, err := os.ReadFile(filepath.Join(root, "file"))
	require.NoError(t, err)
	assert.Equal(t, "hello", string(text))

	_, err = perf.LayerTars(image+"x", dir)
	require.ErrorContains(t, err, `no "refx"`)
	_, err = perf.LayerTars(t.TempDir()+":ref", dir)
	require.ErrorIs(t, err, os.ErrNotExist)
}
