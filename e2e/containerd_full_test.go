package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// testContainerdFull: a store that is full says so to whom it concerns, goes on for the
// others, and can be emptied.
func testContainerdFull(t *testing.T, version string) {
	if testing.Short() {
		t.Skip("ten seconds: images are unpacked until nothing fits")
	}
	// ext4 answers fsync(2) with EIO where a write that it had put off finds no space
	// (fs/ext4/page-io.c, ext4_finish_bio), and makes itself read-only where its journal
	// finds none.
	const late = "No space left on device|Input/output error|Read-only file system"
	const refused = "no space|out of space"
	v := newStore(t, "--loopback", "700M").serveContainerd("--extend-to", "700M") // a thin pool would grow
	c := v.containerd(version, containerdOptions{})
	small, base := ociArchive(t, "base")
	large, postgres := ociArchive(t, "postgres")
	c.load(small)
	c.idle("box", base)
	c.idle("other", base)
	r := c.tryExec("box", "sh", "-c", filling("/fill", 900))
	require.NotZero(t, r.code, "900 MiB fit into 700M")
	require.Regexp(t, late, r.stderr)

	r = c.tryLoad(large)
	require.NotZero(t, r.code, "400 MB were unpacked into a full store")
	require.Regexp(t, refused, r.stderr)
	require.Equal(t, "goes on", c.exec("other", "echo", "goes on"))
	begins := func() bool {
		if r = c.tryRun("third", base, "sleep", "infinity"); r.code != 0 {
			c.try("container", "rm", "third")
		}
		return r.code == 0
	}
	require.False(t, begins(), "a container was begun in a full store")
	require.Regexp(t, refused, r.stderr)

	// Then there is room again, as soon as containerd has had it cleaned up.
	c.remove("box")
	require.True(t, eventually(begins), "the space is not given back: %s", r.stderr)
	require.Equal(t, "1", c.exec("third", "sh", "-c", "echo 1 >/file && sync /file && cat /file"))
	v.mustHave(c)
	c.remove("third", "other")
	c.try("image", "rm", "--sync", postgres)
	c.ctr("image", "rm", "--sync", base)
	require.Empty(t, c.client().list())
	v.mustHave(c)
	v.mustBeEmpty()
}

func TestContainerdFullDebian12(t *testing.T) { testContainerdFull(t, debian12) }
func TestContainerdFullDebian13(t *testing.T) { testContainerdFull(t, debian13) }
func TestContainerdFullNewest(t *testing.T)   { testContainerdFull(t, newest) }
