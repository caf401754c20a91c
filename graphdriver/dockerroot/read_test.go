package dockerroot

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	"github.com/stretchr/testify/require"
)

func write(t *testing.T, path, content string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
}

func TestRead(t *testing.T) {
	data := t.TempDir()
	home := filepath.Join(data, "blockstore")
	_, err := Read(home)
	require.ErrorIs(t, err, os.ErrNotExist)

	diffs := []digest.Digest{digest.FromString("one"), digest.FromString("two")}
	chains := identity.ChainIDs([]digest.Digest{diffs[0], diffs[1]})
	at := func(below string) string { return filepath.Join(data, "image", "blockstore", below) }
	for i, c := range chains {
		write(t, at("layerdb/sha256/"+c.Encoded()+"/cache-id"), fmt.Sprintf("cache%d\n", i))
	}
	write(t, at("layerdb/sha256/"+digest.FromString("half").Encoded()+"-removing/cache-id"), "half-deleted")
	write(t, at("layerdb/sha256/"+digest.FromString("lost").Encoded()+"/cache-id"), "")
	config := fmt.Sprintf(`{"created":"2026-11-26T10:00:00Z","rootfs":{"diff_ids":[%q,%q]}}`, diffs[0], diffs[1])
	id := digest.FromString(config)
	write(t, at("imagedb/content/sha256/"+id.Encoded()), config)
	write(t, at("imagedb/content/sha256/"+digest.FromString("empty").Encoded()), "")
	write(t, at("repositories.json"), fmt.Sprintf(`{"Repositories":{"debian":{"debian:12":%q,"debian:latest":%q,"debian@sha256:00":%q}}}`, id, id, id))
	write(t, at("layerdb/mounts/c1/mount-id"), "m1")
	write(t, at("layerdb/mounts/c1/init-id"), "m1-init")
	write(t, at("layerdb/mounts/c2/mount-id"), "m2")
	write(t, at("layerdb/mounts/c3/mount-id"), "")
	write(t, filepath.Join(data, "containers/c1/config.v2.json"), fmt.Sprintf(`{"Name":"/web","Image":%q,"Config":{"Image":"debian"}}`, id))

	inv, err := Read(home)
	require.NoError(t, err)
	require.Len(t, inv.Images, 1)
	im := inv.Images[0]
	require.Equal(t, id, im.ID)
	require.Equal(t, []string{"debian:12", "debian:latest"}, im.Refs)
	require.Equal(t, []string{"cache0", "cache1"}, im.Layers)
	require.Equal(t, diffs, im.DiffIDs)
	require.Equal(t, 2026, im.Created.Year())
	require.Equal(t, []Container{
		{ID: "c1", Name: "web", Image: "debian", ImageID: id, Layer: "m1", Init: "m1-init"},
		{ID: "c2", Layer: "m2"},
	}, inv.Containers)
	for _, known := range []string{"cache0", "cache1", "half-deleted", "m1", "m1-init", "m2"} {
		require.True(t, inv.Known[known], known)
	}
}
