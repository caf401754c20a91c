package mount

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// xattrLabel is where SELinux keeps a file's context, see xattr(7).
const xattrLabel = "security.selinux"

// relabel gives every file in a tree a context. The root comes last: a tree whose
// root has it is done, and one that was interrupted is not.
func relabel(dir, label string) error {
	if labelled(dir, label) {
		return nil
	}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || path == dir || labelled(path, label) {
			return err
		}
		return setLabel(path, label)
	})
	if err == nil {
		err = setLabel(dir, label)
	}
	if err != nil {
		return fmt.Errorf("giving the files below %s the label %q: %w", dir, label, err)
	}
	return nil
}

func labelled(path, label string) bool {
	have := make([]byte, len(label)+2)
	n, err := unix.Lgetxattr(path, xattrLabel, have)
	return err == nil && trimNUL(have[:n]) == label
}

// trimNUL takes off the NUL that some tools count in.
func trimNUL(b []byte) string {
	if n := len(b); n > 0 && b[n-1] == 0 {
		b = b[:n-1]
	}
	return string(b)
}

func setLabel(path, label string) error {
	for {
		err := unix.Lsetxattr(path, xattrLabel, []byte(label), 0)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
