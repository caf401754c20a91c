package mount

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// Entry is a line of /proc/self/mountinfo, see proc_pid_mountinfo(5).
type Entry struct {
	// Major and Minor are the device of the files in the mount.
	Major, Minor uint32
	// Root is the directory of the file system that the mount shows.
	Root string
	// Target is the mount point in this process's mount namespace.
	Target string
	// Options are the mount's own, SuperOptions the file system's.
	Options, SuperOptions string
	Type, Source          string
}

// Table reads the mounts of this process's namespace, in the order of mounting.
func Table() ([]Entry, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return Parse(f)
}

// Below lists the mounts at dir and beneath it, innermost last mounted last.
func Below(dir string) ([]Entry, error) {
	all, err := Table()
	if err != nil {
		return nil, err
	}
	var under []Entry
	for _, e := range all {
		if e.Target == dir || strings.HasPrefix(e.Target, strings.TrimSuffix(dir, "/")+"/") {
			under = append(under, e)
		}
	}
	return under, nil
}

// Parse reads mountinfo lines.
func Parse(r io.Reader) ([]Entry, error) {
	var entries []Entry
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		e, err := parseLine(s.Text())
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, s.Err()
}

// parseLine reads "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw".
func parseLine(line string) (Entry, error) {
	head, tail, ok := strings.Cut(line, " - ")
	h, t := strings.Fields(head), strings.Fields(tail)
	if !ok || len(h) < 6 || len(t) < 2 {
		return Entry{}, fmt.Errorf("mountinfo line %q: too few fields", line)
	}
	major, minor, ok := strings.Cut(h[2], ":")
	if !ok {
		return Entry{}, fmt.Errorf("mountinfo line %q: device %q", line, h[2])
	}
	ma, err := strconv.ParseUint(major, 10, 32)
	if err != nil {
		return Entry{}, fmt.Errorf("mountinfo line %q: %w", line, err)
	}
	mi, err := strconv.ParseUint(minor, 10, 32)
	if err != nil {
		return Entry{}, fmt.Errorf("mountinfo line %q: %w", line, err)
	}
	e := Entry{
		Major: uint32(ma), Minor: uint32(mi), Root: unescape(h[3]), Target: unescape(h[4]),
		Options: h[5], Type: t[0], Source: unescape(t[1]),
	}
	if len(t) > 2 {
		e.SuperOptions = t[2]
	}
	return e, nil
}

// unescape undoes the kernel's \ooo for space, tab, newline and backslash.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
