package layertar

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// writtenTo is an account of what was touched.
type writtenTo map[uint64]bool

func (w writtenTo) Untouched(inode uint64) bool { return !w[inode] }
func (w writtenTo) Reveal(inode uint64) error   { w[inode] = true; return nil }
func (w writtenTo) Exact() bool                 { return true }

// TestParents: of what was touched the directories above all its names are looked through, and of a directory itself those above
// it.
func TestParents(t *testing.T) {
	root := t.TempDir()
	at := func(name string) string { return filepath.Join(root, name) }
	ino := func(name string) uint64 {
		var st unix.Stat_t
		require.NoError(t, unix.Lstat(at(name), &st))
		return st.Ino
	}
	for _, dir := range []string{"a/b/c", "d/e", "f/g", "h"} {
		require.NoError(t, os.MkdirAll(at(dir), 0o700))
	}
	require.NoError(t, os.WriteFile(at("a/b/c/file"), nil, 0o600))
	require.NoError(t, os.Link(at("a/b/c/file"), at("d/e/link")))
	require.NoError(t, os.Link(at("a/b/c/file"), at("d/e/again")))
	require.NoError(t, os.WriteFile(at("f/other"), nil, 0o600))
	require.NoError(t, os.Symlink("../a", at("h/to a directory")))
	p, err := ReadParents(t.Context(), root)
	require.NoError(t, err)
	require.Equal(t, 12, p.Len(), "eight directories, a symbolic link, a file, and one that has names in two of them")

	all := []string{".", "a", "a/b", "a/b/c", "a/b/c/file", "d", "d/e", "f", "f/g", "f/other", "h", "h/to a directory"}
	looked := func(l Lineage) (names []string) {
		for _, name := range all {
			if !l.Same(ino(name)) {
				names = append(names, name)
			}
		}
		return names
	}
	require.Empty(t, looked(p.Lineage(writtenTo{})))
	require.Equal(t, []string{".", "a", "a/b", "a/b/c", "a/b/c/file", "d", "d/e"}, looked(p.Lineage(writtenTo{ino("d/e/link"): true})))
	require.Equal(t, []string{".", "f", "f/g"}, looked(p.Lineage(writtenTo{ino("f/g"): true})))
	require.Equal(t, []string{"."}, looked(p.Lineage(writtenTo{ino("."): true})))
	const made = 1 << 40
	l := p.Lineage(writtenTo{made: true, ino("h"): true})
	require.Equal(t, []string{".", "h"}, looked(l), "what is new is in a directory that was touched")
	require.False(t, l.Same(made))
	require.True(t, l.Untouched(ino(".")), "it is only above")
	require.NoError(t, l.Reveal(ino("f/other")))
	require.Equal(t, []string{".", "f", "f/other", "h"}, looked(l))

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = ReadParents(ctx, root)
	require.ErrorIs(t, err, context.Canceled)
	_, err = ReadParents(t.Context(), at("f/other"))
	require.ErrorIs(t, err, unix.ENOTDIR)
}
