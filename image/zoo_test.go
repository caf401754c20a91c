package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
)

// The zoo: archives of every form, made byte by byte, so that hostile ones can be
// made too.

// zooFile is an entry of an outer tar.
type zooFile struct {
	name string
	data []byte
	link string
	kind byte // 0: a file, or a symbolic link if link is set
}

func tarOf(t testing.TB, files ...zooFile) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Size: int64(len(f.data)), Mode: 0o644, Typeflag: tar.TypeReg, Linkname: f.link}
		if f.link != "" {
			h.Typeflag = tar.TypeSymlink
		}
		if strings.HasSuffix(f.name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if f.kind != 0 {
			h.Typeflag = f.kind
		}
		require.NoError(t, w.WriteHeader(h))
		_, err := w.Write(f.data)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return buf.Bytes()
}

func gzipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	_, err := w.Write(data)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return buf.Bytes()
}

func zstded(t testing.TB, data []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	require.NoError(t, err)
	return w.EncodeAll(data, nil)
}

var packers = map[string]func(testing.TB, []byte) []byte{
	"plain": func(_ testing.TB, b []byte) []byte { return b },
	"gzip":  gzipped,
	"zstd":  zstded,
}

// zooImage is what an archive is made of.
type zooImage struct {
	layers []([]byte) // plain tars
	refs   []string
	arch   string
	env    string // makes configs differ
}

// zooLayer is a small layer; text makes it differ from others.
func zooLayer(t testing.TB, text string) []byte {
	return tarOf(t, zooFile{name: "etc/"}, zooFile{name: "etc/" + text, data: bytes.Repeat([]byte(text), 3000)})
}

// threeLayers is an image whose first and last layers are the same.
func threeLayers(t testing.TB) zooImage {
	a, b := zooLayer(t, "a"), zooLayer(t, "b")
	return zooImage{layers: [][]byte{a, b, a}, refs: []string{"debian:12"}}
}

func (z zooImage) diffIDs() []digest.Digest {
	ids := []digest.Digest{}
	for _, l := range z.layers {
		ids = append(ids, digest.FromBytes(l))
	}
	return ids
}

func (z zooImage) config(t testing.TB) []byte {
	t.Helper()
	arch := z.arch
	if arch == "" {
		arch = hostPlatform().Architecture
	}
	return jsonOf(t, map[string]any{
		"architecture": arch, "os": "linux", "created": someTime, "config": map[string]any{"Env": []string{"X=" + z.env}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": z.diffIDs()},
	})
}

func jsonOf(t testing.TB, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	require.NoError(t, err)
	return data
}

// dockerFiles is the image as Docker 1.10 to 24 saves it.
func dockerFiles(t testing.TB, pack func(testing.TB, []byte) []byte, images ...zooImage) []zooFile {
	var files []zooFile
	var manifests []map[string]any
	seen := map[digest.Digest]string{}
	for n, z := range images {
		config := z.config(t)
		name := digest.FromBytes(config).Encoded() + ".json"
		files = append(files, zooFile{name: name, data: config})
		var layers []string
		for i, l := range z.layers {
			dir := digest.FromString(fmt.Sprint(n, i)).Encoded()
			files = append(files, zooFile{name: dir + "/"}, zooFile{name: dir + "/VERSION", data: []byte("1.0")})
			path := dir + "/layer.tar"
			if first := seen[digest.FromBytes(l)]; first != "" {
				files = append(files, zooFile{name: path, link: "../" + first})
			} else {
				seen[digest.FromBytes(l)] = path
				files = append(files, zooFile{name: path, data: pack(t, l)})
			}
			layers = append(layers, path)
		}
		manifests = append(manifests, map[string]any{"Config": name, "RepoTags": z.refs, "Layers": layers})
	}
	return append(files, zooFile{name: "manifest.json", data: jsonOf(t, manifests)})
}

// v1Files is the image as Docker up to 1.9 saves it.
func v1Files(t testing.TB, pack func(testing.TB, []byte) []byte, z zooImage) []zooFile {
	var files []zooFile
	parent := ""
	for i, l := range z.layers {
		id := digest.FromString(fmt.Sprint("v1", i)).Encoded()
		v := map[string]any{
			"id": id, "created": someTime, "os": "linux", "architecture": "amd64", "Size": 12, "docker_version": "1.9.1",
			"container_config": map[string]any{"Cmd": []string{"/bin/sh", "-c", fmt.Sprint("step ", i)}},
		}
		if parent != "" {
			v["parent"] = parent
		}
		files = append(files, zooFile{name: id + "/VERSION", data: []byte("1.0")}, zooFile{name: id + "/json", data: jsonOf(t, v)},
			zooFile{name: id + "/layer.tar", data: pack(t, l)})
		parent = id
	}
	repositories := map[string]map[string]string{}
	for _, ref := range z.refs {
		name, tag, _ := strings.Cut(ref, ":")
		if repositories[name] == nil {
			repositories[name] = map[string]string{}
		}
		repositories[name][tag] = parent
	}
	if len(repositories) > 0 {
		files = append(files, zooFile{name: "repositories", data: jsonOf(t, repositories)})
	}
	return files
}

// layout is an OCI layout that is being made.
type layout struct {
	t     testing.TB
	files []zooFile
}

func newLayout(t testing.TB) *layout {
	return &layout{t: t, files: []zooFile{{name: "oci-layout", data: []byte(`{"imageLayoutVersion":"1.0.0"}`)}}}
}

type desc map[string]any

func (l *layout) blob(mediaType string, data []byte) desc {
	d := digest.FromBytes(data)
	l.files = append(l.files, zooFile{name: blobPath(d), data: data})
	return desc{"mediaType": mediaType, "digest": d, "size": len(data)}
}

func (d desc) with(key string, value any) desc {
	c := desc{key: value}
	for k, v := range d {
		if k != key {
			c[k] = v
		}
	}
	return c
}

func (d desc) named(ref string) desc {
	return d.with("annotations", map[string]string{"org.opencontainers.image.ref.name": ref})
}

func (d desc) on(platform string) desc {
	p, _ := parsePlatform(platform)
	return d.with("platform", map[string]string{"os": p.OS, "architecture": p.Architecture, "variant": p.Variant})
}

func (l *layout) image(pack string, z zooImage) desc {
	layers := []desc{}
	for _, tar := range z.layers {
		suffix := map[string]string{"gzip": "+gzip", "zstd": "+zstd"}[pack]
		layers = append(layers, l.blob("application/vnd.oci.image.layer.v1.tar"+suffix, packers[pack](l.t, tar)))
	}
	config := l.blob("application/vnd.oci.image.config.v1+json", z.config(l.t))
	return l.blob("application/vnd.oci.image.manifest.v1+json", jsonOf(l.t, map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": layers,
	}))
}

func (l *layout) nested(manifests ...desc) desc {
	return l.blob("application/vnd.oci.image.index.v1+json", jsonOf(l.t, map[string]any{"schemaVersion": 2, "manifests": manifests}))
}

// index ends the layout.
func (l *layout) index(manifests ...desc) []zooFile {
	return append(l.files, zooFile{name: "index.json", data: jsonOf(l.t, map[string]any{"schemaVersion": 2, "manifests": manifests})})
}

// writeDir puts files into a directory.
func writeDir(t testing.TB, files []zooFile) string {
	dir := filepath.Join(t.TempDir(), "pg")
	for _, f := range files {
		path := filepath.Join(dir, f.name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		if f.link != "" {
			require.NoError(t, os.Symlink(f.link, path))
			continue
		}
		require.NoError(t, os.WriteFile(path, f.data, 0o644))
	}
	return dir
}

func writeFile(t testing.TB, data []byte) string {
	path := filepath.Join(t.TempDir(), "pg.tar")
	require.NoError(t, os.WriteFile(path, data, 0o600))
	return path
}
