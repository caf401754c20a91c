package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/stretchr/testify/require"
)

// serve serves the store to Docker, under a driver name of its own: dockerd finds a
// plugin by its socket's name.
func (s *store) serve() *server {
	s.t.Helper()
	driver := fmt.Sprintf("bstest%d", os.Getpid())
	require.NoError(s.t, os.MkdirAll(plugins, 0o700))
	v := s.serveAt("docker", filepath.Join(plugins, driver+".sock"))
	v.driver = driver
	return v
}

// plugins is where dockerd looks for them.
const plugins = "/run/docker/plugins"

// dockerd is a dockerd on the served store.
func (v *server) dockerd(args ...string) *dockerd {
	v.t.Helper()
	return newDockerd(v.t, scratch(v.t), v.driver, args...)
}

// mustAgree: the store is whole, and has the containers that Docker has.
func (v *server) mustAgree(d *dockerd) {
	v.t.Helper()
	v.store.run("check")
	var all []struct{ Docker struct{ Name string } }
	v.store.json(&all, "ps")
	var ours []string
	for _, c := range all {
		if c.Docker.Name != "" { // BuildKit's layers and containers' init layers have none
			ours = append(ours, c.Docker.Name)
		}
	}
	require.ElementsMatch(v.t, strings.Fields(d.docker("ps", "-a", "--format", "{{.Names}}")), ours)
}

// mustBeEmpty: nothing of Docker's is in the store, nothing is mounted, no device of
// a layer is active.
func (v *server) mustBeEmpty() {
	v.t.Helper()
	var found struct{ Layers, Containers, Volumes int }
	v.store.json(&found, "check")
	require.Zero(v.t, found.Layers+found.Containers, "%+v", found)
	require.Equal(v.t, "[]", v.store.run("--json", "ps"))
	require.Equal(v.t, "[]", v.store.run("--json", "images"))
}
