package layertar_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot/layertar"
)

// TestDiff says for each kind of change what the layer and the list hold.
func TestDiff(t *testing.T) {
	requireRoot(t)
	lower := []entry{
		dir("./", 0o755), dir("d", 0o755), file("d/one", "1"), file("d/two", "2"), dir("d/sub", 0o755), file("d/sub/deep", "3"),
		file("f", "lower"), symlink("s", "d"), dir("l", 0o755), file("l/a", "shared"), hardlink("l/b", "l/a"), dir("e", 0o755),
		dir("lost+found", 0o700),
	}
	tests := []struct {
		name   string
		change func(in func(string) string) error
		layer  string // entries: name, for links with "=target"
		list   string
	}{
		{"nothing", func(func(string) string) error { return nil }, "", ""},
		{"content", func(in func(string) string) error { return os.WriteFile(in("f"), []byte("other"), 0) }, "f", "C /f"},
		{"content, same size and time", func(in func(string) string) error {
			return errors.Join(os.WriteFile(in("f"), []byte("LOWER"), 0), os.Chtimes(in("f"), epoch, epoch))
		}, "f", "C /f"},
		{"rewritten, but the same", func(in func(string) string) error {
			return errors.Join(os.WriteFile(in("f"), []byte("lower"), 0), os.Chtimes(in("f"), epoch, epoch))
		}, "", ""},
		{"time only", func(in func(string) string) error { return os.Chtimes(in("f"), epoch, epoch.Add(1)) }, "f", "C /f"},
		{"attribute only", func(in func(string) string) error { return unix.Setxattr(in("d"), "user.x", []byte("1"), 0) }, "d/", "C /d"},
		{"mode of a directory", func(in func(string) string) error { return os.Chmod(in("d/sub"), 0o700) }, "d/ d/sub/", "C /d, C /d/sub"},
		{"new file", func(in func(string) string) error { return os.WriteFile(in("e/x"), nil, 0o600) }, "e/ e/x", "C /e, A /e/x"},
		{"new directory", func(in func(string) string) error { return os.MkdirAll(in("e/x/y"), 0o755) }, "e/ e/x/ e/x/y/", "C /e, A /e/x, A /e/x/y"},
		{"deleted file", func(in func(string) string) error { return os.Remove(in("d/one")) }, "d/ d/.wh.one", "C /d, D /d/one"},
		{"deleted directory", func(in func(string) string) error { return os.RemoveAll(in("d")) }, "./ .wh.d", "D /d"},
		{"emptied directory", func(in func(string) string) error {
			return errors.Join(os.RemoveAll(in("d")), os.Mkdir(in("d"), 0o755), os.WriteFile(in("d/new"), nil, 0o600))
		}, "./ d/ d/.wh..wh..opq d/new", "C /d, A /d/new, D /d/one, D /d/sub, D /d/two"},
		{"directory becomes a file", func(in func(string) string) error {
			return errors.Join(os.RemoveAll(in("d")), os.WriteFile(in("d"), nil, 0o600))
		}, "./ d", "C /d"},
		{"file becomes a directory", func(in func(string) string) error {
			return errors.Join(os.Remove(in("f")), os.Mkdir(in("f"), 0o755), os.WriteFile(in("f/x"), nil, 0o600))
		}, "./ f/ f/x", "C /f, A /f/x"},
		{"renamed", func(in func(string) string) error { return os.Rename(in("f"), in("g")) }, "./ .wh.f g", "D /f, A /g"},
		{"linked file changed", func(in func(string) string) error { return os.WriteFile(in("l/b"), []byte("changed"), 0) }, "l/ l/a l/b=l/a", "C /l, C /l/a, C /l/b"},
		{"link added elsewhere", func(in func(string) string) error { return os.Link(in("l/b"), in("e/c")) }, "e/ e/c l/ l/a=e/c l/b=e/c", "C /e, A /e/c"},
		{"link removed", func(in func(string) string) error { return os.Remove(in("l/a")) }, "l/ l/.wh.a", "C /l, D /l/a"},
		{"link broken", func(in func(string) string) error {
			return errors.Join(os.Remove(in("l/b")), os.WriteFile(in("l/b"), []byte("shared"), 0o644), os.Chmod(in("l/b"), 0o644), os.Chtimes(in("l/b"), epoch, epoch))
		}, "l/ l/b", "C /l, C /l/b"},
		{"socket", func(in func(string) string) error { return unix.Mknod(in("sock"), unix.S_IFSOCK|0o600, 0) }, "./", "A /sock"},
		{"socket in place of a file", func(in func(string) string) error {
			return errors.Join(os.Remove(in("f")), unix.Mknod(in("f"), unix.S_IFSOCK|0o600, 0))
		}, "./ .wh.f", "C /f"},
		{"lost+found is gone", func(in func(string) string) error { return os.Remove(in("lost+found")) }, "./", ""},
		{"lost+found is used", func(in func(string) string) error { return os.WriteFile(in("lost+found/x"), nil, 0o600) }, "lost+found/ lost+found/x", "C /lost+found, A /lost+found/x"},
		{"order", func(in func(string) string) error {
			return errors.Join(os.Remove(in("d/two")), os.WriteFile(in("d/aaa"), nil, 0o600), os.WriteFile(in("d-x"), nil, 0o600), os.Remove(in("s")))
		}, "./ .wh.s d/ d/.wh.two d/aaa d-x", "C /d, A /d-x, A /d/aaa, D /d/two, D /s"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			base := t.TempDir()
			lowerDir, upperDir := filepath.Join(base, "lower"), filepath.Join(base, "upper")
			require.NoError(t, os.Mkdir(lowerDir, 0o755))
			mustApply(t, lowerDir, tarOf(t, lower...))
			run(t, "cp", "-a", lowerDir, upperDir)
			require.NoError(t, tt.change(func(name string) string { return filepath.Join(upperDir, name) }))
			var out bytes.Buffer
			diffed, err := layertar.Diff(context.Background(), lowerDir, upperDir, &out, layertar.DiffOptions{})
			require.NoError(t, err)
			require.Equal(t, diffed.TarBytes, int64(out.Len()))
			require.Equal(t, tt.layer, listTar(t, &out))
			changes, err := layertar.Changes(context.Background(), lowerDir, upperDir, layertar.CompareOptions{})
			require.NoError(t, err)
			var list []string
			for _, c := range changes {
				list = append(list, fmt.Sprintf("%s %s", c.Kind, c.Path))
			}
			require.Equal(t, tt.list, strings.Join(list, ", "))
		})
	}
}

func listTar(t *testing.T, r io.Reader) string {
	t.Helper()
	var names []string
	for tr := tar.NewReader(r); ; {
		hdr, err := tr.Next()
		if err == io.EOF {
			return strings.Join(names, " ")
		}
		require.NoError(t, err)
		require.Empty(t, hdr.Uname+hdr.Gname)
		name := hdr.Name
		if hdr.Typeflag == tar.TypeLink {
			name += "=" + hdr.Linkname
		}
		names = append(names, name)
	}
}

// TestDiffNoticesWriters: a file that changes while it is read is an error.
func TestDiffNoticesWriters(t *testing.T) {
	root := t.TempDir()
	big := filepath.Join(root, "big")
	require.NoError(t, os.WriteFile(big, make([]byte, 8<<20), 0o600))
	for name, change := range map[string]func() error{
		"rewritten": func() error { return os.WriteFile(big, make([]byte, 8<<20), 0o600) },
		"shorter":   func() error { return os.Truncate(big, 5<<20) },
	} {
		w := &hookWriter{at: 1 << 20, hook: change}
		_, err := layertar.Diff(context.Background(), "", root, w, layertar.DiffOptions{})
		require.ErrorIs(t, err, layertar.ErrChanged, name)
	}
}

func TestDiffWriterError(t *testing.T) {
	root := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(root, "big"), make([]byte, 8<<20), 0o600))
	broken := errors.New("nobody listens")
	w := &hookWriter{at: 1 << 20, hook: func() error { return broken }}
	_, err := layertar.Diff(context.Background(), "", root, w, layertar.DiffOptions{})
	require.ErrorIs(t, err, broken)
}

// hookWriter calls hook once after at bytes.
type hookWriter struct {
	at, off int
	hook    func() error
}

func (w *hookWriter) Write(p []byte) (int, error) {
	w.off += len(p)
	if w.off >= w.at && w.hook != nil {
		hook := w.hook
		w.hook = nil
		if err := hook(); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// TestDiffLatest: times after it are written as it, earlier ones as they are.
func TestDiffLatest(t *testing.T) {
	requireRoot(t)
	dir := t.TempDir()
	latest := epoch.Add(time.Hour)
	for name, at := range map[string]time.Time{"before": epoch, "after": latest.Add(1)} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
		require.NoError(t, os.Chtimes(filepath.Join(dir, name), at, at))
	}
	var out bytes.Buffer
	_, err := layertar.Diff(t.Context(), "", dir, &out, layertar.DiffOptions{Latest: latest})
	require.NoError(t, err)
	got := map[string]time.Time{}
	for r := tar.NewReader(&out); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		got[h.Name] = h.ModTime
	}
	require.True(t, got["before"].Equal(epoch), got["before"])
	require.True(t, got["after"].Equal(latest), got["after"])
	require.True(t, got["./"].Equal(latest), "directories too")
}
