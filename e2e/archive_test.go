package e2e

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
)

// layer is a tar under construction.
type layer struct {
	t   *testing.T
	buf bytes.Buffer
	w   *tar.Writer
}

func newLayer(t *testing.T) *layer {
	l := &layer{t: t}
	l.w = tar.NewWriter(&l.buf)
	return l
}

func (l *layer) add(h tar.Header, content string) *layer {
	l.t.Helper()
	h.Size = int64(len(content))
	if h.Mode == 0 {
		h.Mode = 0o755
	}
	require.NoError(l.t, l.w.WriteHeader(&h))
	_, err := io.WriteString(l.w, content)
	require.NoError(l.t, err)
	return l
}

func (l *layer) file(name, content string) *layer {
	return l.add(tar.Header{Typeflag: tar.TypeReg, Name: name}, content)
}

func (l *layer) link(kind byte, name, target string) *layer {
	return l.add(tar.Header{Typeflag: kind, Name: name, Linkname: target}, "")
}

func (l *layer) bytes() []byte {
	l.t.Helper()
	require.NoError(l.t, l.w.Close())
	return l.buf.Bytes()
}

// archive is a docker archive (manifest.json form) with room for lies.
type archive struct {
	layers  [][]byte        // as stored
	diffIDs []digest.Digest // as claimed; nil: the truth
	omit    map[int]bool    // layers that the manifest names and the archive lacks
	cut     int             // bytes cut off the end of the whole
	tag     string
}

func (a archive) write(t *testing.T, dir string) string {
	t.Helper()
	ids := a.diffIDs
	if ids == nil {
		for _, l := range a.layers {
			ids = append(ids, digest.FromBytes(l))
		}
	}
	config, err := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux", "config": map[string]any{},
		"rootfs": map[string]any{"type": "layers", "diff_ids": ids},
	})
	require.NoError(t, err)
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	put := func(name string, content []byte) {
		require.NoError(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content))}))
		_, err := w.Write(content)
		require.NoError(t, err)
	}
	name := digest.FromBytes(config).Encoded() + ".json"
	put(name, config)
	var paths []string
	for i, l := range a.layers {
		path := filepath.Join("layer"+string(rune('a'+i)), "layer.tar")
		paths = append(paths, path)
		if !a.omit[i] {
			put(path, l)
		}
	}
	tag := a.tag
	if tag == "" {
		tag = "test:latest"
	}
	manifest, err := json.Marshal([]any{map[string]any{"Config": name, "RepoTags": []string{tag}, "Layers": paths}})
	require.NoError(t, err)
	put("manifest.json", manifest)
	require.NoError(t, w.Close())
	path := filepath.Join(dir, "archive.tar")
	require.NoError(t, os.WriteFile(path, out.Bytes()[:out.Len()-a.cut], 0o600))
	return path
}
