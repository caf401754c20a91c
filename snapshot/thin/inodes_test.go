package thin

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"blockstore.dev/blockstore/ioctl"
	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/drivertest"
	"blockstore.dev/blockstore/snapshot/layertar"
	"blockstore.dev/blockstore/snapshot/layertar/treetest"
)

// images are files with ext4 in them, each a copy of the one before, as volumes are snapshots of each other.
type images struct {
	dir   string
	files []string
	// frozen is when each but the last stopped changing.
	frozen []time.Time
}

const (
	tree        = "tree"   // the directory that is compared
	imageSize   = 24 << 20 // three groups
	imageInodes = 1536
	imageBlock  = 64 << 10 // in which images differ, a pool's
)

func newImages(t *testing.T) *images {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir, err := os.MkdirTemp(os.Getenv("BSTEST_DIR"), "bstest-ext4-") // direct I/O needs a disk's file system
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	m := &images{dir: dir}
	m.files = []string{m.name()}
	require.NoError(t, os.WriteFile(m.files[0], nil, 0o600))
	require.NoError(t, os.Truncate(m.files[0], imageSize))
	out, err := exec.CommandContext(t.Context(), "mkfs.ext4", "-q", "-F", "-b", "4096", "-g", "2048", "-N", fmt.Sprint(imageInodes), "-J", "size=4", m.files[0]).CombinedOutput()
	require.NoError(t, err, "%s", out)
	m.with(t, 0, func(dir string) { require.NoError(t, os.Mkdir(dir, 0o755)) })
	return m
}

func (m *images) name() string { return filepath.Join(m.dir, string(rune('a'+len(m.files)))+".img") }

func (m *images) top() string { return m.files[len(m.files)-1] }

// push freezes the top and makes a copy of it the top.
func (m *images) push(t drivertest.Tester) {
	t.Helper()
	file := m.name()
	m.frozen = append(m.frozen, time.Now())
	out, err := exec.CommandContext(t.Context(), "cp", "--sparse=always", m.top(), file).CombinedOutput()
	require.NoError(t, err, "%s", out)
	m.files = append(m.files, file)
}

// with mounts an image for the length of use, and shows a directory of its. The mount is nowhere in the tree of the machine, of
// which a container that is started beside this would get a copy: ext4 would stay mounted for a moment longer.
func (m *images) with(t drivertest.Tester, i int, use func(dir string)) {
	t.Helper()
	loop, err := ioctl.AttachLoop(t.Context(), m.files[i], ioctl.LoopOptions{AutoClear: true})
	require.NoError(t, err)
	defer loop.Close()
	require.NoError(t, ext4.with(loop.Path(), func(root *os.File) error {
		use(filepath.Join(below(root), tree))
		return nil
	}))
}

// differ is what a thin pool would say of two.
func (m *images) differ(t drivertest.Tester, lower, upper int) (spans []span) {
	t.Helper()
	a, err := os.ReadFile(m.files[lower])
	require.NoError(t, err)
	b, err := os.ReadFile(m.files[upper])
	require.NoError(t, err)
	a = append(a, make([]byte, len(b)-len(a))...)
	for at := 0; at < len(b); at += imageBlock {
		if !bytes.Equal(a[at:at+imageBlock], b[at:at+imageBlock]) {
			spans = append(spans, span{int64(at), int64(at + imageBlock)})
		}
	}
	return spans
}

func (m *images) track(t drivertest.Tester, lower, upper int) (*inodes, error) {
	t.Helper()
	return compareInodes(t.Context(), m.files[lower], m.files[upper], m.differ(t, lower, upper), m.frozen[lower], false)
}

// TestInodesLikeWalk: whatever was done, the inodes tell what a walk over both trees tells, over one or several layers, and
// whether or not the lower one was changed a moment before it was frozen.
func TestInodesLikeWalk(t *testing.T) {
	if testing.Short() {
		t.Skip("twenty seconds: file systems are mounted hundreds of times")
	}
	base := newImages(t)
	rapid.Check(t, func(r *rapid.T) {
		m := &images{dir: base.dir, files: []string{base.top()}}
		defer func() {
			for _, f := range m.files[1:] {
				require.NoError(r, os.Remove(f))
			}
		}()
		m.push(r)
		for i := range rapid.IntRange(2, 3).Draw(r, "layers") {
			if i > 0 {
				m.push(r)
			}
			m.with(r, len(m.files)-1, func(dir string) {
				mess := treetest.Mess{R: r, Dir: dir}
				for range 1 + rapid.IntRange(0, 25).Draw(r, "steps") {
					mess.Step()
				}
			})
			if rapid.Bool().Draw(r, "settles") {
				drivertest.ClockGoesOn(r)
			}
		}
		top := len(m.files) - 1
		tracked := make([]*inodes, top)
		for lower := range top {
			var err error
			tracked[lower], err = m.track(r, lower, top)
			require.NoError(r, err)
		}
		for lower, l := range tracked {
			m.with(r, lower, func(below string) {
				m.with(r, top, func(above string) {
					drivertest.TracksLikeWalk(r, below, above, time.Time{}, l)
				})
			})
		}
	})
}

// TestInodesCost: three changes among many files cost a look at what was changed, and at the names beside it and beside the
// directories above.
func TestInodesCost(t *testing.T) {
	m := newImages(t)
	const dirs, files = 20, 50
	m.with(t, 0, func(dir string) {
		for i := range dirs {
			require.NoError(t, os.MkdirAll(filepath.Join(dir, string(rune('a'+i)), "e"), 0o755))
			for j := range files {
				require.NoError(t, os.WriteFile(filepath.Join(dir, string(rune('a'+i)), "e", string(rune('A'+j))), []byte("x"), 0o600))
			}
		}
	})
	drivertest.ClockGoesOn(t)
	m.push(t)
	m.with(t, 1, func(dir string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "b/e/C"), []byte("y"), 0o600))
		require.NoError(t, os.Chmod(filepath.Join(dir, "c/e"), 0o700))
		require.NoError(t, os.Remove(filepath.Join(dir, "d/e/D")))
	})
	l, err := m.track(t, 0, 1)
	require.NoError(t, err)
	m.with(t, 0, func(below string) {
		m.with(t, 1, func(above string) {
			cost := drivertest.CountTrack(t, below, above, time.Time{}, l)
			require.Len(t, cost.Changes, 3+5, "with the directories above")
			require.Equal(t, map[string]int{"b/e/C": 1, "c/e": 1, "d/e": 1, "d/e/D": 1}, cost.Looked)
			require.Equal(t, 1+dirs+3+3*files-1, cost.Names, "in the root, which has lost+found too, in three directories and three in those")
		})
	})
}

// TestInodesOfALargerOne: one that was grown has inodes that lower did not have.
func TestInodesOfALargerOne(t *testing.T) {
	m := newImages(t)
	drivertest.ClockGoesOn(t)
	m.push(t)
	require.NoError(t, os.Truncate(m.files[1], 2*imageSize))
	// The kernel grows it for who has CAP_SYS_RESOURCE alone.
	out, err := exec.CommandContext(t.Context(), "resize2fs", "-f", m.files[1]).CombinedOutput()
	require.NoError(t, err, "%s", out)
	beyond := uint64(0)
	m.with(t, 1, func(dir string) {
		for i := range imageInodes + 10 {
			file := filepath.Join(dir, fmt.Sprint(i))
			require.NoError(t, os.WriteFile(file, nil, 0o600))
			var st unix.Stat_t
			require.NoError(t, unix.Stat(file, &st))
			beyond = max(beyond, st.Ino)
		}
	})
	require.Greater(t, beyond, uint64(imageInodes))
	l, err := m.track(t, 0, 1)
	require.NoError(t, err)
	require.False(t, l.Untouched(beyond))
	m.with(t, 0, func(below string) {
		m.with(t, 1, func(above string) {
			drivertest.TracksLikeWalk(t, below, above, time.Time{}, l)
		})
	})
}

// TestInodesWithinATick: what was changed right before the lower one was frozen is looked at, since its times would not tell
// of a change right afterwards.
func TestInodesWithinATick(t *testing.T) {
	m := newImages(t)
	status := func(dir, name string) (st unix.Stat_t) {
		require.NoError(t, unix.Stat(filepath.Join(dir, name), &st))
		return st
	}
	var changed time.Time // the newer of two files
	m.with(t, 0, func(dir string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "old"), []byte("x"), 0o600))
		drivertest.ClockGoesOn(t)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "new"), []byte("x"), 0o600))
		st := status(dir, "new")
		changed = time.Unix(st.Ctim.Unix())
	})
	m.push(t)
	m.frozen[0] = changed.Add(layertar.ClockTick)
	l, err := m.track(t, 0, 1)
	require.NoError(t, err)
	m.with(t, 1, func(dir string) {
		require.True(t, l.Untouched(status(dir, "old").Ino))
		require.False(t, l.Untouched(status(dir, "new").Ino))
	})
}

// TestInodesOfAnOldLayer: of a lower one that stood still for long only the tables that differ are read.
func TestInodesOfAnOldLayer(t *testing.T) {
	m := newImages(t)
	m.with(t, 0, func(dir string) {
		for i := range imageInodes / 2 { // more than a group has
			require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), []byte("x"), 0o600))
		}
	})
	drivertest.ClockGoesOn(t)
	m.push(t)
	var touched uint64
	m.with(t, 1, func(dir string) {
		file := filepath.Join(dir, "0")
		require.NoError(t, os.WriteFile(file, []byte("y"), 0o600))
		var st unix.Stat_t
		require.NoError(t, unix.Stat(file, &st))
		touched = st.Ino
	})
	c := inodeComparison{differ: m.differ(t, 0, 1)}
	raw, err := os.ReadFile(m.files[0])
	require.NoError(t, err)
	lower, err := openExt4(bytes.NewReader(raw))
	require.NoError(t, err)
	groups, err := lower.groups()
	require.NoError(t, err)
	alike := 0
	for _, g := range groups {
		table := span{g.table, g.table + g.used*lower.inodeSize}
		if table.begin < table.end && !c.overlaps(table) {
			alike++
			copy(raw[table.begin:table.end], bytes.Repeat([]byte{0x7f}, int(table.end-table.begin))) // changed in the far future
		}
	}
	require.NotZero(t, alike)
	require.NoError(t, os.WriteFile(m.files[0], raw, 0o600))
	compare := func(since time.Time) map[uint64]bool {
		l, err := compareInodes(t.Context(), m.files[0], m.files[1], c.differ, since, false)
		require.NoError(t, err)
		return l.touched
	}
	old := lower.written.Add(time.Second + layertar.ClockTick) // superblocks have whole seconds
	require.Contains(t, compare(old), touched)
	require.Less(t, len(compare(old)), 20, "what the kernel keeps for itself is among them")
	require.Greater(t, len(compare(old.Add(-1))), 20, "it may have been changed within the tick")
}

// TestInodesRefused: file systems of which inodes cannot tell are refused as such, and what is none as damaged.
func TestInodesRefused(t *testing.T) {
	m := newImages(t)
	m.push(t)
	whole, err := os.ReadFile(m.files[1])
	require.NoError(t, err)
	incompat := whole[ext4SuperAt+ext4Incompat]
	for name, c := range map[string]struct {
		at    int64
		patch []byte
		want  error
	}{
		"to be recovered":      {ext4SuperAt + ext4Incompat, []byte{incompat | ext4Recover}, snapshot.ErrNotSupported},
		"scattered":            {ext4SuperAt + ext4Incompat, []byte{incompat | ext4MetaBG}, snapshot.ErrNotSupported},
		"smaller blocks":       {ext4SuperAt + ext4LogBlock, []byte{0}, snapshot.ErrNotSupported},
		"another":              {ext4SuperAt + ext4UUID, []byte{1, 2, 3}, snapshot.ErrNotSupported},
		"a table moved":        {4096 + ext4Table, []byte{0xee}, snapshot.ErrNotSupported},
		"no ext4":              {ext4SuperAt + ext4Magic, []byte{0}, snapshot.ErrCorrupt},
		"no inodes":            {ext4SuperAt + ext4GroupInodes, []byte{0, 0, 0, 0}, snapshot.ErrCorrupt},
		"inodes of no size":    {ext4SuperAt + ext4InodeSize, []byte{0, 0}, snapshot.ErrCorrupt},
		"blocks of a gigabyte": {ext4SuperAt + ext4LogBlock, []byte{20}, snapshot.ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			raw := bytes.Clone(whole)
			copy(raw[c.at:], c.patch)
			require.NoError(t, os.WriteFile(m.files[1], raw, 0o600))
			_, err := compareInodes(t.Context(), m.files[0], m.files[1], []span{{0, imageSize}}, time.Now(), false)
			require.ErrorIs(t, err, c.want)
		})
	}
}
