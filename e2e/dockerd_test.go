package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot/layertar/treetest"
)

// startDockerd runs Debian's dockerd for one test and returns a docker client
// that talks to it.
func startDockerd(t *testing.T) func(args ...string) string {
	t.Helper()
	if os.Getenv("BLOCKSTORE_UML") != "" {
		t.Skip("dockerd's part is the same on every driver: it runs on the machine's own kernel")
	}
	dir := scratch(t)
	socket := "unix://" + filepath.Join(dir, "d.sock")
	log, err := os.Create(filepath.Join(dir, "log"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = log.Close() })
	cmd := exec.Command("dockerd", "--iptables=false", "--ip6tables=false", "--bridge=none", "-s", "vfs",
		"--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"),
		"-p", filepath.Join(dir, "pid"), "-H", socket)
	cmd.Stdout, cmd.Stderr = log, log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	})
	docker := func(args ...string) string {
		return command(t, "docker", append([]string{"-H", socket}, args...)...)
	}
	require.Eventually(t, func() bool {
		return exec.Command("docker", "-H", socket, "version").Run() == nil
	}, time.Minute, 100*time.Millisecond, "dockerd did not start; see %s", log.Name())
	return docker
}

// TestDockerd: a real dockerd loads what we save, and we load what it saves: the
// same image, the same tree.
func TestDockerd(t *testing.T) {
	docker := startDockerd(t)
	image := realImage(t)
	const ref = "real/postgres:latest"
	s := newStore(t)
	s.run("load", "-i", filepath.Join(image, "docker-archive.tar"))
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
	id := strings.TrimSpace(docker("create", "--net", "none", "real/changed:1", "true"))
	docker("cp", id+":/etc/motd", filepath.Join(files, "motd"))
	motd, err := os.ReadFile(filepath.Join(files, "motd"))
	require.NoError(t, err)
	require.Equal(t, "committed\n", string(motd))
	s.run("umount", "c")
	other.run("umount", "c")
}
