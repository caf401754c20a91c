package image

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
)

// These tests have other tools read what we write, and read what they write.

// tool skips a test on a machine that lacks a program.
func tool(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("no %s on this machine (Debian package of the same name, or docker.io)", name)
	}
}

func run(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s %s: %s", name, strings.Join(args, " "), stderr.String())
	return out
}

// skopeo's inspect prints the image's config with --config.
func skopeoID(t *testing.T, source string) digest.Digest {
	t.Helper()
	return digest.FromBytes(bytes.TrimSuffix(run(t, "skopeo", "inspect", "--config", "--raw", source), []byte("\n")))
}

func TestSkopeoReadsWhatWeSave(t *testing.T) {
	tool(t, "skopeo")
	s := stocked(t)
	ctx, dir := context.Background(), t.TempDir()
	refs := []string{"debian:12", "localhost:5000/me/app:v1", "other:12"}
	debian, err := s.Image(ctx, "debian:12")
	require.NoError(t, err)
	other, err := s.Image(ctx, "other:12")
	require.NoError(t, err)
	docker := filepath.Join(dir, "docker.tar")
	require.NoError(t, SaveTo(ctx, s, refs, docker, SaveOptions{}))
	for source, want := range map[string]digest.Digest{
		"docker-archive:" + docker + ":debian:12":                debian.ID,
		"docker-archive:" + docker + ":localhost:5000/me/app:v1": debian.ID,
		"docker-archive:" + docker + ":other:12":                 other.ID,
		"oci-archive:" + docker + ":debian:12":                   debian.ID, // two images have the tag 12
		"oci-archive:" + docker + ":v1":                          debian.ID,
		"oci-archive:" + docker + ":other:12":                    other.ID,
	} {
		require.Equal(t, want, skopeoID(t, source), source)
	}
	for _, c := range []Compression{Plain, Gzip, Zstd} {
		path := filepath.Join(dir, "oci."+string(c))
		require.NoError(t, SaveTo(ctx, s, []string{"debian:12"}, path, SaveOptions{Format: SaveOCIDir, Compression: c, SpoolDir: dir}))
		require.Equal(t, debian.ID, skopeoID(t, "oci:"+path+":12"))
		archive := filepath.Join(dir, "oci.tar."+string(c))
		require.NoError(t, SaveTo(ctx, s, []string{"debian:12"}, archive, SaveOptions{Format: SaveOCI, Compression: c, SpoolDir: dir}))
		require.Equal(t, debian.ID, skopeoID(t, "oci-archive:"+archive))
		// A copy has skopeo read and verify every blob.
		run(t, "skopeo", "copy", "--insecure-policy", "oci:"+path+":12", "dir:"+filepath.Join(dir, "copy."+string(c)))
	}
	run(t, "skopeo", "copy", "--insecure-policy", "docker-archive:"+docker+":debian:12", "dir:"+filepath.Join(dir, "copy"))
}

func TestWeReadWhatSkopeoSaves(t *testing.T) {
	tool(t, "skopeo")
	s := stocked(t)
	ctx, dir := context.Background(), t.TempDir()
	path := filepath.Join(dir, "oci")
	require.NoError(t, SaveTo(ctx, s, []string{"debian:12"}, path, SaveOptions{Format: SaveOCIDir}))
	debian, err := s.Image(ctx, "debian:12")
	require.NoError(t, err)
	for name, target := range map[string]string{
		"docker-archive": "docker-archive:" + filepath.Join(dir, "d.tar") + ":debian:12",
		"oci-archive":    "oci-archive:" + filepath.Join(dir, "o.tar") + ":debian:12",
		"oci":            "oci:" + filepath.Join(dir, "o") + ":debian:12",
	} {
		t.Run(name, func(t *testing.T) {
			run(t, "skopeo", "copy", "--insecure-policy", "oci:"+path+":12", target)
			source := strings.Split(target, ":")[1]
			again := newFakeStore()
			loaded := mustLoad(t, again, source, OpenOptions{})
			require.Len(t, loaded, 1)
			require.Equal(t, []string{"debian:12"}, loaded[0].Refs)
			require.Equal(t, debian.Layers, loaded[0].Layers)
			require.Equal(t, debian.ID, loaded[0].ID)
			if name != "docker-archive" {
				return
			}
			// The same file holds the older form.
			data, err := os.ReadFile(source)
			require.NoError(t, err)
			old := writeFile(t, refilter(t, data, []string{"manifest.json"}))
			loaded = mustLoad(t, again, old, OpenOptions{})
			require.Equal(t, debian.Layers, loaded[0].Layers)
		})
	}
}

func TestSkopeoDirectory(t *testing.T) {
	tool(t, "skopeo")
	path, dir := writeFile(t, saved(t, stocked(t), SaveOptions{}, "debian:12")), filepath.Join(t.TempDir(), "dir")
	run(t, "skopeo", "copy", "--insecure-policy", "docker-archive:"+path, "dir:"+dir)
	_, err := Open(context.Background(), dir, OpenOptions{})
	require.ErrorIs(t, err, ErrUnsupported)
	require.ErrorContains(t, err, "skopeo copy")
}

func TestUmociAndWe(t *testing.T) {
	tool(t, "umoci")
	s := stocked(t)
	ctx, dir := context.Background(), t.TempDir()
	path := filepath.Join(dir, "oci")
	require.NoError(t, SaveTo(ctx, s, []string{"debian:12"}, path, SaveOptions{Format: SaveOCIDir, Compression: Gzip, SpoolDir: dir}))
	bundle := filepath.Join(dir, "bundle")
	run(t, "umoci", "unpack", "--rootless", "--image", path+":12", bundle)
	got, err := os.ReadFile(filepath.Join(bundle, "rootfs/etc/b"))
	require.NoError(t, err)
	require.Equal(t, strings.Repeat("b", 3000), string(got))

	require.NoError(t, os.WriteFile(filepath.Join(bundle, "rootfs/etc/new"), []byte("new"), 0o644))
	run(t, "umoci", "repack", "--image", path+":changed", bundle)
	loaded := mustLoad(t, newFakeStore(), path, OpenOptions{})
	require.Len(t, loaded, 2, "the old image and the changed one")
	require.Equal(t, []string{"debian:changed"}, loaded[1].Refs)
	require.Len(t, loaded[1].Layers, 4)
	debian, err := s.Image(ctx, "debian:12")
	require.NoError(t, err)
	require.Equal(t, debian.Layers, loaded[1].Layers[:3])
}

// dockerd runs Docker's daemon with the vfs driver and returns its client.
func dockerd(t *testing.T) func(args ...string) []byte {
	t.Helper()
	tool(t, "dockerd")
	tool(t, "docker")
	if os.Getuid() != 0 {
		t.Skip("dockerd needs root")
	}
	dir, err := os.MkdirTemp("", "bstest") // a socket's path has 107 characters at most
	require.NoError(t, err)
	host := "unix://" + dir + "/d.sock"
	var log bytes.Buffer
	cmd := exec.Command("dockerd", "--iptables=false", "--ip6tables=false", "--bridge=none", "-s", "vfs",
		"--data-root", dir+"/data", "--exec-root", dir+"/exec", "-p", dir+"/pid", "-H", host)
	cmd.Stdout, cmd.Stderr = &log, &log
	require.NoError(t, cmd.Start())
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(exited)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-exited:
		case <-time.After(30 * time.Second):
			_ = cmd.Process.Kill()
			<-exited
			t.Error("dockerd did not stop")
		}
		require.NoError(t, os.RemoveAll(dir))
	})
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(60 * time.Second); ; {
		if exec.Command("docker", "-H", host, "version").Run() == nil {
			break
		}
		select {
		case <-exited:
			t.Skipf("dockerd does not run on this machine: %s", log.String())
		case <-tick.C:
			require.True(t, time.Now().Before(deadline), "dockerd does not answer")
		}
	}
	return func(args ...string) []byte { return run(t, "docker", append([]string{"-H", host}, args...)...) }
}

func TestDockerdAndWe(t *testing.T) {
	docker := dockerd(t)
	s := stocked(t)
	ctx, dir := context.Background(), t.TempDir()
	path, back := filepath.Join(dir, "ours.tar"), filepath.Join(dir, "theirs.tar")
	require.NoError(t, SaveTo(ctx, s, []string{"debian:12", "localhost:5000/me/app:v1", "other:12"}, path, SaveOptions{}))
	docker("load", "-i", path)
	docker("save", "-o", back, "debian:12", "localhost:5000/me/app:v1", "other:12")
	again := newFakeStore()
	for _, l := range mustLoad(t, again, back, OpenOptions{}) {
		for _, ref := range l.Refs {
			original, err := s.Image(ctx, ref)
			require.NoError(t, err)
			require.Equal(t, original.ID, l.ID)
			require.Equal(t, original.Layers, l.Layers)
		}
	}
	require.Len(t, again.images, 2)

	// The older form: Docker makes configs of it, and so do we, of the same id.
	data, err := os.ReadFile(back)
	require.NoError(t, err)
	for name, old := range map[string][]byte{
		"theirs":    refilter(t, data, []string{"manifest.json"}),
		"the zoo's": tarOf(t, v1Files(t, packers["gzip"], threeLayers(t))...),
	} {
		t.Run("v1 of "+name, func(t *testing.T) {
			path := writeFile(t, old)
			docker("load", "-i", path)
			loaded := mustLoad(t, newFakeStore(), path, OpenOptions{})
			for _, l := range loaded {
				var inspected []struct{ Id string }
				require.NoError(t, json.Unmarshal(docker("inspect", l.Refs[0]), &inspected))
				require.Equal(t, inspected[0].Id, l.ID.String(), l.Refs)
			}
		})
	}
}
