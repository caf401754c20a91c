package main

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"text/template"
)

// containerdVersions are those whose configuration we know, oldest first.
func containerdVersions() []string { return []string{"1.6", "1.7", "2"} }

// containerdConfig is the part of containerd's configuration that makes a store its
// snapshotter. 1.6 as Debian 12 has it (1.6.20) knows neither exports nor diff
// plugins; exports came with 1.7.16. 1.7.23 takes remap-ids, but mounts without mapping:
// idmapped mounts came with 2.0.
var containerdConfig = template.Must(template.New("config.toml").Parse(`
{{- if eq .Version "2"}}version = 3{{else}}version = 2{{end}}

[proxy_plugins.blockstore]
  type = "snapshot"
  address = {{.Socket}}
{{- if eq .Version "2"}}
  capabilities = ["remap-ids"]
{{- end}}
{{- if ne .Version "1.6"}}
  [proxy_plugins.blockstore.exports] # from 1.7.16: kubelet asks there how full the disk is
    root = {{.Root}}

[proxy_plugins.blockstore-diff] # from 1.7.4
  type = "diff"
  address = {{.Socket}}

[plugins."io.containerd.service.v1.diff-service"]
  default = ["blockstore-diff", "walking"]
{{- end}}

# Kubernetes (CRI):
{{- if eq .Version "2"}}
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "blockstore"
{{- else}}
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "blockstore"
  disable_snapshot_annotations = true
{{- end}}
{{- if eq .Version "2"}}

# Pulls go through the transfer service.
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
  platform = "{{.Platform}}"
  snapshotter = "blockstore"
  differ = "blockstore-diff"

# What containerd has by itself, which naming one's own replaces.
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
  platform = "{{.Platform}}"
  snapshotter = "overlayfs"
  differ = "walking"
  optional = true
{{- end}}
`))

// printContainerdConfig needs no store: it may be made later.
func (a *app) printContainerdConfig(version string, flags serveFlags) error {
	if !slices.Contains(containerdVersions(), version) {
		return usagef("containerd %s: its configuration is known for %s", version, strings.Join(containerdVersions(), ", "))
	}
	socket := containerdSocket
	for i, k := range a.doors {
		if k.name == "containerd" && flags.doors[i].socket != "" {
			socket = flags.doors[i].socket
		}
	}
	return containerdConfig.Execute(a.stdout, map[string]string{
		"Version": version, "Socket": strconv.Quote(socket), "Root": strconv.Quote(exports(a.root)), "Platform": "linux/" + runtime.GOARCH,
	})
}

// exports is the directory whose statfs(2) tells how full a store is: the btrfs
// that lies in the store's loopback file, what a server has tell it of a thin pool, or
// else what holds the store.
func exports(root string) string {
	for _, name := range []string{"mnt", "gauge"} {
		inner := filepath.Join(root, "driver", name)
		if st, err := os.Stat(inner); err == nil && st.IsDir() {
			return inner
		}
	}
	return root
}
