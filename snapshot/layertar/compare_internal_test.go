package layertar

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestUntouched: only the same inode with the same change time is taken for the same unseen,
// and not if it changed as late as the snapshot was made.
func TestUntouched(t *testing.T) {
	changed := time.Unix(1000, 5)
	base := unix.Stat_t{Ino: 7, Mode: unix.S_IFREG | 0o644, Size: 9, Ctim: unix.Timespec{Sec: 1000, Nsec: 5}, Mtim: unix.Timespec{Sec: 900}}
	trust := CompareOptions{Snapshots: true}
	for _, tt := range []struct {
		name  string
		opts  CompareOptions
		upper func(*unix.Stat_t)
		want  bool
	}{
		{"same", trust, func(*unix.Stat_t) {}, true},
		{"other device", trust, func(st *unix.Stat_t) { st.Dev = 3 }, true},
		{"unrelated trees", CompareOptions{}, func(*unix.Stat_t) {}, false},
		{"other inode", trust, func(st *unix.Stat_t) { st.Ino++ }, false},
		{"changed", trust, func(st *unix.Stat_t) { st.Ctim.Nsec++ }, false},
		{"other size", trust, func(st *unix.Stat_t) { st.Size++ }, false},
		{"long before the snapshot", CompareOptions{Snapshots: true, Since: changed.Add(time.Second)}, func(*unix.Stat_t) {}, true},
		{"in the snapshot's tick", CompareOptions{Snapshots: true, Since: changed.Add(10 * time.Millisecond)}, func(*unix.Stat_t) {}, false},
		{"after the snapshot", CompareOptions{Snapshots: true, Since: changed.Add(-time.Hour)}, func(*unix.Stat_t) {}, false},
	} {
		c := &comparer{opts: tt.opts}
		p := pair{lower: half{st: base}, upper: half{st: base}}
		tt.upper(&p.upper.st)
		require.Equal(t, tt.want, c.untouched(p), tt.name)
	}
}

// TestNameSinceThen: in a container that is compared while it runs, a directory gets a name after it was said to be what it was.
func TestNameSinceThen(t *testing.T) {
	lower, upper := t.TempDir(), t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(upper, "new"), nil, 0o600))
	dir := pair{path: ".", alike: true}
	var err error
	dir.lower, err = openHalf(unix.AT_FDCWD, lower, 0)
	require.NoError(t, err)
	defer unix.Close(dir.lower.fd)
	dir.upper, err = openHalf(unix.AT_FDCWD, upper, 0)
	require.NoError(t, err)
	defer unix.Close(dir.upper.fd)
	c := &comparer{ctx: t.Context(), links: links{}}
	require.NoError(t, c.walk(dir))
	require.Len(t, c.records, 1)
	require.Equal(t, "new", c.records[0].path)
	require.Equal(t, Add, c.records[0].kind)
}

// TestRecordOrder: directories before what is in them, whiteouts first, names by bytes.
func TestRecordOrder(t *testing.T) {
	want := []record{
		{path: "."},
		{path: "z", out: outWhiteout},
		{path: "a"},
		{path: "a/.wh..wh..opq", out: outOpaque},
		{path: "a/y", out: outWhiteout},
		{path: "a/b"},
		{path: "a/b/c"},
		{path: "a-b"},
		{path: "b"},
	}
	for i := range want {
		if want[i].out == outNothing {
			want[i].out = outEntry
		}
	}
	got := slices.Clone(want)
	slices.SortFunc(got, func(a, b record) int { return strings.Compare(b.path, a.path) })
	slices.SortStableFunc(got, compareRecords)
	require.Equal(t, want, got)
}
