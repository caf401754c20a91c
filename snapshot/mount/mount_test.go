package mount

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestParse(t *testing.T) {
	entries, err := Parse(strings.NewReader(
		"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n" +
			`37 36 0:45 /vol\040umes/16 /a\011b rw - btrfs /dev/loop0 rw,subvolid=5` + "\n"))
	require.NoError(t, err)
	require.Equal(t, []Entry{
		{98, 0, "/mnt1", "/mnt2", "rw,noatime", "rw,errors=continue", "ext3", "/dev/root"},
		{0, 45, "/vol umes/16", "/a\tb", "rw", "rw,subvolid=5", "btrfs", "/dev/loop0"},
	}, entries)
	for _, bad := range []string{"36 35 98:0 / /x rw ext3 dev", "36 35 98 / /x rw - ext3 dev rw", "a b c:d / /x rw - t s", "1 2 3:4 - a b"} {
		_, err := Parse(strings.NewReader(bad))
		require.Error(t, err, bad)
	}
}

func FuzzParse(f *testing.F) {
	own, err := os.ReadFile("/proc/self/mountinfo")
	require.NoError(f, err)
	f.Add(string(own))
	f.Add(`37 36 0:45 /vol\04 /a\ rw - btrfs x`)
	f.Fuzz(func(t *testing.T, text string) {
		entries, err := Parse(strings.NewReader(text))
		if err != nil && entries != nil {
			t.Fatal("entries beside an error")
		}
	})
}

// TestMounts performs, finds and undoes real mounts.
func TestMounts(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts")
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	source, target := filepath.Join(dir, "source"), filepath.Join(dir, "a target")
	require.NoError(t, os.Mkdir(source, 0o755))
	require.NoError(t, os.Mkdir(target, 0o755))
	require.NoError(t, At(Mount{Type: "tmpfs", Source: "bstest", Options: []string{"size=1m", "nodev"}}, source))
	defer func() { require.NoError(t, Unmount(source)) }()
	require.NoError(t, os.WriteFile(filepath.Join(source, "f"), []byte("x"), 0o644))

	show := Mount{Source: source, Options: []string{"bind", "ro"}}
	require.True(t, show.ReadOnly())
	require.NoError(t, All([]Mount{show}, target))
	require.ErrorIs(t, os.WriteFile(filepath.Join(target, "g"), nil, 0o644), unix.EROFS)
	under, err := Below(dir)
	require.NoError(t, err)
	require.Len(t, under, 2)
	require.Equal(t, target, under[1].Target)
	require.Contains(t, under[1].Options, "ro")

	open, err := os.Open(filepath.Join(target, "f"))
	require.NoError(t, err)
	require.ErrorIs(t, Unmount(target), unix.EBUSY)
	require.NoError(t, open.Close())
	require.NoError(t, Unmount(target))
	require.NoError(t, Unmount(target), "what is not mounted is no error")

	// The second of two mounts fails: the first is undone.
	err = All([]Mount{show, {Type: "no such type", Source: "x"}}, target)
	require.ErrorIs(t, err, unix.ENODEV)
	under, err = Below(target)
	require.NoError(t, err)
	require.Empty(t, under)
}

// TestLabels: a bind mount's files get the label themselves; other file systems take
// it as an option.
func TestLabels(t *testing.T) {
	const label = "system_u:object_r:container_file_t:s0:c1,c2"
	m := Mount{Type: "ext4", Source: "/dev/dm-1", Options: []string{"noatime"}}
	require.Equal(t, []string{"noatime", `context="` + label + `"`}, m.withLabel(label).Options)
	require.Equal(t, []string{"noatime"}, m.Options, "the line itself stays")
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts")
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	source, target := filepath.Join(dir, "source"), filepath.Join(dir, "target")
	require.NoError(t, os.MkdirAll(filepath.Join(source, "d"), 0o755))
	require.NoError(t, os.Mkdir(target, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(source, "d", "f"), nil, 0o644))
	require.NoError(t, os.Symlink("/etc", filepath.Join(source, "link")))
	bind := []Mount{{Source: source, Options: []string{"bind"}}}
	for range 2 { // the second time there is nothing to do
		require.NoError(t, Labelled(bind, target, label))
		for _, name := range []string{"", "d", "d/f", "link"} {
			require.True(t, labelled(filepath.Join(target, name), label), name)
		}
		require.NoError(t, Unmount(target))
	}
	require.False(t, labelled("/etc", label), "links are not followed")
	require.NoError(t, Labelled(bind, target, "other:label"))
	require.True(t, labelled(filepath.Join(target, "d", "f"), "other:label"))
	require.NoError(t, Unmount(target))
}

// TestUnmountBesideForks: a child has the process' descriptors until its execve(2), and what was open below a mount a
// moment ago keeps nobody from unmounting it.
func TestUnmountBesideForks(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts")
	}
	dir := t.TempDir()
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		var err error
		for err == nil {
			select {
			case <-stop:
				ended <- nil
				return
			default:
				err = exec.Command("/bin/true").Run()
			}
		}
		<-stop
		ended <- err
	}()
	var failed []error
	for range 200 {
		require.NoError(t, At(Mount{Type: "tmpfs", Source: "bstest", Options: []string{"size=1m"}}, dir))
		f, err := os.Create(filepath.Join(dir, "f"))
		require.NoError(t, err)
		_, err = f.Write(make([]byte, 256<<10)) // for so long it is open
		require.NoError(t, err)
		require.NoError(t, f.Close())
		if err := Unmount(dir); err != nil {
			failed = append(failed, err)
			require.NoError(t, Detach(dir))
		}
	}
	close(stop)
	require.NoError(t, <-ended)
	require.Empty(t, failed)
}
