package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// kubelet is a kubelet without a cluster: it runs the pods that are described in a
// directory.
type kubelet struct {
	daemon
	cri *containerd
}

// Where it listens, in a machine of its own.
const (
	kubeletHealth = "http://127.0.0.1:10248/healthz"
	kubeletStats  = "http://127.0.0.1:10255/stats/summary"
	kubeletPods   = "http://127.0.0.1:10255/pods"
)

// newKubelet starts one on a containerd with the CRI. It makes room when less than so many per cent
// of the images' file system are free.
func newKubelet(c *containerd, free string) *kubelet {
	c.t.Helper()
	k := &kubelet{daemon: daemon{t: c.t, name: "kubelet", dir: scratch(c.t)}, cri: c}
	config := map[string]any{
		"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
		"staticPodPath": k.path("pods"), "podLogsDir": k.path("logs"), "volumePluginDir": k.path("plugins"),
		"containerRuntimeEndpoint": "unix://" + c.socket(), "cgroupDriver": "cgroupfs",
		"address": "127.0.0.1", "readOnlyPort": 10255,
		"authentication": map[string]any{"anonymous": map[string]any{"enabled": true}, "webhook": map[string]any{"enabled": false}},
		"authorization":  map[string]any{"mode": "AlwaysAllow"},
		"failSwapOn":     false, "makeIPTablesUtilChains": false, "enforceNodeAllocatable": []string{},
		"localStorageCapacityIsolation": true, "fileCheckFrequency": "1s", "syncFrequency": "2s",
		"imageGCHighThresholdPercent": 100, "imageMinimumGCAge": "1s", "evictionHard": map[string]string{"imagefs.available": free},
	}
	text, err := json.Marshal(config)
	require.NoError(c.t, err)
	require.NoError(c.t, os.WriteFile(k.path("config"), text, 0o600))
	for _, dir := range []string{"pods", "logs", "plugins", "root"} {
		require.NoError(c.t, os.Mkdir(k.path(dir), 0o755))
	}
	k.clock()
	c.t.Cleanup(func() { k.end(k.path("root")) }) // which it mounts on itself
	k.start()
	return k
}

func (k *kubelet) path(name string) string { return filepath.Join(k.dir, name) }

// clock gives the processor a clock rate, which User Mode Linux does not know and a kubelet insists on.
func (k *kubelet) clock() {
	k.t.Helper()
	const known = "/proc/cpuinfo"
	text, err := os.ReadFile(known)
	require.NoError(k.t, err)
	require.NoError(k.t, os.WriteFile(k.path("cpuinfo"), append([]byte("cpu MHz\t\t: 1000.000\n"), text...), 0o600))
	require.NoError(k.t, unix.Mount(k.path("cpuinfo"), known, "", unix.MS_BIND, ""))
	k.t.Cleanup(func() { require.NoError(k.t, unix.Unmount(known, 0)) })
}

func (k *kubelet) start() {
	k.t.Helper()
	cmd := exec.Command(filepath.Join(partners(k.t), "newest", "kubelet"), "--config", k.path("config"), "--root-dir", k.path("root"),
		"--cert-dir", k.path("pki"), "--hostname-override", "node")
	k.launch(cmd, func() error { return ask(kubeletHealth, nil) })
}

func (k *kubelet) stop() { k.t.Helper(); k.signal(unix.SIGTERM) }

// ask decodes what a daemon of this machine answers.
func ask(url string, into any) error {
	answer, err := http.Get(url)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	switch {
	case answer.StatusCode != http.StatusOK:
		return fmt.Errorf("%s: %s", url, answer.Status)
	case into == nil:
		return nil
	}
	return json.NewDecoder(answer.Body).Decode(into)
}

// pod has the kubelet run a pod of one container, on the machine's network.
func (k *kubelet) pod(name, ref string, command ...string) {
	k.t.Helper()
	text, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": name, "namespace": "default"},
		"spec": map[string]any{
			"hostNetwork": true, "terminationGracePeriodSeconds": 0,
			"containers": []any{map[string]any{"name": "box", "image": ref, "imagePullPolicy": "Never", "command": command}},
		},
	})
	require.NoError(k.t, err)
	require.NoError(k.t, os.WriteFile(filepath.Join(k.path("pods"), name+".json"), text, 0o600))
}

// box is the container of a pod that runs, or "".
func (k *kubelet) box(pod string) string {
	k.t.Helper()
	return strings.TrimSpace(k.cri.cri("ps", "--quiet", "--state", "running", "--label", "io.kubernetes.pod.name="+pod+"-node"))
}

// fileSystem is what the kubelet says of one.
type fileSystem struct{ CapacityBytes, AvailableBytes, UsedBytes int64 }

// summary is a part of the kubelet's account.
type summary struct {
	Node struct {
		Runtime struct{ ImageFs fileSystem }
	}
	Pods []struct {
		Containers []struct{ Rootfs fileSystem }
	}
}

func (k *kubelet) summary() (found summary) {
	k.t.Helper()
	require.NoError(k.t, ask(kubeletStats, &found))
	return found
}

func near(a, b, within int64) bool { return a <= b+within && b <= a+within }

// TestKubelet: a kubelet runs a pod on the store, and sees how large the pool is, how full, and what the container has
// written. When less is left than it is to leave, it removes an image that no pod uses, and its space comes back. (The
// pods of a kubelet without a cluster are never evicted.)
func TestKubelet(t *testing.T) {
	if testing.Short() {
		t.Skip("a minute: a kubelet looks at its node every ten seconds")
	}
	if os.Getenv("BLOCKSTORE_MACHINE") != "uml" {
		t.Skip("not User Mode Linux, where it looks at device-mapper: a kubelet sets its kernel's parameters, which here are the machine's own")
	}
	s := newStore(t, "--loopback", "1G")
	v := s.serveContainerd("--extend-to", "1G")
	c := v.containerd(newest, containerdOptions{cri: true})
	archive, ref := ociArchive(t, "base")
	c.load(archive)
	c.load(pauseArchive(t))
	without, _ := s.used()
	unused, _ := ociArchive(t, "python")
	c.load(unused)
	with, _ := s.used()
	k := newKubelet(c, "30%")
	k.pod("one", ref, "sleep", "infinity")
	require.True(t, eventually(func() bool { return k.box("one") != "" }), "the pod does not run")
	require.True(t, eventually(func() bool { found := k.summary(); return len(found.Pods) == 1 && len(found.Pods[0].Containers) == 1 }), "no account of it")

	var before fileSystem
	require.True(t, eventually(func() bool {
		var info struct {
			Backing struct{ Data struct{ Used, Total int64 } }
		}
		s.json(&info, "info")
		data := info.Backing.Data
		before = k.summary().Node.Runtime.ImageFs
		return near(before.CapacityBytes, data.Total, data.Total/50) && near(before.AvailableBytes, data.Total-data.Used, data.Total/50)
	}), "the kubelet has %+v, and %s", before, s.run("info"))

	const mib = 1 << 20
	write := func(file string, n int64) {
		c.cri("exec", "--sync", k.box("one"), "sh", "-c", filling(file, int(n/mib)))
	}
	write("/some", 60*mib)
	require.True(t, eventually(func() bool {
		now := k.summary()
		used := now.Pods[0].Containers[0].Rootfs.UsedBytes
		return used >= 60*mib && used < 100*mib && now.Node.Runtime.ImageFs.AvailableBytes <= before.AvailableBytes-60*mib
	}), "60 MiB were written, and the kubelet has %+v, %+v before", k.summary(), before)
	more := k.summary().Node.Runtime.ImageFs.AvailableBytes - before.CapacityBytes/5
	write("/more", more)
	require.True(t, eventually(func() bool { return !strings.Contains(c.ctr("image", "ls", "-q"), ":python") }), "the image stays, with %+v", k.summary())
	back := before.AvailableBytes - 60*mib - more + (with-without)/4 // less the seeds of what was written, 10 MiB each
	require.True(t, eventually(func() bool { return k.summary().Node.Runtime.ImageFs.AvailableBytes >= back }),
		"of the image's %d bytes too few come back, to %d: %+v, %+v before", with-without, back, k.summary(), before)
	require.NotEmpty(t, k.box("one"))

	require.NoError(t, os.Remove(filepath.Join(k.path("pods"), "one.json")))
	require.True(t, eventually(func() bool { return c.cri("pods", "--quiet") == "" }), "the pod does not go")
	v.mustHave(c)
	k.stop()
	c.ctr(append([]string{"image", "rm", "--sync"}, c.names("image", "ls", "-q")...)...)
	v.mustHave(c)
	v.mustBeEmpty()
}
