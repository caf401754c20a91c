package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot"
)

// caller is the process that a server runs a verb for.
type caller struct {
	pid int
	// dir is its working directory, "" if that is gone.
	dir string
	// here says that its files have the names that they have for the server: it has
	// the same mount namespace and root directory.
	here bool
}

// newCaller looks at the process pid, which waits for us and so cannot be another
// one meanwhile.
func newCaller(pid int, dir string) caller {
	c := caller{pid: pid, dir: dir}
	theirs, err := os.Readlink(c.proc("ns/mnt"))
	ours, err2 := os.Readlink("/proc/self/ns/mnt")
	root, err3 := os.Stat(c.proc("root") + "/")
	ourRoot, err4 := os.Stat("/")
	c.here = errors.Join(err, err2, err3, err4) == nil && theirs == ours && os.SameFile(root, ourRoot)
	return c
}

func (c caller) proc(name string) string {
	return "/proc/" + strconv.Itoa(c.pid) + "/" + name
}

// file is the name for us of a file that the caller names.
func (c caller) file(name string) (string, error) {
	if !c.here {
		return "", mendf(
			fmt.Errorf("the server of this store has another root directory or mount namespace and cannot see the file %q: %w", name, snapshot.ErrNotSupported),
			"name it as - and redirect stdin or stdout")
	}
	if !filepath.IsAbs(name) {
		if c.dir == "" {
			return "", fmt.Errorf("%s: the working directory is gone: %w", name, os.ErrNotExist)
		}
		return filepath.Join(c.dir, name), nil
	}
	// Names that mean something else to each process: /dev/stdin, and the /dev/fd/63
	// that a shell makes of <(...).
	clean := filepath.Clean(name)
	for i, n := range []string{"/dev/stdin", "/dev/stdout", "/dev/stderr"} {
		if clean == n {
			return c.proc("fd/" + strconv.Itoa(i)), nil
		}
	}
	for prefix, place := range map[string]string{"/dev/fd/": "fd/", "/proc/self/": "", "/proc/thread-self/": ""} {
		if rest, ok := strings.CutPrefix(clean, prefix); ok {
			return c.proc(place + rest), nil
		}
	}
	return name, nil
}

// file is the name under which a file that the command line names is opened.
// Every verb asks here: in a server, names are the caller's.
func (a *app) file(name string) (string, error) {
	if a.lent == nil || name == "-" {
		return name, nil
	}
	return a.lent.caller.file(name)
}

// ownStream makes a caller's descriptor a file that this process can let go of at
// any time: pipes and terminals are opened once more, without blocking, since the
// mode of the descriptor itself is the caller's too. Files keep the descriptor,
// whose offset is shared; sockets keep theirs, and a read or write on them ends
// with their other end.
func ownStream(fd int, name string) *os.File {
	var st unix.Stat_t
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil || unix.Fstat(fd, &st) != nil {
		return os.NewFile(uintptr(fd), name)
	}
	_, noTerminal := unix.IoctlGetTermios(fd, unix.TCGETS)
	if st.Mode&unix.S_IFMT == unix.S_IFIFO || noTerminal == nil {
		again := "/proc/self/fd/" + strconv.Itoa(fd)
		f, err := os.OpenFile(again, flags&unix.O_ACCMODE|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
		if err == nil {
			_ = unix.Close(fd)
			return f
		}
	}
	return os.NewFile(uintptr(fd), name)
}
