package dm

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// tree writes files; a name that ends in "@" is a symbolic link to its content.
func tree(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		if link, ok := trimSuffix(path, "@"); ok {
			require.NoError(t, os.Symlink(text, link))
			continue
		}
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
}

func trimSuffix(text, suffix string) (string, bool) {
	n := len(text) - len(suffix)
	return text[:max(n, 0)], n >= 0 && text[n:] == suffix
}

func TestHolders(t *testing.T) {
	c, kernel := fakeClient(t, Options{})
	addDevice(t, c, "busy", "")
	tree(t, c.sys, map[string]string{
		"dev/block/254:0/holders/dm-3":  "",
		"dev/block/254:0/holders/loop0": "",
		"block/dm-3/dm/name":            "above\n",
	})
	mounts := "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n" +
		"30 21 254:0 / /mnt/a\\040b rw,relatime shared:1 - ext4 /dev/dm-0 rw\n" +
		"31 21 0:44 / /btrfs rw - btrfs /dev/none rw\n" +
		"garbage\n"
	tree(t, c.proc, map[string]string{
		"1/comm": "init\n", "1/mountinfo": mounts, "1/ns/mnt@": "mnt:[1]",
		"20/comm": "dd\n", "20/mountinfo": mounts, "20/ns/mnt@": "mnt:[1]",
		"30/comm": "other\n", "30/mountinfo": mounts, "30/ns/mnt@": "mnt:[2]",
		"40/fd/0@": "/nowhere", "not-a-process": "",
	})
	holders, err := c.Holders(t.Context(), Name("busy"))
	require.NoError(t, err)
	require.Equal(t, []Holder{
		{Device: "above"},
		{Device: "loop0"},
		{Mount: "/mnt/a b", PID: 1, Command: "init"},
		{Mount: "/mnt/a b", PID: 30, Command: "other"},
	}, holders, "one process per mount namespace")

	kernel.devices[0].busy = true
	_, err = c.Remove(t.Context(), Name("busy"), RemoveOptions{})
	require.EqualError(t, err, "DEV_REMOVE of busy: device is busy (device or resource busy): held by device above, "+
		"device loop0, mount /mnt/a b (pid 1, init), mount /mnt/a b (pid 30, other)")
	require.Equal(t, "pid 20 (dd)", Holder{PID: 20, Command: "dd"}.String())
}

func TestHoldersWithoutProcfs(t *testing.T) {
	c, kernel := fakeClient(t, Options{})
	addDevice(t, c, "busy", "")
	c.proc = filepath.Join(c.proc, "none")
	_, err := c.Holders(t.Context(), Name("busy"))
	require.ErrorIs(t, err, os.ErrNotExist)
	kernel.devices[0].busy = true
	_, err = c.Remove(t.Context(), Name("busy"), RemoveOptions{})
	require.ErrorIs(t, err, ErrBusy, "not knowing who must not hide the error")
}

func TestPublish(t *testing.T) {
	c, _ := fakeClient(t, Options{})
	require.NoError(t, os.Mkdir(filepath.Join(c.dev, "mapper"), 0o700))
	for _, dev := range []Number{{254, 3}, {254, 3}, {254, 4}} {
		path, err := c.Publish("vol", dev)
		require.NoError(t, err)
		require.Equal(t, filepath.Join(c.dev, "mapper/vol"), path)
		target, err := os.Readlink(path)
		require.NoError(t, err)
		require.Equal(t, "../"+nodeName(dev), target)
	}
	require.NoError(t, c.Unpublish("vol"))
	require.NoError(t, c.Unpublish("vol"))
	entries, err := os.ReadDir(filepath.Join(c.dev, "mapper"))
	require.NoError(t, err)
	require.Empty(t, entries)
	_, err = c.Publish("a/b", Number{254, 3})
	require.ErrorIs(t, err, ErrInvalid)

	listenAsUdev(t, c)
	path, err := c.Publish("vol", Number{254, 3})
	require.NoError(t, err)
	_, err = os.Lstat(path)
	require.ErrorIs(t, err, os.ErrNotExist, "where udev runs the link is udev's to make")
	path, err = c.Link("vol", Number{254, 3})
	require.NoError(t, err)
	target, err := os.Readlink(path)
	require.NoError(t, err)
	require.Equal(t, "../dm-3", target, "a udev that does not answer is not waited for for ever")
}

func TestOpenDeviceVerifies(t *testing.T) {
	_, err := openVerified("/dev/null", Number{1, 3}, os.O_RDONLY)
	require.ErrorIs(t, err, ErrNotFound, "a character device is no disk")
	_, err = BlockDeviceNumber("/dev/null")
	require.Error(t, err)
	_, err = BlockDeviceNumber("/dev/no/such")
	require.ErrorIs(t, err, os.ErrNotExist)
}
