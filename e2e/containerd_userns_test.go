package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestContainerdUserNamespace: containers run as users that the machine does not have. On
// the machine their files have those owners, inside they have their own. containerd 2.x
// mounts the layer with mapped owners, and nothing is copied; 1.7 changes the owners in
// a layer of its own.
func TestContainerdUserNamespace(t *testing.T) {
	if testing.Short() {
		t.Skip("ten seconds: two containerds unpack an image")
	}
	for _, version := range []string{debian13, newest} {
		t.Run(version, func(t *testing.T) {
			v := newStoreIn(t, open(t)).serveContainerd()
			c := v.containerd(version, containerdOptions{})
			archive, ref := ociArchive(t, "base")
			c.load(archive)
			c.ctr("run", "-d", "--log-uri", "file://"+c.output("box"), "--runc-root", c.runcRoot(),
				"--remap-labels", "--uidmap", "0:200000:65536", "--gidmap", "0:200000:65536", ref, "box", "sleep", "infinity")
			c.exec("box", "sh", "-c", "cd /root && echo a >a && echo b >b && chown 33:44 b && ln b c && rm /etc/motd")
			inside := c.exec("box", "stat", "-c", "%u:%g %n", "/root/a", "/root/b", "/root/c", "/etc/shadow")
			require.Equal(t, []string{"0:0 /root/a", "33:44 /root/b", "33:44 /root/c", "0:42 /etc/shadow"}, lines(inside))
			tree := c.treeOf("box", "root", "etc")
			for name, want := range map[string][2]uint32{
				"root/a": {200000, 200000}, "root/b": {200033, 200044}, "root/c": {200033, 200044}, "etc/shadow": {200000, 200042},
			} {
				require.Equal(t, want, [2]uint32{tree[name].UID, tree[name].GID}, "%s on the machine", name)
			}
			if version == newest {
				layer := c.layer("box")
				require.Equal(t, [2]uint32{33, 44}, [2]uint32{layer["root/b"].UID, layer["root/b"].GID}, "what is committed has the container's own")
				require.Contains(t, layer, "etc/.wh.motd")
			}
			layers := map[string]int{debian13: 2, newest: 1}
			require.Len(t, c.client().list(), layers[version]+1)
			c.remove("box")
			c.ctr("image", "rm", "--sync", ref)
			v.mustHave(c)
			v.mustBeEmpty()
		})
	}
}
