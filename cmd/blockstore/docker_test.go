package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/graphdriver"
	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/drivertest/dirdriver"
)

// dockersStore makes a store with an image, a container and a lost layer of Docker's,
// and the files that Docker keeps about them.
func dockersStore(t *testing.T) func(code int, args ...string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: the store mounts file systems")
	}
	dir := t.TempDir()
	kind, root, data := dirdriver.New(), filepath.Join(dir, "store"), filepath.Join(dir, "docker")
	ctx := t.Context()
	require.NoError(t, snapshot.Init(ctx, kind, snapshot.InitOptions{Root: root}, ""))
	o := snapshot.StoreOptions{Root: root, Kinds: []snapshot.Kind{kind}}
	s, err := snapshot.Open(ctx, o)
	require.NoError(t, err)
	require.NoError(t, s.SetDoorState("docker", fmt.Appendf(nil, `{"home":%q}`, filepath.Join(data, "blockstore"))))
	id := func(digit string) string { return strings.Repeat(digit, 64) }
	parent := ""
	for _, name := range []string{id("a"), id("c") + "-init", id("c")} {
		_, err := s.Create(ctx, graphdriver.Name(name), snapshot.CreateRequest{Parent: parent, FreezeParent: true})
		require.NoError(t, err)
		parent = graphdriver.Name(name)
	}
	mounted, err := s.Mount(ctx, parent)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(mounted, "new"), nil, 0o600))
	require.NoError(t, s.Unmount(ctx, parent))
	_, err = s.Create(ctx, graphdriver.Name(id("f")), snapshot.CreateRequest{Labels: map[string]string{"docker.home": filepath.Join(data, "blockstore")}})
	require.NoError(t, err)
	require.NoError(t, s.Close(ctx))

	diff := digest.FromString("layer")
	config := fmt.Sprintf(`{"created":"2026-11-26T10:00:00Z","rootfs":{"type":"layers","diff_ids":[%q]},"history":[{"created_by":"x"}]}`, diff)
	image := digest.FromString(config)
	for name, text := range map[string]string{
		"image/blockstore/imagedb/content/sha256/" + image.Encoded():      config,
		"image/blockstore/layerdb/sha256/" + diff.Encoded() + "/cache-id": id("a"),
		"image/blockstore/repositories.json":                              fmt.Sprintf(`{"Repositories":{"debian":{"debian:12":%q}}}`, image),
		"image/blockstore/layerdb/mounts/0123456789abcdef0123/mount-id":   id("c"),
		"image/blockstore/layerdb/mounts/0123456789abcdef0123/init-id":    id("c") + "-init",
		"containers/0123456789abcdef0123/config.v2.json":                  fmt.Sprintf(`{"Name":"/web","Image":%q,"Config":{"Image":"debian:12"}}`, image),
	} {
		path := filepath.Join(data, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	t.Cleanup(func() { require.NoError(t, snapshot.Destroy(context.Background(), o)) })
	return func(code int, args ...string) string {
		t.Helper()
		var out bytes.Buffer
		a := &app{stdin: strings.NewReader(""), stdout: &out, stderr: &out, kinds: o.Kinds, euid: os.Geteuid, fsType: fsType}
		require.Equal(t, code, a.run(ctx, append([]string{"--root", root}, args...)), "%v: %s", args, &out)
		return out.String()
	}
}

// TestDockersView: Docker's layers are shown by Docker's names, found by them, and
// not changed behind its back.
func TestDockersView(t *testing.T) {
	bs := dockersStore(t)
	require.Regexp(t, `docker/web +debian:12 `, bs(0, "ps"))
	require.Equal(t, "docker/web", strings.Split(bs(0, "ps", "-q"), "\n")[1])
	require.Contains(t, bs(0, "ps", "--json"), `"image": "debian:12"`)
	require.Regexp(t, `docker/debian +12 `, bs(0, "images"))
	tree := bs(0, "images", "--tree")
	require.Regexp(t, `docker/aaaaaaaaaaaa .*docker/debian:12`, tree)
	require.Regexp(t, `└─docker/web-init`, tree)
	require.Contains(t, tree, "container docker/web")
	require.Regexp(t, `docker/debian:12 `, bs(0, "du"))
	for _, name := range []string{"docker/web", "docker/0123", "docker/" + strings.Repeat("c", 64)} {
		require.Equal(t, "A /new\n", bs(0, "diff", name), name)
		require.Contains(t, bs(0, "inspect", name), `"name": "web"`)
	}
	require.Contains(t, bs(0, "inspect", "docker/debian:12"), `"docker/debian:12"`)
	require.NotEmpty(t, bs(0, "export", "docker/web", "-o", filepath.Join(t.TempDir(), "web.tar"), "--json"))
	bs(3, "diff", "docker/nobody")
	bs(3, "inspect", "docker/nobody")
	for _, args := range [][]string{{"rm", "docker/web"}, {"rm", "-f", "docker/web"}, {"umount", "docker/web"}, {"mount", "docker/web"}, {"commit", "docker/web", "x:1"}} {
		require.Contains(t, bs(4, args...), "to mend it: docker", args)
	}
	require.Contains(t, bs(1, "rmi", "docker/debian:12"), "docker rmi")
	require.Regexp(t, `forgotten by Docker .*docker/ffff`, bs(0, "gc"))
	require.Regexp(t, `deleted: docker/ffff`, bs(0, "gc", "--docker"))
	require.Empty(t, bs(0, "gc", "--docker"))
	require.Contains(t, bs(0, "check"), "clean")
}
