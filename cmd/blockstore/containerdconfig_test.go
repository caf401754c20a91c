package main

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestContainerdConfig(t *testing.T) {
	print := func(version string) string {
		a, out, errs := fakeApp("ext4")
		a.doors = doors()
		code := a.run(context.Background(), []string{
			"--root", "/srv/the store", "serve", "--print-containerd-config", version, "--containerd-socket", "/run/a.sock",
		})
		require.Equal(t, exitDone, code, errs.String())
		return out.String()
	}
	for _, version := range containerdVersions() {
		text := print(version)
		require.Contains(t, text, "[proxy_plugins.blockstore]\n  type = \"snapshot\"\n  address = \"/run/a.sock\"\n")
		old := version == "1.6"
		require.NotEqual(t, old, strings.Contains(text, "    root = \"/srv/the store\"\n"), "1.6.20 does not know exports")
		require.NotEqual(t, old, strings.Contains(text, "  type = \"diff\"\n"), "1.6 does not know diff plugins")
		require.Equal(t, version == "2", strings.Contains(text, "remap-ids"), "1.7 mounts without mapping")
	}
	require.Contains(t, print("1.7"), "version = 2\n")
	require.Contains(t, print("2"), "version = 3\n")

	a, out, errs := fakeApp("ext4")
	a.doors = doors()
	require.Equal(t, exitDone, a.run(context.Background(), []string{"serve", "--print-containerd-config", "1.7"}))
	doc, err := os.ReadFile("../../docs/containerd.md")
	require.NoError(t, err)
	require.Contains(t, string(doc), "```toml\n"+out.String()+"```\n")

	out.Reset()
	require.Equal(t, exitUsage, a.run(context.Background(), []string{"serve", "--print-containerd-config", "1.5"}))
	require.Empty(t, out.String())
	require.Contains(t, errs.String(), "1.6, 1.7, 2")
}
