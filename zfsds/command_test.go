package zfsds

import (
	"errors"
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
