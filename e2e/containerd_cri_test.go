package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// criConfig is the CRI plugin's part of containerd's configuration, which 2.x has divided:
// the image of sandboxes, neither networks nor devices, and no score below our own from
// the out-of-memory killer, which not every root may give.
func (c *containerd) criConfig() string {
	none := filepath.Join(c.dir, "none")
	runtime, more := "io.containerd.grpc.v1.cri", fmt.Sprintf("sandbox_image = %q\n", base+":pause")
	if c.version == debian13 {
		more += "enable_cdi = false\n"
	}
	plugins := fmt.Sprintf("bin_dir = %q\n", none)
	var text strings.Builder
	if c.version == newest {
		fmt.Fprintf(&text, "[plugins.%q.pinned_images]\nsandbox = %q\n", "io.containerd.cri.v1.images", base+":pause")
		runtime, more, plugins = "io.containerd.cri.v1.runtime", "", fmt.Sprintf("bin_dirs = [%q]\n", none)
	}
	fmt.Fprintf(&text, "[plugins.%q]\nrestrict_oom_score_adj = true\n%s", runtime, more)
	fmt.Fprintf(&text, "[plugins.%q.cni]\nconf_dir = %q\n%s", runtime, none, plugins)
	fmt.Fprintf(&text, "[plugins.%q.containerd.runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\n", runtime)
	fmt.Fprintf(&text, "[plugins.%q.containerd.runtimes.runc.options]\nRoot = %q\n", runtime, c.runcRoot())
	return text.String()
}

// pauseArchive is an image for sandboxes: its program does nothing, for long.
func pauseArchive(t *testing.T) (file string) {
	t.Helper()
	dir := scratch(t)
	layout, file := filepath.Join(dir, "oci"), filepath.Join(dir, "pause.tar")
	command(t, "skopeo", "copy", "--quiet", "--insecure-policy", "oci:"+filepath.Join(realImage(t), "oci")+":base", "oci:"+layout+":pause")
	command(t, "umoci", "config", "--image", layout+":pause", "--config.cmd", "/bin/sleep", "--config.cmd", "infinity")
	command(t, "skopeo", "copy", "--quiet", "--insecure-policy", "oci:"+layout+":pause", "oci-archive:"+file+":pause")
	return file
}

// cri runs a crictl command that must succeed.
func (c *containerd) cri(args ...string) string {
	c.t.Helper()
	r := c.tryCRI(args...)
	require.Zero(c.t, r.code, "crictl %s: %s%s", strings.Join(args, " "), r.stdout, r.stderr)
	return strings.TrimSpace(r.stdout)
}

func (c *containerd) tryCRI(args ...string) result {
	c.t.Helper()
	at, settings := "unix://"+c.socket(), filepath.Join(c.dir, "crictl.yaml")
	require.NoError(c.t, os.WriteFile(settings, nil, 0o600)) // the machine's own are not read
	return c.program(filepath.Join(partners(c.t), "newest", "crictl"),
		append([]string{"--config", settings, "--runtime-endpoint", at, "--image-endpoint", at, "--timeout", patience.String()}, args...)...)
}

// criJSON decodes what a crictl command prints.
func (c *containerd) criJSON(into any, args ...string) {
	c.t.Helper()
	text := c.cri(args...)
	require.NoError(c.t, decode(text, into), text)
}

// described writes what crictl reads.
func (c *containerd) described(name string, what map[string]any) (file string) {
	c.t.Helper()
	text, err := json.Marshal(what)
	require.NoError(c.t, err)
	file = filepath.Join(c.dir, name+".json")
	require.NoError(c.t, os.WriteFile(file, text, 0o600))
	return file
}

// pod describes one on the machine's network: there is no other here.
func (c *containerd) pod(name string) string {
	c.t.Helper()
	return c.described(name, map[string]any{
		"metadata":      map[string]any{"name": name, "namespace": "default", "uid": name + "-uid", "attempt": 1},
		"log_directory": c.dir,
		"linux": map[string]any{
			"cgroup_parent":    "/" + c.cgroup,
			"security_context": map[string]any{"namespace_options": map[string]any{"network": 2}},
		},
	})
}

func (c *containerd) criContainer(name, ref string, command ...string) string {
	c.t.Helper()
	return c.described(name, map[string]any{
		"metadata": map[string]any{"name": name}, "image": map[string]any{"image": ref},
		"command": command, "log_path": name + ".log", "linux": map[string]any{},
		"envs": []map[string]string{{"key": "PATH", "value": "/usr/sbin:/usr/bin:/sbin:/bin"}}, // the image says nothing
	})
}

// testContainerdCRI: pods and containers of Kubernetes' interface, as crictl and the
// kubelet use it.
func testContainerdCRI(t *testing.T, version string) {
	if testing.Short() {
		t.Skip("ten seconds: containerd unpacks an image and runs pods")
	}
	s := newStore(t)
	v := s.serveContainerd()
	c := v.containerd(version, containerdOptions{cri: true})
	pods(c, s.root)
	v.mustHave(c)
	require.Empty(t, s.mounted())
	c.ctr(append([]string{"image", "rm", "--sync"}, c.names("image", "ls", "-q")...)...)
	v.mustHave(c)
	v.mustBeEmpty()
}

func TestContainerdCRIDebian12(t *testing.T) { testContainerdCRI(t, debian12) }
func TestContainerdCRIDebian13(t *testing.T) { testContainerdCRI(t, debian13) }
func TestContainerdCRINewest(t *testing.T)   { testContainerdCRI(t, newest) }

func pods(c *containerd, root string) {
	t := c.t
	archive, ref := ociArchive(t, "base")
	c.load(archive)
	c.load(pauseArchive(t))
	var images struct{ Images []struct{ RepoTags []string } }
	require.True(t, eventually(func() bool {
		c.criJSON(&images, "images", "-o", "json")
		return len(images.Images) == 2
	}), "the CRI does not see what was imported: %+v", images)

	described := c.pod("pod")
	pod := c.cri("runp", described)
	const program = "echo begun; echo to the layer >/file && sync /file; exec sleep infinity"
	box := c.cri("create", pod, c.criContainer("box", ref, "sh", "-c", program), described)
	c.cri("start", box)
	require.True(t, eventually(func() bool { return strings.Contains(c.cri("logs", box), "begun") }), "nothing in its log")
	require.Equal(t, "to the layer", c.cri("exec", "--sync", box, "cat", "/file"))
	require.Equal(t, "to the layer", c.cri("exec", box, "cat", "/file"))
	c.cri("exec", "--sync", box, "sh", "-c", "head -c 8388608 /dev/urandom >/big && sync")
	c.seesSpace(box, root)

	// One that ended is made anew beside it, as the kubelet does, and has the image's tree.
	c.cri("stop", "--timeout", "0", box)
	second := c.cri("create", pod, c.criContainer("second", ref, "sleep", "infinity"), described)
	c.cri("start", second)
	require.NotZero(t, c.tryCRI("exec", "--sync", second, "cat", "/file").code)
	c.stop()
	c.start()
	require.Equal(t, "hello", c.cri("exec", "--sync", second, "echo", "hello"), "after a restart of containerd")
	c.cri("rm", box)
	c.cri("stop", "--timeout", "0", second)
	c.cri("rm", second)
	c.cri("stopp", pod)
	c.cri("rmp", pod)
	require.Empty(t, c.cri("ps", "--all", "--quiet"))
	require.Empty(t, c.cri("pods", "--quiet"))
}

// amount is a number in the CRI's JSON.
type amount struct {
	Value int64 `json:"value,string"`
}

// seesSpace: the kubelet's eviction and its image collection go by these. A container has
// what it wrote, and the images' file system is the store's.
func (c *containerd) seesSpace(container, root string) {
	c.t.Helper()
	var stats struct {
		Stats []struct {
			WritableLayer struct {
				UsedBytes amount
				FSID      struct{ Mountpoint string } `json:"fsId"`
			}
		}
	}
	require.True(c.t, eventually(func() bool {
		c.criJSON(&stats, "stats", "--id", container, "-o", "json")
		return len(stats.Stats) == 1 && stats.Stats[0].WritableLayer.UsedBytes.Value >= 8<<20
	}), "8 MiB were written, and the CRI says %+v", stats)
	require.Less(c.t, stats.Stats[0].WritableLayer.UsedBytes.Value, int64(32<<20))
	var info struct {
		Status struct {
			ImageFilesystems []struct {
				FSID      struct{ Mountpoint string } `json:"fsId"`
				UsedBytes amount
			}
		}
	}
	c.criJSON(&info, "imagefsinfo", "-o", "json")
	require.Len(c.t, info.Status.ImageFilesystems, 1, "%+v", info)
	require.Greater(c.t, info.Status.ImageFilesystems[0].UsedBytes.Value, int64(30<<20), "the image has 73 MB")
	at := info.Status.ImageFilesystems[0].FSID.Mountpoint
	if c.version == debian12 {
		return // it knows no exports, and names a directory of its own
	}
	require.True(c.t, at == root || strings.HasPrefix(at, root+"/"), "images lie in %s, it says, and the store in %s", at, root)
}
