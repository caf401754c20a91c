package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot"
)

// edit changes a document in an archive.
func edit(files []zooFile, name string, change func(string) string) []zooFile {
	var out []zooFile
	for _, f := range files {
		if f.name == name {
			f.data = []byte(change(string(f.data)))
		}
		out = append(out, f)
	}
	return out
}

func without(files []zooFile, name string) []zooFile {
	var out []zooFile
	for _, f := range files {
		if f.name != name {
			out = append(out, f)
		}
	}
	return out
}

func with(files []zooFile, more ...zooFile) []zooFile {
	return append(slices.Clone(files), more...)
}

func to(s string) func(string) string { return func(string) string { return s } }

func replace(old, with string) func(string) string {
	return func(s string) string { return strings.Replace(s, old, with, 1) }
}

func TestHostileArchives(t *testing.T) {
	z := threeLayers(t)
	one := zooImage{layers: z.layers[:1], refs: []string{"a:1"}}
	docker := dockerFiles(t, packers["gzip"], z)
	simple := dockerFiles(t, packers["plain"], one)
	config, layer := simple[0].name, simple[3].name
	v1 := v1Files(t, packers["plain"], z)
	v1json := v1[1].name
	l := newLayout(t)
	oci := l.index(l.image("gzip", z).named("debian:12"))
	ociLayer, ociConfig, ociManifest := oci[1].name, oci[4].name, oci[5].name
	two := tarOf(t, simple...)

	deep := newLayout(t)
	d := deep.image("plain", z)
	for range maxIndexDepth + 2 {
		d = deep.nested(d)
	}
	many := make([]string, maxLayers+1)
	cases := []struct {
		name  string
		files []zooFile
		kind  error
		text  string
	}{
		{"no files", nil, ErrMalformed, "not an image archive"},
		{"something else", []zooFile{{name: "etc/passwd", data: []byte("root")}}, ErrMalformed, "not an image archive"},
		{"manifest null", edit(simple, "manifest.json", to("null")), ErrMalformed, "manifest.json: is null"},
		{"manifest cut", edit(simple, "manifest.json", func(s string) string { return s[:len(s)/2] }), ErrMalformed, "manifest.json"},
		{"manifest of another type", edit(simple, "manifest.json", to(`{"Config":1}`)), ErrMalformed, "manifest.json"},
		{"manifest with a tail", edit(simple, "manifest.json", func(s string) string { return s + "[]" }), ErrMalformed, "manifest.json"},
		{"manifest with a key twice", edit(simple, "manifest.json", replace(`{"Config"`, `{"Layers":[],"Config"`)), ErrMalformed, "twice"},
		{"manifest twice", with(simple, simple[len(simple)-1]), ErrMalformed, "more than once"},
		{"manifest huge", edit(simple, "manifest.json", to(strings.Repeat(" ", maxDocument+1))), ErrMalformed, "manifest.json"},
		{"manifest of many images", edit(simple, "manifest.json", to("["+strings.Repeat("{},", maxImages)+"{}]")), ErrMalformed, "images"},
		{"config missing", without(simple, config), ErrMissing, config},
		{"config of another digest", edit(simple, config, func(s string) string { return s + " " }), ErrDigest, config},
		{"config above the archive", edit(simple, "manifest.json", replace(config, "../../etc/passwd")), ErrMalformed, `".."`},
		{"config with an absolute path", edit(simple, "manifest.json", replace(config, "/etc/passwd")), ErrMalformed, "absolute"},
		{"config without a path", edit(simple, "manifest.json", replace(config, "")), ErrMalformed, "empty path"},
		{"layer missing", without(simple, layer), ErrMissing, layer},
		{"layer above the archive", edit(simple, "manifest.json", replace(layer, "a/../../b")), ErrMalformed, `".."`},
		{"layer without a path", edit(simple, "manifest.json", replace(layer, "")), ErrMalformed, "empty path"},
		{"layers of another number", edit(simple, "manifest.json", replace(`"`+layer+`"`, `"`+layer+`","`+layer+`"`)), ErrMalformed, "1 DiffIDs"},
		{"layers without number", edit(simple, "manifest.json", to(string(jsonOf(t, []any{map[string]any{"Config": config, "Layers": many}})))), ErrUnsupported, "1001 layers"},
		{"name in upper case", edit(simple, "manifest.json", replace("a:1", "A:1")), ErrMalformed, "lower case"},
		{"name to fool a terminal", edit(simple, "manifest.json", replace("a:1", `\u001b[2Ja:1`)), ErrMalformed, `\x1b`},
		{"member above", with(simple, zooFile{name: "../x", data: []byte("x")}), ErrMalformed, `".."`},
		{"member with an absolute name", with(simple, zooFile{name: "/x", data: []byte("x")}), ErrMalformed, "absolute"},
		{"directory above", with(simple, zooFile{name: "../x/"}), ErrMalformed, `".."`},
		{"device in the archive", with(simple, zooFile{name: "x", kind: tar.TypeBlock}), ErrMalformed, "type"},
		{"link out of the archive", with(without(simple, layer), zooFile{name: layer, link: "../../../etc/passwd"}), ErrMalformed, "out of the archive"},
		{"link to an absolute name", with(without(simple, layer), zooFile{name: layer, link: "/etc/passwd"}), ErrMalformed, "out of the archive"},
		{"link to nothing", with(without(simple, layer), zooFile{name: layer, link: "nothing"}), ErrMissing, "nothing"},
		{"link to itself", with(without(simple, layer), zooFile{name: layer, link: "layer.tar"}), ErrMalformed, "loop"},
		{"hard link above", with(simple, zooFile{name: "x", link: "../y", kind: tar.TypeLink}), ErrMalformed, `".."`},
		{"hard links in a circle", with(without(simple, layer),
			zooFile{name: layer, link: "y", kind: tar.TypeLink}, zooFile{name: "y", link: layer, kind: tar.TypeLink}), ErrMalformed, "loop"},
		{"layer damaged", edit(docker, docker[3].name, func(s string) string { return s[:40] + "\x00\x01\x02" + s[43:] }), ErrMalformed, docker[3].name},
		{"layer cut", edit(docker, docker[3].name, func(s string) string { return s[:len(s)-20] }), ErrMalformed, docker[3].name},
		{"layer with a tail", edit(docker, docker[3].name, func(s string) string { return s + "tail" }), ErrMalformed, docker[3].name},
		{"layer in xz", edit(docker, docker[3].name, to("\xfd7zXZ\x00 and so on")), ErrUnsupported, "xz -d"},

		{"v1 parent missing", edit(v1, v1[4].name, replace(`"parent":"`, `"parent":"0`)), ErrMalformed, "not the id"},
		{"v1 parent loop", edit(v1, v1json, replace(`{`, `{"parent":"`+strings.TrimSuffix(v1json, "/json")+`",`)), ErrMalformed, "loop"},
		{"v1 id of another", edit(v1, v1json, replace(`"id":"`, `"id":"x`)), ErrMalformed, "has the id"},
		{"v1 layer missing", without(v1, v1[2].name), ErrMissing, v1[2].name},
		{"v1 json missing", without(v1, v1json), ErrMissing, v1json},
		{"v1 id is a path", edit(v1, "repositories", to(`{"a":{"b":"../../etc"}}`)), ErrMalformed, "not the id"},
		{"v1 repositories null", edit(v1, "repositories", to("null")), ErrMalformed, "null"},
		{"v1 bad name", edit(v1, "repositories", replace("debian", "De bian")), ErrMalformed, "lower case"},
		{"v1 layer damaged", edit(v1Files(t, packers["gzip"], z), v1[2].name, func(s string) string { return s[:30] }), ErrMalformed, v1[2].name},

		{"no oci-layout", without(oci, "oci-layout"), ErrMissing, "oci-layout"},
		{"oci-layout of the future", edit(oci, "oci-layout", to(`{"imageLayoutVersion":"2.0.0"}`)), ErrUnsupported, "2.0.0"},
		{"index null", edit(oci, "index.json", to("null")), ErrMalformed, "index.json: is null"},
		{"index with a bad digest", edit(oci, "index.json", replace("sha256:", "sha256:../")), ErrMalformed, "not a digest"},
		{"index with a bad size", edit(oci, "index.json", replace(`"size":`, `"size":1`)), ErrDigest, "descriptor says"},
		{"index with a negative size", edit(oci, "index.json", replace(`"size":`, `"size":-`)), ErrDigest, "descriptor says"},
		{"indexes without end", deep.index(d), ErrMalformed, "nested"},
		{"manifest missing", without(oci, ociManifest), ErrMissing, ociManifest},
		{"manifest changed", edit(oci, ociManifest, replace(`"schemaVersion":2`, `"schemaVersion":3`)), ErrDigest, ociManifest},
		{"oci config missing", without(oci, ociConfig), ErrMissing, ociConfig},
		{"oci config changed", edit(oci, ociConfig, replace("linux", "linuy")), ErrDigest, ociConfig},
		{"oci layer missing", without(oci, ociLayer), ErrMissing, ociLayer},
		{"oci layer of another size", edit(oci, ociLayer, func(s string) string { return s + "x" }), ErrDigest, ociLayer},
		{"oci layer changed", edit(oci, ociLayer, func(s string) string { return s[:50] + "x" + s[51:] }), ErrDigest, ociLayer},
		{"oci bad name", edit(oci, "index.json", replace("debian:12", "Debian:12")), ErrMalformed, "lower case"},
		{"member of the archive is an archive", []zooFile{{name: "x.tar", data: two}}, ErrMalformed, "not an image archive"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s, spool := newFakeStore(), t.TempDir()
			path := writeFile(t, tarOf(t, c.files...))
			_, err := openAndLoad(t, s, path, OpenOptions{SpoolDir: spool})
			require.ErrorIs(t, err, ErrArchive)
			require.ErrorIs(t, err, c.kind)
			require.ErrorContains(t, err, c.text)
			require.ErrorContains(t, err, path)
			require.NotContains(t, err.Error(), "\n", "one error, one line")
			require.True(t, s.empty())
			left, err := os.ReadDir(spool)
			require.NoError(t, err)
			require.Empty(t, left)
		})
	}
}

func TestLayerOfAnotherDiffID(t *testing.T) {
	z := threeLayers(t)
	files := dockerFiles(t, packers["plain"], z)
	files[3].data = zooLayer(t, "x")
	s := newFakeStore()
	_, err := openAndLoad(t, s, writeFile(t, tarOf(t, files...)), OpenOptions{})
	require.ErrorIs(t, err, snapshot.ErrInvalid, "the store's own verification")
	require.ErrorIs(t, err, ErrArchive)
	require.True(t, s.empty())
}

func TestHostileDirectory(t *testing.T) {
	z := threeLayers(t)
	l := newLayout(t)
	files := l.index(l.image("plain", z))
	outside := writeFile(t, files[1].data)
	for name, c := range map[string]struct {
		files []zooFile
		kind  error
	}{
		"link out":  {with(without(files, files[1].name), zooFile{name: files[1].name, link: outside}), ErrMalformed},
		"link up":   {with(without(files, files[1].name), zooFile{name: files[1].name, link: "../../../../../../etc/passwd"}), ErrMalformed},
		"link loop": {with(without(files, files[1].name), zooFile{name: files[1].name, link: filepath.Base(files[1].name)}), ErrMalformed},
		"missing":   {without(files, files[1].name), ErrMissing},
		"no index":  {without(files, "index.json"), ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			s := newFakeStore()
			_, err := openAndLoad(t, s, writeDir(t, c.files), OpenOptions{})
			require.ErrorIs(t, err, c.kind)
			require.ErrorIs(t, err, ErrArchive)
			require.True(t, s.empty())
		})
	}
	dir := writeDir(t, without(files, files[1].name))
	require.NoError(t, os.Mkdir(filepath.Join(dir, files[1].name), 0o755))
	_, err := Open(context.Background(), dir, OpenOptions{})
	require.ErrorIs(t, err, ErrMalformed)
}

// TestCutAnywhere cuts archives of every form short at many points: what loads
// is whole, and everything else is an error that leaves nothing behind.
func TestCutAnywhere(t *testing.T) {
	z := threeLayers(t)
	for form, files := range zooForms(t, z) {
		t.Run(form, func(t *testing.T) {
			whole := tarOf(t, files...)
			step := max(1, len(whole)/50)
			for n := 0; n < len(whole); n += step {
				s := newFakeStore()
				loaded, err := openAndLoad(t, s, "-", OpenOptions{Stdin: bytes.NewReader(whole[:n])})
				if err == nil {
					require.Len(t, loaded, 1, "cut at %d", n)
					require.Greater(t, n, len(whole)-2*tarBlock, "only the second block of the end may be missing")
					continue
				}
				require.ErrorIs(t, err, ErrArchive, "cut at %d", n)
				require.True(t, s.empty(), "cut at %d", n)
			}
		})
	}
}

func TestCompressedArchiveCutAnywhere(t *testing.T) {
	for _, name := range []string{"gzip", "zstd"} {
		whole := packers[name](t, tarOf(t, dockerFiles(t, packers["plain"], threeLayers(t))...))
		for n := 0; n < len(whole)-1; n += 3 {
			s := newFakeStore()
			_, err := openAndLoad(t, s, "-", OpenOptions{Stdin: bytes.NewReader(whole[:n])})
			require.ErrorIs(t, err, ErrArchive, "%s cut at %d of %d", name, n, len(whole))
			require.True(t, s.empty())
		}
	}
}

// TestFlippedBits flips bits all over archives. Either nothing loads, or layers
// that have the digests that they ought to have.
func TestFlippedBits(t *testing.T) {
	z := threeLayers(t)
	wanted := map[digest.Digest]bool{}
	for _, d := range z.diffIDs() {
		wanted[d] = true
	}
	const seed = 7
	random := rand.New(rand.NewPCG(seed, seed))
	for form, files := range zooForms(t, z) {
		whole := tarOf(t, files...)
		for range 40 {
			flipped := bytes.Clone(whole)
			at, bit := random.IntN(len(flipped)), random.IntN(8)
			flipped[at] ^= 1 << bit
			s := newFakeStore()
			_, err := openAndLoad(t, s, "-", OpenOptions{Stdin: bytes.NewReader(flipped)})
			where := fmt.Sprintf("%s: bit %d of byte %d", form, bit, at)
			if err != nil {
				require.True(t, s.empty(), where)
				require.ErrorIs(t, err, ErrArchive, where)
				continue
			}
			for _, l := range s.layers {
				if !strings.HasPrefix(form, "v1") { // that form has no digests at all
					require.True(t, wanted[l.info.DiffID], where)
				}
			}
		}
	}
}

func TestTooManyMembers(t *testing.T) {
	header := tarOf(t, zooFile{name: "x"})[:tarBlock]
	_, err := Open(context.Background(), writeFile(t, bytes.Repeat(header, maxMembers+1)), OpenOptions{})
	require.ErrorIs(t, err, ErrMalformed)
	require.ErrorContains(t, err, "more than 100000 files")
}

func TestTooManyDocuments(t *testing.T) {
	d := documents{members: memMembers{"a.json": make([]byte, maxDocument)}}
	for range maxDocuments / maxDocument {
		_, err := d.bytes("a.json")
		require.NoError(t, err)
	}
	_, err := d.bytes("a.json")
	require.ErrorIs(t, err, ErrMalformed)
	require.ErrorContains(t, err, "together")
}

func TestConfigsThatCannotBeUsed(t *testing.T) {
	id := digest.FromString("x").String()
	for text, kind := range map[string]error{
		`{}`: ErrUnsupported,
		`{"os":"windows","rootfs":{"type":"layers"}}`:          ErrUnsupported,
		`{"rootfs":{"type":"layers+base"}}`:                    ErrUnsupported,
		`{"rootfs":{"type":"layers","diff_ids":["x"]}}`:        ErrMalformed,
		`{"rootfs":{"type":"layers","diff_ids":["md5:00"]}}`:   ErrMalformed,
		`{"rootfs":{"type":"layers","diff_ids":"` + id + `"}}`: ErrMalformed,
		`[]`: ErrMalformed,
		`{"rootfs":{"type":"layers"},"rootfs":{"type":"layers","diff_ids":null}}`:                              ErrMalformed,
		strings.Repeat(`{"a":`, 20000) + "1" + strings.Repeat("}", 20000):                                      ErrMalformed,
		`{"rootfs":{"type":"layers","diff_ids":[` + strings.Repeat(`"`+id+`",`, maxLayers) + `"` + id + `"]}}`: ErrUnsupported,
	} {
		_, err := parseConfig([]byte(text), "config.json")
		require.ErrorIs(t, err, kind, "%.80s", text)
	}
	c, err := parseConfig([]byte(`{"created":"yesterday","rootfs":{"type":"layers","diff_ids":["`+id+`"]}}`), "")
	require.NoError(t, err, "times are for people")
	require.True(t, c.Created.IsZero())
}

func TestErrorIsJSONIndependent(t *testing.T) {
	err := bad(ErrMissing, "a\x1b[31m b", "is not there")
	require.Equal(t, `"a\x1b[31m b": is not there`, err.Error())
	var syntax *json.SyntaxError
	wrapped := damaged(json.Unmarshal([]byte("{"), &struct{}{}), "m", "not JSON")
	require.ErrorAs(t, wrapped, &syntax)
}
