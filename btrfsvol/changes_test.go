package btrfsvol

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func inodeOf(t *testing.T, path string) uint64 {
	t.Helper()
	var stat unix.Stat_t
	require.NoError(t, unix.Lstat(path, &stat))
	return stat.Ino
}

func TestChangesSince(t *testing.T) {
	fs := newFS(t)
	create(t, fs, "layer")
	layer := filepath.Join(fs.Dir(), "layer")
	require.NoError(t, os.MkdirAll(filepath.Join(layer, "dir"), 0o755))
	for i := range 2000 {
		require.NoError(t, os.WriteFile(filepath.Join(layer, "dir", fmt.Sprint(i)), []byte("x"), 0o600))
	}
	for _, name := range []string{"data", "mode", "xattr", "gone", "linked", "same"} {
		fill(t, fs, "layer/"+name, 10_000)
	}
	require.NoError(t, os.Mkdir(filepath.Join(layer, "moved"), 0o755))
	child := snapshot(t, fs, "layer", "child")

	box := filepath.Join(fs.Dir(), "child")
	root, gone := inodeOf(t, box), inodeOf(t, filepath.Join(box, "gone"))
	fill(t, fs, "child/data", 10_000)
	require.NoError(t, os.Chmod(filepath.Join(box, "mode"), 0o640))
	require.NoError(t, unix.Lsetxattr(filepath.Join(box, "xattr"), "user.k", []byte("v"), 0))
	require.NoError(t, os.Remove(filepath.Join(box, "gone")))
	require.NoError(t, os.Link(filepath.Join(box, "linked"), filepath.Join(box, "dir", "link")))
	require.NoError(t, os.Rename(filepath.Join(box, "moved"), filepath.Join(box, "dir", "moved")))
	fill(t, fs, "child/new", 10)
	require.NoError(t, fs.Sync())

	found := map[uint64]ChangeKind{}
	require.NoError(t, fs.ChangesSince(child.ID, child.Created, func(c Change) error {
		found[c.Inode] = c.Kinds
		return nil
	}))
	require.Equal(t, map[uint64]ChangeKind{
		root:                                        ChangedInode | ChangedEntries,
		inodeOf(t, filepath.Join(box, "dir")):       ChangedInode | ChangedEntries,
		inodeOf(t, filepath.Join(box, "data")):      ChangedInode | ChangedData,
		inodeOf(t, filepath.Join(box, "mode")):      ChangedInode,
		inodeOf(t, filepath.Join(box, "xattr")):     ChangedInode | ChangedXattrs,
		inodeOf(t, filepath.Join(box, "linked")):    ChangedInode,
		inodeOf(t, filepath.Join(box, "dir/moved")): ChangedInode,
		inodeOf(t, filepath.Join(box, "new")):       ChangedNew | ChangedInode | ChangedData,
	}, found)
	require.NotContains(t, found, gone)

	names, err := fs.PathsOf(child.ID, inodeOf(t, filepath.Join(box, "linked")))
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"linked", "dir/link"}, names)
	_, err = fs.PathsOf(child.ID, gone)
	require.ErrorIs(t, err, ErrNotFound)
}

func TestPathsOfManyNames(t *testing.T) {
	fs := newFS(t)
	create(t, fs, "s")
	first := filepath.Join(fs.Dir(), "s", "0")
	require.NoError(t, os.WriteFile(first, nil, 0o600))
	for i := range 1000 {
		require.NoError(t, os.Link(first, filepath.Join(fs.Dir(), "s", fmt.Sprintf("a long name for a link %d", i))))
	}
	names, err := fs.PathsOf(idOf(t, fs, "s"), inodeOf(t, first))
	require.NoError(t, err)
	require.Len(t, names, 1001)
}
