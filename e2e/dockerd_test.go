package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot/layertar/treetest"
)

// TestDockerd: a real dockerd loads what we save, and we load what it saves: the
// same image, the same tree.
func TestDockerd(t *testing.T) {
	if os.Getenv("BLOCKSTORE_MACHINE") != "" {
		t.Skip("dockerd's part is the same on every driver: it runs on the machine's own kernel")
	}
	docker := newDockerd(t, scratch(t), "vfs").docker
	image := realImage(t)
	const ref = "real/postgres:latest"
	s := newStore(t)
	s.run("load", "-i", filepath.Join(image, "postgres.docker.tar"))
	ours := s.identity(ref)

	files := scratch(t)
	toDocker, fromDocker := filepath.Join(files, "ours.tar"), filepath.Join(files, "dockers.tar")
	s.run("save", "-o", toDocker, ref)
	docker("load", "-i", toDocker)
	var theirs []struct {
		ID     string `json:"Id"`
		RootFS struct{ Layers []string }
	}
	require.NoError(t, json.Unmarshal([]byte(docker("image", "inspect", ref)), &theirs))
	require.Equal(t, ours.ID, theirs[0].ID)
	require.Equal(t, ours.DiffIDs, theirs[0].RootFS.Layers)

	docker("save", "-o", fromDocker, ref)
	other := newStore(t)
	other.run("load", "-i", fromDocker)
	require.Equal(t, ours, other.identity(ref))
	other.run("create", "--name", "c", ref)
	s.run("create", "--name", "c", ref)
	treetest.Equal(t, s.run("mount", "c"), other.run("mount", "c"))

	// A container that we changed and committed is the same there.
	mounted := s.run("mount", "c")
	require.NoError(t, os.WriteFile(filepath.Join(mounted, "etc", "motd"), []byte("committed\n"), 0o644))
	require.NoError(t, os.Remove(filepath.Join(mounted, "etc", "hostname")))
	s.run("commit", "c", "real/changed:1")
	s.run("save", "-o", toDocker, "real/changed:1")
	docker("load", "-i", toDocker)
	id := docker("create", "--net", "none", "real/changed:1", "true")
	docker("cp", id+":/etc/motd", filepath.Join(files, "motd"))
	motd, err := os.ReadFile(filepath.Join(files, "motd"))
	require.NoError(t, err)
	require.Equal(t, "committed\n", string(motd))
	s.run("umount", "c")
	other.run("umount", "c")
}
