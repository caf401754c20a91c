package btrfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"blockstore.dev/blockstore/btrfsvol"
	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/layertar"
)

// chain is volumes that are snapshots of each other, the lowest first.
type chain struct {
	*store
	volumes []snapshot.Volume
	next    snapshot.VolumeID
}

// tester is a test or one of rapid's tries.
type tester interface {
	require.TestingT
	Helper()
	Context() context.Context
}

func newChain(t testing.TB) *chain {
	return &chain{store: newStore(t, snapshot.InitOptions{Loopback: 2 << 30}), next: 16}
}

func (c *chain) newID() snapshot.VolumeID {
	c.next++
	return c.next - 1
}

// push seals the top and makes a snapshot of it the top, at least once.
func (c *chain) push(t tester) {
	t.Helper()
	v := snapshot.Volume{ID: c.newID(), Origin: snapshot.Base}
	if n := len(c.volumes); n > 0 {
		c.seal(t)
		v.Origin = c.volumes[n-1].ID
	}
	require.NoError(t, c.driver.Create(t.Context(), v.ID, snapshot.CreateOptions{Origin: snapshot.Volume{ID: v.Origin, Sealed: true}}))
	c.volumes = append(c.volumes, v)
}

func (c *chain) seal(t tester) {
	t.Helper()
	top := &c.volumes[len(c.volumes)-1]
	if !top.Sealed {
		require.NoError(t, c.driver.Seal(t.Context(), *top))
		top.Sealed = true
	}
}

func (c *chain) top() string { return c.path(len(c.volumes) - 1) }

func (c *chain) path(i int) string { return c.driver.(loopDriver).dirOf(c.volumes[i].ID) }

// clear removes everything.
func (c *chain) clear(t tester) {
	var ids []snapshot.VolumeID
	for _, v := range c.volumes {
		ids = append(ids, v.ID)
	}
	require.NoError(t, c.driver.Remove(t.Context(), ids...))
	c.volumes = nil
}

func (c *chain) track(lower, upper int) (layertar.Lineage, error) {
	return c.driver.(snapshot.Tracker).Track(context.Background(), c.volumes[lower], c.volumes[lower+1:upper+1])
}

// found is all that a comparison can tell.
type found struct {
	Changes string
	Size    int64
	Tar     []byte
}

func compared(t tester, lower, upper string, o layertar.CompareOptions) found {
	t.Helper()
	all, err := layertar.Changes(t.Context(), lower, upper, o)
	require.NoError(t, err)
	size, err := layertar.Size(t.Context(), lower, upper, o)
	require.NoError(t, err)
	var tar bytes.Buffer
	_, err = layertar.Diff(t.Context(), lower, upper, &tar, layertar.DiffOptions{CompareOptions: o})
	require.NoError(t, err)
	text := ""
	for _, c := range all {
		text += fmt.Sprintln(c.Kind, c.Path)
	}
	return found{text, size, tar.Bytes()}
}

// same compares two of the chain, by account and by a walk over everything.
func (c *chain) same(t tester, lower, upper int) {
	t.Helper()
	l, err := c.track(lower, upper)
	require.NoError(t, err)
	want := compared(t, c.path(lower), c.path(upper), layertar.CompareOptions{})
	got := compared(t, c.path(lower), c.path(upper), layertar.CompareOptions{Snapshots: true, Lineage: l})
	require.Equal(t, want.Changes, got.Changes)
	require.Equal(t, want.Size, got.Size)
	require.True(t, bytes.Equal(want.Tar, got.Tar), "the tars differ")
}

// TestTrackLikeWalk: whatever was done, the driver's account gives what a walk over
// both trees gives, over one or several layers, sealed or not.
func TestTrackLikeWalk(t *testing.T) {
	c := newChain(t)
	rapid.Check(t, func(r *rapid.T) {
		defer c.clear(r)
		for range rapid.IntRange(2, 4).Draw(r, "layers") {
			c.push(r)
			m := mess{r: r, dir: c.top()}
			steps := 1 + rapid.IntRange(0, 25).Draw(r, "steps")
			for range steps {
				m.step()
			}
		}
		n := len(c.volumes)
		for lower := range n - 1 {
			c.same(r, lower, n-1) // the top has unwritten data
		}
		c.seal(r)
		for lower := range n - 1 {
			for upper := lower + 1; upper < n; upper++ {
				c.same(r, lower, upper)
			}
		}
	})
}

// TestTrackCost: three changes among many files cost a look at what is beside them
// and above, by name, and at nothing else.
func TestTrackCost(t *testing.T) {
	c := newChain(t)
	c.push(t)
	const dirs, files = 200, 100
	for i := range dirs {
		dir := filepath.Join(c.top(), fmt.Sprintf("d%d", i%10), fmt.Sprintf("e%d", i))
		require.NoError(t, os.MkdirAll(dir, 0o755))
		for j := range files {
			require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprint(j)), []byte("x"), 0o600))
		}
	}
	c.push(t)
	at := func(name string) string { return filepath.Join(c.top(), name) }
	require.NoError(t, os.WriteFile(at("d1/e11/5"), []byte("y"), 0o600))
	require.NoError(t, os.Chmod(at("d2/e22"), 0o700))
	require.NoError(t, os.Remove(at("d3/e33/7")))
	l, err := c.track(0, 1)
	require.NoError(t, err)
	looked := map[string]int{}
	all, err := layertar.Changes(t.Context(), c.path(0), c.path(1), layertar.CompareOptions{
		Snapshots: true, Lineage: l, Looked: func(path string) { looked[path]++ },
	})
	require.NoError(t, err)
	require.Len(t, all, 3+5, "with the directories above")
	require.Equal(t, map[string]int{
		"d1": 1, "d1/e11": 1, "d1/e11/5": 1, "d2": 1, "d2/e22": 1, "d3": 1, "d3/e33": 1, "d3/e33/7": 1,
	}, looked)

	clear(looked)
	_, err = layertar.Changes(t.Context(), c.path(0), c.path(1), layertar.CompareOptions{Looked: func(path string) { looked[path]++ }})
	require.NoError(t, err)
	require.Len(t, looked, 10+dirs+dirs*files, "a walk looks at everything")
	c.clear(t)
}

// TestTrackCannotTell: what has not been accounted for is said to be so.
func TestTrackCannotTell(t *testing.T) {
	cannot := func(c *chain, lower, upper int, why string) {
		t.Helper()
		_, err := c.track(lower, upper)
		require.ErrorIs(t, err, snapshot.ErrNotSupported)
		require.ErrorContains(t, err, why)
	}
	c := newChain(t)
	d := c.driver.(loopDriver)
	c.push(t)
	write(t, filepath.Join(c.top(), "f"), 10)
	c.push(t)
	cannot(c, 0, 0, "nothing above")

	// Somebody had the lower one open when its snapshot was taken.
	require.NoError(t, d.fs.SetReadOnly(pathOf(c.volumes[0].ID), false))
	write(t, filepath.Join(c.path(0), "f"), 20)
	c.volumes[0].Sealed = false
	cannot(c, 0, 1, "later than its snapshot")
	c.seal(t)
	require.NoError(t, d.fs.SetReadOnly(pathOf(c.volumes[0].ID), true))
	c.volumes[0].Sealed = true
	cannot(c, 0, 1, "later than its snapshot")
	c.push(t)
	c.same(t, 1, 2)

	// A container makes subvolumes.
	require.NoError(t, d.fs.Create(pathOf(c.volumes[2].ID)+"/sub", btrfsvol.CreateOptions{}))
	cannot(c, 1, 2, "a subvolume was made")
	c.push(t)
	cannot(c, 2, 3, "subvolumes in it")
	cannot(c, 1, 3, "a subvolume was made")
	c.push(t)
	c.same(t, 3, 4)

	// One between is gone, or of another line.
	gone := c.volumes[3]
	require.NoError(t, c.driver.Remove(t.Context(), gone.ID))
	cannot(c, 3, 4, "is gone")
	c.volumes[3].ID = c.volumes[1].ID
	cannot(c, 3, 4, "not a snapshot")
	c.volumes[3] = gone
	c.clear(t)
}

// mess does what containers do to a tree.
type mess struct {
	r   *rapid.T
	dir string
}

func (m mess) must(err error) {
	if err != nil {
		m.r.Fatal(err)
	}
}

// paths lists what is there: directories with the root, or other files.
func (m mess) paths(dirs bool) (all []string) {
	m.must(filepath.WalkDir(m.dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() == dirs {
			all = append(all, path)
		}
		return err
	}))
	return all
}

func (m mess) pick(from []string) string { return rapid.SampledFrom(from).Draw(m.r, "path") }

// place is a name in some directory, mostly free.
func (m mess) place() string {
	return filepath.Join(m.pick(m.paths(true)), rapid.StringMatching(`[a-d]{1,2}`).Draw(m.r, "name"))
}

func (m mess) content() []byte {
	size := rapid.SampledFrom([]int{0, 1, 5, 5000, 70_000}).Draw(m.r, "size")
	return bytes.Repeat([]byte{byte(rapid.IntRange('a', 'c').Draw(m.r, "byte"))}, size)
}

func (m mess) step() {
	files := m.paths(false)
	acts := []func([]string){
		m.create, m.create, m.mkdir, m.mkdir, m.write, m.overwrite, m.chmod, m.chown, m.xattr, m.touch,
		m.rename, m.rename, m.renameDir, m.renameDir, m.swap, m.link, m.link, m.remove, m.removeDir, m.again, m.replaceDir, m.replaceFile,
		m.copyLink, m.special, m.recreateLike, m.truncate,
	}
	acts[rapid.IntRange(0, len(acts)-1).Draw(m.r, "act")](files)
}

func (m mess) create([]string) {
	if p := m.place(); !exists(p) {
		m.must(os.WriteFile(p, m.content(), 0o644))
	}
}

func (m mess) mkdir([]string) {
	p := m.place()
	if !exists(p) {
		m.must(os.MkdirAll(filepath.Join(p, "deep", "er"), 0o755))
		m.must(os.WriteFile(filepath.Join(p, "deep", "er", "file"), m.content(), 0o600))
	}
}

func exists(p string) bool {
	_, err := os.Lstat(p)
	return err == nil
}

// regular picks a file that can be written to; "" is none.
func (m mess) regular(files []string) string {
	if len(files) == 0 {
		return ""
	}
	p := m.pick(files)
	if st, err := os.Lstat(p); err != nil || !st.Mode().IsRegular() {
		return ""
	}
	return p
}

func (m mess) write(files []string) {
	if p := m.regular(files); p != "" {
		m.must(os.WriteFile(p, m.content(), 0o644))
	}
}

// overwrite leaves size and modification time, and perhaps even the content.
func (m mess) overwrite(files []string) {
	p := m.regular(files)
	if p == "" {
		return
	}
	st, err := os.Stat(p)
	m.must(err)
	b := bytes.Repeat([]byte{byte(rapid.IntRange('a', 'c').Draw(m.r, "byte"))}, int(st.Size()))
	f, err := os.OpenFile(p, os.O_WRONLY, 0)
	m.must(err)
	_, err = f.Write(b)
	m.must(errors.Join(err, f.Close(), os.Chtimes(p, st.ModTime(), st.ModTime())))
}

func (m mess) truncate(files []string) {
	if p := m.regular(files); p != "" {
		m.must(os.Truncate(p, int64(rapid.SampledFrom([]int{0, 4, 100_000}).Draw(m.r, "size"))))
	}
}

func (m mess) anything(files []string) string { return m.pick(append(m.paths(true), files...)) }

func (m mess) chmod(files []string) {
	p := m.anything(files)
	if st, err := os.Lstat(p); err == nil && st.Mode()&fs.ModeSymlink == 0 {
		m.must(os.Chmod(p, os.FileMode(rapid.SampledFrom([]int{0o600, 0o755, 0o644}).Draw(m.r, "mode"))))
	}
}

func (m mess) chown(files []string) {
	m.must(os.Lchown(m.anything(files), rapid.IntRange(0, 1).Draw(m.r, "uid"), 0))
}

func (m mess) xattr(files []string) {
	p, value := m.anything(files), rapid.SampledFrom([]string{"", "1", "2"}).Draw(m.r, "value")
	var err error
	if value == "" {
		err = unix.Lremovexattr(p, "trusted.test")
	} else {
		err = unix.Lsetxattr(p, "trusted.test", []byte(value), 0)
	}
	if !errors.Is(err, unix.ENODATA) {
		m.must(err)
	}
}

func (m mess) touch(files []string) {
	at := unix.Timespec{Sec: 1_600_000_000}
	m.must(unix.UtimesNanoAt(unix.AT_FDCWD, m.anything(files), []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW))
}

func (m mess) rename(files []string) {
	if len(files) == 0 {
		return
	}
	from, to := m.pick(files), m.place()
	if st, err := os.Lstat(to); err != nil || !st.IsDir() {
		m.must(os.Rename(from, to))
	}
}

// renameDir moves a directory with all that is in it.
func (m mess) renameDir([]string) {
	from, to := m.pick(m.paths(true)), m.place()
	if from != m.dir && !exists(to) {
		if err := os.Rename(from, to); !errors.Is(err, unix.EINVAL) { // into itself
			m.must(err)
		}
	}
}

// swap exchanges two of anything.
func (m mess) swap(files []string) {
	a, b := m.anything(files), m.anything(files)
	if a != m.dir && b != m.dir && a != b {
		if err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE); !errors.Is(err, unix.EINVAL) {
			m.must(err)
		}
	}
}

func (m mess) link(files []string) {
	if len(files) == 0 {
		return
	}
	if to := m.place(); !exists(to) {
		m.must(os.Link(m.pick(files), to))
	}
}

// copyLink puts a copy that cannot be told apart in the place of a name.
func (m mess) copyLink(files []string) {
	p := m.regular(files)
	if p == "" {
		return
	}
	st, err := os.Stat(p)
	m.must(err)
	b, err := os.ReadFile(p)
	m.must(err)
	twin := filepath.Join(filepath.Dir(p), "twin")
	m.must(os.WriteFile(twin, b, 0o600))
	m.must(os.Lchown(twin, int(st.Sys().(*syscall.Stat_t).Uid), 0))
	m.must(os.Chmod(twin, st.Mode().Perm()))
	m.must(os.Chtimes(twin, st.ModTime(), st.ModTime()))
	m.must(os.Rename(twin, p))
}

func (m mess) remove(files []string) {
	if len(files) > 0 {
		m.must(os.Remove(m.pick(files)))
	}
}

func (m mess) removeDir([]string) {
	if p := m.pick(m.paths(true)); p != m.dir {
		m.must(os.RemoveAll(p))
	}
}

// again removes a file and makes another one of the same name.
func (m mess) again(files []string) {
	if p := m.regular(files); p != "" {
		m.must(os.Remove(p))
		m.must(os.WriteFile(p, m.content(), 0o644))
	}
}

func (m mess) replaceDir([]string) {
	if p := m.pick(m.paths(true)); p != m.dir {
		m.must(os.RemoveAll(p))
		m.must(os.WriteFile(p, m.content(), 0o644))
	}
}

func (m mess) replaceFile(files []string) {
	if len(files) > 0 {
		p := m.pick(files)
		m.must(os.Remove(p))
		m.must(os.MkdirAll(filepath.Join(p, "below"), 0o755))
	}
}

// recreateLike moves a directory away and makes one with the same names in its place.
func (m mess) recreateLike([]string) {
	p, to := m.pick(m.paths(true)), m.place()
	if p == m.dir || exists(to) {
		return
	}
	entries, err := os.ReadDir(p)
	m.must(err)
	if err := os.Rename(p, to); errors.Is(err, unix.EINVAL) {
		return
	}
	m.must(os.Mkdir(p, 0o755))
	for _, e := range entries {
		if from := filepath.Join(to, e.Name()); e.Type().IsRegular() && rapid.Bool().Draw(m.r, "link") {
			m.must(os.Link(from, filepath.Join(p, e.Name())))
		} else if e.Type().IsRegular() {
			b, err := os.ReadFile(from)
			m.must(errors.Join(err, os.WriteFile(filepath.Join(p, e.Name()), b, 0o644)))
		}
	}
}

// special makes files of the other kinds.
func (m mess) special([]string) {
	p := m.place()
	if exists(p) {
		return
	}
	switch rapid.IntRange(0, 3).Draw(m.r, "kind") {
	case 0:
		m.must(os.Symlink(rapid.SampledFrom([]string{"a", "b"}).Draw(m.r, "target"), p))
	case 1:
		m.must(unix.Mknod(p, unix.S_IFSOCK|0o600, 0))
	case 2:
		m.must(unix.Mknod(p, unix.S_IFIFO|0o600, 0))
	default:
		m.must(unix.Mknod(p, unix.S_IFCHR|0o600, int(unix.Mkdev(1, uint32(rapid.IntRange(3, 5).Draw(m.r, "minor"))))))
	}
}
