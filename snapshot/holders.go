package snapshot

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// holders names processes that keep a mount busy: with a working directory, a
// root or an open file on it. It is for error messages, and best effort.
func holders(dir string) string {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return "held by a process"
	}
	var found []string
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range procs {
		if len(found) == 3 {
			break
		}
		if how := holds(p, dir, st.Dev); how != "" {
			comm, _ := os.ReadFile(filepath.Join(p, "comm"))
			found = append(found, fmt.Sprintf("pid %s (%s, %s)", filepath.Base(p), strings.TrimSpace(string(comm)), how))
		}
	}
	if len(found) == 0 {
		return "held by a mount in another namespace, or by the kernel"
	}
	return "held by " + strings.Join(found, ", ")
}

func holds(proc, dir string, dev uint64) string {
	on := func(link string) bool {
		var st unix.Stat_t
		target, err := os.Readlink(link)
		if err != nil || unix.Stat(link, &st) != nil {
			return false
		}
		return st.Dev == dev && (target == dir || strings.HasPrefix(target, dir+"/"))
	}
	switch {
	case on(filepath.Join(proc, "cwd")):
		return "working directory"
	case on(filepath.Join(proc, "root")):
		return "root directory"
	}
	fds, _ := filepath.Glob(filepath.Join(proc, "fd", "*"))
	for _, fd := range fds {
		if on(fd) {
			return "open file"
		}
	}
	return ""
}
