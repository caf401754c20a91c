package image

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot"
)

func TestNormalize(t *testing.T) {
	for name, want := range map[string]string{
		"debian":                               "debian:latest",
		"debian:12":                            "debian:12",
		"library/debian:12":                    "debian:12",
		"docker.io/debian":                     "debian:latest",
		"docker.io/library/debian:12":          "debian:12",
		"index.docker.io/library/debian:12":    "debian:12",
		"docker.io/me/app:1.0_rc-1":            "me/app:1.0_rc-1",
		"me/app":                               "me/app:latest",
		"me/deep/app":                          "me/deep/app:latest",
		"localhost/app":                        "localhost/app:latest",
		"localhost:5000/app:x":                 "localhost:5000/app:x",
		"registry.example.com:443/a/b:c":       "registry.example.com:443/a/b:c",
		"gcr.io/library/x":                     "gcr.io/library/x:latest",
		"[2001:db8::1]:5000/a:b":               "[2001:db8::1]:5000/a:b",
		"Host/app":                             "Host/app:latest",
		"a__b/c-d.e:F":                         "a__b/c-d.e:F",
		"app:" + strings.Repeat("x", 128):      "app:" + strings.Repeat("x", 128),
		"docker.io/library/localhost/x:1":      "library/localhost/x:1",
		"sha256:1":                             "sha256:1",
		"docker.io/library/a.b:1":              "a.b:1",
		"docker.io/localhost/x":                "docker.io/localhost/x:latest",
		strings.Repeat("a", 63) + ":1":         strings.Repeat("a", 63) + ":1",
		"docker.io/" + strings.Repeat("0", 64): strings.Repeat("0", 64) + ":latest",
	} {
		got, err := Normalize(name)
		require.NoError(t, err, name)
		require.Equal(t, want, got, name)
	}
}

func TestInvalidReferences(t *testing.T) {
	for name, why := range map[string]string{
		"":                                   "empty",
		"Debian":                             "lower case",
		"me/App":                             "lower case",
		"debian:":                            "tag",
		":12":                                "repository",
		"debian:-x":                          "tag",
		"debian:" + strings.Repeat("x", 129): "tag",
		"a//b":                               "repository",
		"a/":                                 "repository",
		"/a":                                 "repository",
		"a b":                                "repository",
		"a___b":                              "repository",
		"../a":                               "registry",
		"a/../b":                             "repository",
		"-host.example/a":                    "registry",
		"host.example:port/a":                "registry",
		"debian@sha256:" + strings.Repeat("0", 64): "digest",
		strings.Repeat("0", 64):                    "id",
		strings.Repeat("a", 256):                   "255",
		"a\x1b[2J":                                 "repository",
	} {
		_, err := Normalize(name)
		require.ErrorIs(t, err, ErrReference, name)
		require.ErrorIs(t, err, snapshot.ErrInvalid, name)
		require.ErrorContains(t, err, why, name)
		require.NotContains(t, err.Error(), "\x1b")
	}
}
