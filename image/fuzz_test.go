package image

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
)

// memMembers is an archive in memory.
type memMembers map[string][]byte

func (m memMembers) open(name string) (*member, error) {
	data, ok := m[name]
	if !ok {
		return nil, bad(ErrMissing, name, "is not in the archive")
	}
	return &member{ReaderAt: bytes.NewReader(data), size: int64(len(data)), name: name}, nil
}

func (m memMembers) names() []string { return slices.Sorted(maps.Keys(m)) }

func (m memMembers) Close() error { return nil }

func membersOf(files []zooFile) memMembers {
	m := memMembers{}
	for _, f := range files {
		m[f.name] = f.data
	}
	return m
}

func (m memMembers) opener() *opener {
	return &opener{
		docs: documents{members: m}, platform: hostPlatform(), baseName: "pg",
		blobs: map[digest.Digest][]byte{}, hashed: map[string]digest.Digest{},
	}
}

// checkRead is what holds of every archive that is read at all.
func checkRead(t *testing.T, images []*ArchiveImage, err error) {
	if err != nil {
		require.ErrorIs(t, err, ErrArchive)
		return
	}
	for _, img := range images {
		require.Equal(t, digest.FromBytes(img.Config), img.ID)
		require.LessOrEqual(t, len(img.Layers), maxLayers)
		for _, ref := range img.Refs {
			n, err := Normalize(ref)
			require.NoError(t, err)
			require.Equal(t, ref, n, "names are kept in the form in which Docker shows them")
		}
		for _, l := range img.Layers {
			require.NoError(t, l.DiffID.Validate())
			require.NotContains(t, strings.Split(l.Member, "/"), "..")
		}
	}
}

func FuzzDockerManifest(f *testing.F) {
	files := dockerFiles(f, packers["plain"], threeLayers(f))
	m := membersOf(files)
	f.Add(m["manifest.json"], files[0].data)
	f.Add([]byte(`[{"Config":"c","RepoTags":null,"Layers":null}]`), []byte(`{"rootfs":{"type":"layers"}}`))
	f.Add([]byte("null"), []byte("null"))
	f.Fuzz(func(t *testing.T, manifest, config []byte) {
		m := maps.Clone(m)
		m["manifest.json"], m["c"] = manifest, config
		images, err := m.opener().readDocker()
		checkRead(t, images, err)
	})
}

func FuzzOCIIndex(f *testing.F) {
	l := newLayout(f)
	image := l.image("plain", threeLayers(f))
	nested := l.nested(image.on("linux/amd64"), image.on("linux/arm64"))
	m := membersOf(l.index(nested.named("a:b"), image.named("c")))
	f.Add(m["index.json"], []byte("{}"))
	f.Add([]byte(`{"manifests":[{"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2}]}`), []byte("{}"))
	f.Fuzz(func(t *testing.T, index, blob []byte) {
		m := maps.Clone(m)
		m["index.json"], m[blobPath(digest.FromBytes(blob))] = index, blob
		images, err := m.opener().readOCI()
		checkRead(t, images, err)
	})
}

func FuzzV1(f *testing.F) {
	files := v1Files(f, packers["plain"], threeLayers(f))
	m := membersOf(files)
	first := files[1].name
	f.Add(m["repositories"], m[first])
	f.Add([]byte("{}"), []byte(`{"id":"x","parent_id":"sha256:y","container_config":{"Cmd":"one"}}`))
	f.Fuzz(func(t *testing.T, repositories, v1 []byte) {
		m := maps.Clone(m)
		m["repositories"], m[first] = repositories, v1
		images, err := m.opener().readV1(context.Background())
		checkRead(t, images, err)
	})
}

func FuzzTar(f *testing.F) {
	f.Add(tarOf(f, dockerFiles(f, packers["plain"], threeLayers(f))...))
	f.Add(tarOf(f, zooFile{name: "a", link: "b"}, zooFile{name: "b", link: "a"}))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := tempFile(t.TempDir())
		require.NoError(t, err)
		defer file.Close()
		_, err = file.Write(data)
		require.NoError(t, err)
		ms, err := newTarMembers(context.Background(), file, int64(len(data)))
		if err != nil {
			require.ErrorIs(t, err, ErrArchive)
			return
		}
		for _, name := range ms.names() {
			m, err := ms.open(name)
			if err != nil {
				require.ErrorIs(t, err, ErrArchive)
				continue
			}
			require.LessOrEqual(t, m.size, int64(len(data)))
		}
	})
}

func FuzzReference(f *testing.F) {
	for _, s := range []string{"debian", "a/b:c", "localhost:5000/x", "docker.io/library/debian:12", "[::1]:5000/a", "A/b", "a@sha256:b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseReference(s)
		if err != nil {
			require.ErrorIs(t, err, ErrReference)
			return
		}
		full, err := ParseReference(r.String())
		require.NoError(t, err)
		require.Equal(t, r, full)
		short, err := ParseReference(r.Familiar())
		require.NoError(t, err)
		require.Equal(t, r, short)
	})
}

func FuzzChanges(f *testing.F) {
	f.Add(`CMD ["a","b"]`)
	f.Add(`ENV a="b c" d=e`)
	f.Add(`EXPOSE 80/udp`)
	f.Fuzz(func(t *testing.T, change string) {
		_ = applyChanges(object{}, []string{change}) // must not panic
	})
}

func FuzzUnpack(f *testing.F) {
	f.Add(gzipped(f, []byte("x")))
	f.Add(zstded(f, []byte("x")))
	bz, err := os.ReadFile("testdata/docker.tar.bz2")
	require.NoError(f, err)
	f.Add(bz)
	f.Fuzz(func(t *testing.T, data []byte) {
		ms := memMembers{"l": data}
		_, err := hashLayer(context.Background(), ms, ArchiveLayer{Member: "l", Size: int64(len(data))}, func(int64) {})
		if err != nil && !errors.Is(err, ErrArchive) {
			t.Fatal(err)
		}
	})
}
