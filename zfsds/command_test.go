package zfsds

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseGet(t *testing.T) {
	out := "type\t-\tfilesystem\nguid\t-\t12\ncreatetxg\t-\t9\norigin\t-\tp/a@s\nclones\t-\t-\nused\t-\t4096\nrefquota\tlocal\tnone\n" +
		"a:b\tinherited from p\ttwo\ttabs\na:c\tlocal\ttwo\nlines\nkeystatus\t-\tunavailable\n"
	d, err := parseDetails("p/b", out)
	require.NoError(t, err)
	require.Equal(t, Dataset{Name: "p/b", Type: Filesystem, GUID: 12, Created: 9, Origin: "p/a@s"}, d.Dataset)
	require.Equal(t, Bytes(4096), d.Used)
	require.Equal(t, map[string]UserProperty{"a:b": {"two\ttabs", "p"}, "a:c": {"two\nlines", "p/b"}}, d.User)
	require.True(t, d.Encrypted)
	require.False(t, d.KeyLoaded)
	for _, bad := range []string{"", "one line", "type\t-\tbookmark\n", strings.Replace(out, "4096", "4K", 1), strings.Replace(out, "\t12\n", "\tx\n", 1)} {
		_, err := parseDetails("p/b", bad)
		require.ErrorIs(t, err, ErrCorrupt, "%q", bad)
	}
}

func TestParseList(t *testing.T) {
	found, err := parseList("p", "p\tfilesystem\t1\t1\t-\t-\np/b\tfilesystem\t3\t3\tp@s\t-\np/a\tvolume\t2\t2\t-\t-\n")
	require.NoError(t, err)
	require.Equal(t, []Dataset{
		{Name: "p/a", Type: Volume, GUID: 2, Created: 2},
		{Name: "p/b", Type: Filesystem, GUID: 3, Created: 3, Origin: "p@s"},
	}, found)
	found, err = parseList("p", "p@b\tsnapshot\t3\t4\t-\tp/x,p/y\np@a\tsnapshot\t3\t5\t-\t-\n")
	require.NoError(t, err)
	require.Equal(t, 2, found[0].Clones)
	require.Equal(t, "p@b", found[0].Name)
	for _, bad := range []string{"p\n", "p\tfilesystem\t1\t1\t-\n", "p/a\tfilesystem\t-1\t1\t-\t-\n"} {
		_, err := parseList("p", bad)
		require.ErrorIs(t, err, ErrCorrupt, "%q", bad)
	}
}

func TestParsePool(t *testing.T) {
	p, err := parsePool("p\tONLINE\t1000\t400\t600\t0\t3\n")
	require.NoError(t, err)
	require.Equal(t, Pool{Name: "p", Health: "ONLINE", Size: 1000, Allocated: 400, Free: 600, Fragmentation: 3}, p)
	_, err = parsePool("p\tFAULTED\t-\t-\t-\t-\t-\n")
	require.NoError(t, err)
	for _, bad := range []string{"", "p\tONLINE\n", "p\tONLINE\t1G\t0\t0\t0\t0\n"} {
		_, err := parsePool(bad)
		require.ErrorIs(t, err, ErrCorrupt, "%q", bad)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("type\t-\tfilesystem\nguid\t-\t12\n")
	f.Add("p\tfilesystem\t1\t1\t-\t-\np/b\tfilesystem\t3\t3\tp@s\t-\n")
	f.Add("p\tONLINE\t1000\t400\t600\t0\t3\n")
	f.Fuzz(func(t *testing.T, out string) {
		_, details := parseDetails("p", out)
		_, list := parseList("p", out)
		_, pool := parsePool(out)
		for _, err := range []error{details, list, pool} {
			require.True(t, err == nil || errors.Is(err, ErrCorrupt))
		}
	})
}

// fakeCommands puts a zfs into the path that writes down its arguments, one a line, and ends as told.
func fakeCommands(t *testing.T, says string, status int) (h *Handle, asked func() []string) {
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	script := fmt.Sprintf("#!/bin/sh\nprintf '%%s\\n' \"$@\" >>%s\necho \"%s\" >&2\nexit %d\n", log, says, status)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "zfs"), []byte(script), 0o700))
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return &Handle{CLI, "a test's", &commands{}}, func() []string {
		text, err := os.ReadFile(log)
		require.NoError(t, err)
		require.NoError(t, os.Remove(log))
		return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	}
}

func TestCommandLines(t *testing.T) {
	ctx := t.Context()
	h, asked := fakeCommands(t, "", 0)
	require.NoError(t, h.Clone(ctx, "p/a@s", "p/b", Properties{"refquota": "1", "a:b": "x y\t; $z"}))
	require.Equal(t, []string{"clone", "-o", "a:b=x y\t; $z", "-o", "refquota=1", "p/a@s", "p/b"}, asked())
	require.NoError(t, h.Snapshot(ctx, Properties{"a:b": "c"}, "p/a@s", "p/b@t"))
	require.Equal(t, []string{"snapshot", "-o", "a:b=c", "p/a@s", "p/b@t"}, asked())
	require.NoError(t, h.DestroySnapshots(ctx, true, "p/b@t", "p/a@s", "p/b@u"))
	require.Equal(t, []string{"destroy", "-d", "p/a@s", "destroy", "-d", "p/b@t,u"}, asked())
	require.NoError(t, h.Rename(ctx, "p/a", "p/b"))
	require.Equal(t, []string{"rename", "-u", "p/a", "p/b"}, asked())
	require.ErrorIs(t, h.Promote(ctx, "-r"), ErrInvalid, "no name is an option")
	var out bytes.Buffer
	require.NoError(t, h.Send(ctx, &out, SendOptions{Snapshot: "p/a@t", From: "p/a@s"}))
	require.Equal(t, []string{"send", "-L", "-e", "-c", "-i", "p/a@s", "p/a@t"}, asked())
}

// TestComplaints are what zfs(8) of 2.3.9 said.
func TestComplaints(t *testing.T) {
	for says, want := range map[string]error{
		"cannot destroy snapshot p/holds@s: it's being held. Run 'zfs holds -r p/holds@s' to see holders.":        ErrBusy,
		"cannot receive new filesystem stream: destination 'p/got' exists\nmust specify -F to overwrite it":       ErrExists,
		"cannot open 'p/x': dataset does not exist":                                                               ErrNotFound,
		"cannot create 'p/x': dataset already exists":                                                             ErrExists,
		"cannot destroy 'p/x': filesystem has children\nuse '-r' to destroy the following datasets:\np/x@s":       ErrDependents,
		"cannot destroy 'p/x@s': snapshot has dependent clones\nuse '-R' to destroy the following datasets:\np/c": ErrDependents,
		"cannot export 'p': pool is busy":                                                                         ErrBusy,
		"cannot create 'p/x': out of space":                                                                       ErrNoSpace,
		"something that nobody has heard of":                                                                      nil,
	} {
		h, _ := fakeCommands(t, says, 1)
		err := h.Promote(t.Context(), "p/x")
		require.Error(t, err)
		for _, sentinel := range []error{ErrNotFound, ErrExists, ErrBusy, ErrDependents, ErrNoSpace, ErrReadOnly, ErrNoKey, ErrNotSupported, ErrInvalid} {
			require.Equal(t, sentinel == want, errors.Is(err, sentinel), "%q as %v", says, sentinel)
		}
	}
}
