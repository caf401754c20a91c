package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestLargeImage: the archive's layer is the one that its configuration names.
func TestLargeImage(t *testing.T) {
	i := largeImage{program: []byte("a program of odd length"), size: 1<<20 + 3}
	h := sha256.New()
	require.NoError(t, i.writeLayer(h))
	i.diffID = "sha256:" + hex.EncodeToString(h.Sum(nil))

	var archive bytes.Buffer
	require.NoError(t, i.writeArchive(&archive))
	found := map[string][]byte{}
	for r := tar.NewReader(&archive); ; {
		header, err := r.Next()
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		found[header.Name], err = io.ReadAll(r)
		require.NoError(t, err)
	}
	var manifest []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	require.NoError(t, json.Unmarshal(found["manifest.json"], &manifest))
	require.Len(t, manifest, 1)
	assert.Equal(t, []string{largeRef}, manifest[0].RepoTags)
	var config struct {
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		} `json:"rootfs"`
	}
	require.NoError(t, json.Unmarshal(found[manifest[0].Config], &config))
	sum := sha256.Sum256(found[manifest[0].Layers[0]])
	assert.Equal(t, []string{"sha256:" + hex.EncodeToString(sum[:])}, config.RootFS.DiffIDs)
}
