package e2e

import (
	"archive/tar"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot/layertar/treetest"
)

// record is what was seen while a script ran: under each name lines that have to be
// the same on every daemon.
type record struct {
	names []string
	lines map[string][]string
}

func (r *record) add(name string, lines ...string) {
	if r.lines == nil {
		r.lines = map[string][]string{}
	}
	r.names = append(r.names, name)
	r.lines[name] = lines
}

// difference is what two records have under a name that is not the same, or "".
func (r *record) difference(other *record, name string) string {
	const most = 20
	count := map[string]int{}
	for _, l := range r.lines[name] {
		count[l]++
	}
	for _, l := range other.lines[name] {
		count[l]--
	}
	var out []string
	for _, l := range slices.Sorted(maps.Keys(count)) {
		switch {
		case count[l] > 0:
			out = append(out, "- "+l)
		case count[l] < 0:
			out = append(out, "+ "+l)
		}
	}
	if len(out) > most {
		out = append(out[:most], fmt.Sprintf("... and %d lines more", len(out)-most))
	}
	return strings.Join(out, "\n")
}

// mustEqual fails the test with all differences.
func (r *record) mustEqual(t *testing.T, other *record, is, other2 string) {
	t.Helper()
	require.Equal(t, r.names, other.names)
	for _, name := range r.names {
		if d := r.difference(other, name); d != "" {
			t.Errorf("%s differs (- %s, + %s):\n%s", name, is, other2, d)
		}
	}
}

// tree is a directory tree by path relative to its root, which is ".".
type tree map[string]treetest.Entry

// lines of a tree. Two times differ between two runs and are left out: one after
// begun is the moment at which Docker or a command made the file; and the times of the
// image's own directories, since overlay2 makes those that a layer's tar does not name
// anew in each layer, with the moment of unpacking.
func (tr tree) lines(begun time.Time) []string {
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(tr)) {
		e := tr[name]
		if !e.MTime.Before(begun) || e.Type == "dir" && !scripts(name) {
			e.MTime = time.Time{}
		}
		lines = append(lines, fmt.Sprintf("%q %s", name, e))
	}
	return lines
}

// scripts says whether a path is one that a script makes.
func scripts(name string) bool {
	first, _, _ := strings.Cut(name, "/")
	return slices.Contains([]string{"files", "srv", "out", "two"}, first)
}

// contents are a layer's entries without directories and whiteouts. overlay2 tells too
// many directories, those in which something was mounted, and of a directory that was
// made anew that it is opaque, where others list what is gone from it. What both mean is
// compared in containers of the image.
func (tr tree) contents() tree {
	found := tree{}
	for name, e := range tr {
		if e.Type != "dir" && e.Type != "whiteout" {
			found[name] = e
		}
	}
	return found
}

// size is what the files of a tar have together; of linked ones, one.
func (tr tree) size() int64 {
	var n int64
	for name, e := range tr {
		if first, _, _ := strings.Cut(e.Links, " "); e.Links == "" || first == name {
			n += e.Size
		}
	}
	return n
}

// inSeconds is the tree as it is after a journey in a tar of Docker's: times in whole
// seconds, and of the extended attributes only security.capability
// (pkg/archive's FileInfoHeader and ReadSecurityXattrToTarHeader). Sockets stay behind.
func (tr tree) inSeconds() tree {
	found := tree{}
	for name, e := range tr {
		if e.Type == "socket" {
			continue
		}
		e.MTime = e.MTime.Truncate(time.Second)
		var kept map[string]string
		if c, ok := e.Xattrs["security.capability"]; ok {
			kept = map[string]string{"security.capability": c}
		}
		e.Xattrs = kept
		found[name] = e
	}
	return found
}

// treeOf is what a running container has in these directories of its root, or in
// all but those that are mounted there (proc, sys and dev).
func (d *dockerd) treeOf(container string, dirs ...string) tree {
	d.t.Helper()
	return treeBelow(d.t, fmt.Sprintf("/proc/%d/root", d.pid(container)), []string{"proc", "sys", "dev"}, dirs...)
}

// treeBelow is what a root has in these directories, or in all but some.
func treeBelow(t *testing.T, root string, except []string, dirs ...string) tree {
	t.Helper()
	if len(dirs) == 0 {
		entries, err := os.ReadDir(root)
		require.NoError(t, err)
		for _, e := range entries {
			if !slices.Contains(except, e.Name()) {
				dirs = append(dirs, e.Name())
			}
		}
	}
	all := tree{}
	for _, dir := range dirs {
		part, err := treetest.Capture(filepath.Join(root, dir))
		require.NoError(t, err)
		for name, e := range part {
			if e.Links != "" { // names are relative to the directory
				e.Links = dir + "/: " + e.Links
			}
			all[path.Join(dir, name)] = e
		}
	}
	return all
}

// treeOfTar reads a tar as the tree that it describes. Directories' names lose their
// slash; what a layer deletes stands under its whiteout's name.
func treeOfTar(r io.Reader) (tree, error) {
	found := tree{}
	links := map[string][]string{} // by the first name
	in := tar.NewReader(r)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		name := path.Clean(h.Name)
		if h.Typeflag == tar.TypeLink {
			first := path.Clean(h.Linkname)
			links[first] = append(links[first], name)
			found[name] = found[first]
			continue
		}
		e, err := entryOf(h, in)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		// Of a whiteout the name counts. Drivers give it all kinds of attributes.
		if strings.HasPrefix(path.Base(name), ".wh.") {
			e = treetest.Entry{Type: "whiteout"}
		}
		found[name] = e
	}
	for first, names := range links {
		all := append([]string{first}, names...)
		slices.Sort(all)
		for _, name := range all {
			e := found[name]
			e.Links = strings.Join(all, " ")
			found[name] = e
		}
	}
	return found, nil
}

func entryOf(h *tar.Header, content io.Reader) (treetest.Entry, error) {
	e := treetest.Entry{
		Mode: uint32(h.Mode & 0o7777), UID: uint32(h.Uid), GID: uint32(h.Gid), MTime: h.ModTime.UTC(),
		Target: h.Linkname,
	}
	types := map[byte]string{
		tar.TypeReg: "file", tar.TypeDir: "dir", tar.TypeSymlink: "symlink",
		tar.TypeChar: "char", tar.TypeBlock: "block", tar.TypeFifo: "fifo",
	}
	e.Type = types[h.Typeflag]
	for key, value := range h.PAXRecords {
		if attr, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
			if e.Xattrs == nil {
				e.Xattrs = map[string]string{}
			}
			e.Xattrs[attr] = value
		}
	}
	switch e.Type {
	case "":
		return e, fmt.Errorf("an entry of type %q", h.Typeflag)
	case "char", "block":
		e.Rdev = fmt.Sprintf("%d:%d", h.Devmajor, h.Devminor)
	case "file":
		e.Size = h.Size
		sum := sha256.New()
		if _, err := io.Copy(sum, content); err != nil {
			return e, err
		}
		e.SHA256 = fmt.Sprintf("%x", sum.Sum(nil))
	}
	return e, nil
}

func lines(text string) []string { return strings.Split(text, "\n") }

func sorted(list []string) []string { slices.Sort(list); return list }
