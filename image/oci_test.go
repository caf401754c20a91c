package image

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

func archImage(t testing.TB, arch string) zooImage {
	return zooImage{layers: [][]byte{zooLayer(t, arch)}, arch: arch}
}

// other is an architecture that is not this machine's.
func other() string {
	if hostPlatform().Architecture == "s390x" {
		return "ppc64le"
	}
	return "s390x"
}

func TestChoiceOfPlatform(t *testing.T) {
	host := hostPlatform().Architecture
	type result struct {
		archs []string // of the images that are taken
		kind  error
	}
	cases := map[string]struct {
		index    func(l *layout) []zooFile
		platform string
		want     result
	}{
		"host of two": {func(l *layout) []zooFile {
			return l.index(l.nested(l.image("gzip", archImage(t, other())).on("linux/"+other()), l.image("gzip", archImage(t, host)).on("linux/"+host)).named("a"))
		}, "", result{archs: []string{host}}},
		"asked for": {func(l *layout) []zooFile {
			return l.index(l.nested(l.image("gzip", archImage(t, other())).on("linux/"+other()), l.image("gzip", archImage(t, host)).on("linux/"+host)).named("a"))
		}, "linux/" + other(), result{archs: []string{other()}}},
		"platform told by the configs": {func(l *layout) []zooFile {
			return l.index(l.image("gzip", archImage(t, other())).named("a"), l.image("gzip", archImage(t, host)).named("a"))
		}, "", result{archs: []string{host}}},
		"the only one": {func(l *layout) []zooFile {
			return l.index(l.image("gzip", archImage(t, other())).on("linux/" + other()).named("a"))
		}, "", result{archs: []string{other()}}},
		"the only one is not the one": {func(l *layout) []zooFile {
			return l.index(l.image("gzip", archImage(t, other())).on("linux/" + other()).named("a"))
		}, "linux/" + host, result{kind: ErrUnsupported}},
		"none of two": {func(l *layout) []zooFile {
			return l.index(l.nested(l.image("gzip", archImage(t, "mips")).on("linux/mips"), l.image("gzip", archImage(t, "riscv64")).on("linux/riscv64")).named("a"))
		}, "", result{kind: ErrUnsupported}},
		"saved in part": {func(l *layout) []zooFile {
			missing := newLayout(t).image("gzip", archImage(t, other())).on("linux/" + other())
			return l.index(l.nested(missing, l.image("gzip", archImage(t, host)).on("linux/"+host)).named("a"))
		}, "", result{archs: []string{host}}},
		"saved without the one": {func(l *layout) []zooFile {
			missing := newLayout(t).image("gzip", archImage(t, host)).on("linux/" + host)
			return l.index(l.nested(missing, l.image("gzip", archImage(t, other())).on("linux/"+other())).named("a"))
		}, "linux/" + host, result{kind: ErrUnsupported}},
		"nothing saved": {func(l *layout) []zooFile {
			return l.index(l.nested(newLayout(t).image("gzip", archImage(t, host)).on("linux/" + host)).named("a"))
		}, "", result{kind: ErrMissing}},
		"layer of the one missing": {func(l *layout) []zooFile {
			d := l.image("gzip", archImage(t, host)).on("linux/" + host)
			l.files = without(l.files, l.files[1].name)
			return l.index(l.nested(d, l.image("gzip", archImage(t, other())).on("linux/"+other())).named("a"))
		}, "", result{kind: ErrMissing}},
		"attestation beside": {func(l *layout) []zooFile {
			d := l.image("gzip", zooImage{layers: [][]byte{zooLayer(t, "x")}, arch: "unknown"}).on("unknown/unknown")
			return l.index(l.nested(l.image("gzip", archImage(t, host)).on("linux/"+host), d.with("annotations",
				map[string]string{attestationKey: "attestation-manifest"})).named("a"))
		}, "", result{archs: []string{host}}},
		"artifact beside": {func(l *layout) []zooFile {
			empty := l.blob("application/vnd.oci.empty.v1+json", []byte("{}"))
			d := l.blob("application/vnd.oci.image.manifest.v1+json", jsonOf(t, map[string]any{
				"schemaVersion": 2, "artifactType": "application/vnd.example", "config": empty, "layers": []any{empty},
			}))
			return l.index(d, l.image("gzip", archImage(t, host)).named("a"), empty)
		}, "", result{archs: []string{host}}},
		"artifacts only": {func(l *layout) []zooFile {
			return l.index(l.blob("application/vnd.example", []byte("{}")))
		}, "", result{kind: ErrUnsupported}},
		"windows": {func(l *layout) []zooFile {
			return l.index(l.image("gzip", archImage(t, "amd64")).on("windows/amd64").named("a"))
		}, "", result{kind: ErrUnsupported}},
		"without names": {func(l *layout) []zooFile {
			return l.index(l.image("gzip", archImage(t, host)), l.image("gzip", zooImage{layers: [][]byte{zooLayer(t, "z")}, arch: host}))
		}, "", result{archs: []string{host, host}}},
		"without media types": {func(l *layout) []zooFile {
			d := l.image("gzip", archImage(t, host))
			delete(d, "mediaType")
			n := l.nested(d)
			delete(n, "mediaType")
			return l.index(n.named("a"))
		}, "", result{archs: []string{host}}},
		"two of one name": {func(l *layout) []zooFile {
			return l.index(l.image("gzip", archImage(t, host)).named("a"), l.image("gzip", zooImage{layers: [][]byte{zooLayer(t, "z")}, arch: host}).named("a"))
		}, "", result{kind: ErrMalformed}},
		"one of one name twice": {func(l *layout) []zooFile {
			d := l.image("gzip", archImage(t, host)).named("a")
			return l.index(d, d)
		}, "", result{archs: []string{host}}},
		"empty": {func(l *layout) []zooFile { return l.index() }, "", result{}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			path := writeFile(t, tarOf(t, c.index(newLayout(t))...))
			a, err := Open(context.Background(), path, OpenOptions{Platform: c.platform})
			if c.want.kind != nil {
				require.ErrorIs(t, err, c.want.kind)
				require.NotContains(t, err.Error(), "\n")
				return
			}
			require.NoError(t, err)
			defer a.Close()
			var archs []string
			for _, img := range a.Images() {
				archs = append(archs, configPlatform(img.Config).Architecture)
			}
			require.Equal(t, c.want.archs, archs)
		})
	}
}

func TestPlatformOfADockerArchive(t *testing.T) {
	path := writeFile(t, tarOf(t, dockerFiles(t, packers["plain"], archImage(t, "s390x"))...))
	_, err := Open(context.Background(), path, OpenOptions{Platform: "linux/riscv64"})
	require.ErrorIs(t, err, ErrUnsupported)
	require.ErrorContains(t, err, "linux/s390x")
	a, err := Open(context.Background(), path, OpenOptions{Platform: "linux/s390x"})
	require.NoError(t, err)
	require.NoError(t, a.Close())
}

func TestVariants(t *testing.T) {
	fits := func(want, have string) int {
		w, err := parsePlatform(want)
		require.NoError(t, err)
		h, err := parsePlatform(have)
		require.NoError(t, err)
		return w.fits(h)
	}
	require.Equal(t, 100, fits("linux/arm64", "linux/arm64/v8"))
	require.Equal(t, 100, fits("linux/arm", "linux/arm/v7"))
	require.Greater(t, fits("linux/arm", "linux/arm/v6"), fits("linux/arm", "linux/arm/v5"))
	require.Zero(t, fits("linux/arm/v6", "linux/arm/v7"))
	require.Zero(t, fits("linux/amd64", "linux/arm64"))
	for _, s := range []string{"linux", "linux/", "/amd64", "a/b/c/d"} {
		_, err := parsePlatform(s)
		require.Error(t, err, s)
	}
}

func TestNamesOfLayouts(t *testing.T) {
	for name, c := range map[string]struct {
		annotations map[string]string
		want        []string
	}{
		"tag":              {map[string]string{"org.opencontainers.image.ref.name": "12"}, []string{"pg:12"}},
		"name and tag":     {map[string]string{"org.opencontainers.image.ref.name": "debian:12"}, []string{"debian:12"}},
		"full":             {map[string]string{"org.opencontainers.image.ref.name": "docker.io/library/debian:12"}, []string{"debian:12"}},
		"containerd's":     {map[string]string{"org.opencontainers.image.ref.name": "12", containerdName: "docker.io/me/x:12"}, []string{"me/x:12"}},
		"changed by umoci": {map[string]string{"org.opencontainers.image.ref.name": "new", containerdName: "docker.io/me/x:12"}, []string{"me/x:new"}},
		"by digest":        {map[string]string{"org.opencontainers.image.ref.name": "a@sha256:00"}, nil},
		"none":             {nil, nil},
		"a tag that isn't": {map[string]string{"org.opencontainers.image.ref.name": "+x"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLayout(t)
			files := l.index(l.image("plain", threeLayers(t)).with("annotations", c.annotations))
			a, err := Open(context.Background(), writeFile(t, tarOf(t, files...)), OpenOptions{})
			require.NoError(t, err)
			defer a.Close()
			require.Equal(t, c.want, a.Images()[0].Refs)
		})
	}
}
