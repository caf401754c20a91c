package treetest

import (
	"testing"
	"time"
)

// Entry is all that is compared of one file.
type Entry struct {
	Type   string // "file", "dir", "symlink", "char", "block", "fifo", "socket"
	Mode   uint32 // permission bits with setuid, setgid and sticky
	UID    uint32
	GID    uint32
	Size   int64 // of files
	MTime  time.Time
	Target string            // of symbolic links
	Rdev   string            // "major:minor" of devices
	Xattrs map[string]string // without security.selinux
	Links  string            // all names of the inode, joined by a space, if there are several
	SHA256 string            // of files
}

// Capture reads the tree beneath dir. Keys are paths relative to it, "." is dir itself.
func Capture(dir string) (map[string]Entry, error) { return capture(dir) }

// Equal fails the test with the first differences if the trees beneath want and got
// differ.
func Equal(t testing.TB, want, got string) {
	t.Helper()
	if d := Difference(want, got); d != "" {
		t.Fatalf("trees differ (- %s, + %s):\n%s", want, got, d)
	}
}
